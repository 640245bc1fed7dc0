"""Speech synthesis: the Tts deployment and its engines, one file each.

`TtsOptions` is the registry: its key `engine` picks the engine and validates that engine's options, and `build()`
gives the engine, unloaded, to the deployment.
"""

from typing import Annotated

from pydantic import Field

from deployments.tts.coqui import CoquiOptions
from deployments.tts.espeak import EspeakOptions
from deployments.tts.fake import EchoOptions, FakeTtsOptions
from deployments.tts.kokoro import KokoroOptions
from deployments.tts.xtts import XttsOptions

TtsOptions = Annotated[
    KokoroOptions | EspeakOptions | XttsOptions | CoquiOptions | FakeTtsOptions | EchoOptions,
    Field(discriminator="engine"),
]
