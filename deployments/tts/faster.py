"""Which engines can be the faster voice: those that take no time to speak of."""

from typing import Annotated

from pydantic import Field

from deployments.tts.espeak import EspeakOptions
from deployments.tts.fake import FakeVoiceOptions

Faster = Annotated[EspeakOptions | FakeVoiceOptions, Field(discriminator="engine")]
