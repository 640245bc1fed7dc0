"""Speech recognition: the deployment and its engines. It knows neither translation nor synthesis.

An engine is one file with its options in it and a line in the union below; the key `engine` picks it.
"""

from typing import Annotated

from pydantic import Field

from deployments.asr.deployment import AsrUserConfig
from deployments.asr.fake import FakeAsrOptions
from deployments.asr.faster_whisper import FasterWhisperOptions
from deployments.asr.moonshine import MoonshineOptions

AsrOptions = Annotated[FasterWhisperOptions | MoonshineOptions | FakeAsrOptions, Field(discriminator="engine")]

__all__ = ["AsrOptions", "AsrUserConfig"]
