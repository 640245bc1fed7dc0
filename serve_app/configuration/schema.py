"""What may be configured: the owners' models put together, with defaults and bounds.

Two files' worth of values: the application's `args` (read when it is built) and the Ingress's `user_config` (may change
while streams run).
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from deployments.asr import AsrOptions
from deployments.audio.timing import FitLimits
from deployments.translation import TranslationOptions
from deployments.tts import TtsOptions
from serve_app.access import AccessOptions, AuthOptions, LimitsConfig
from serve_app.protocol import MAX_FRAGMENT_BYTES
from serve_app.stream.values import StreamLimits
from serve_app.transcription import TranscriptionLimits
from serve_app.transport.websocket import SocketLimits

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class IngressConfig(SocketLimits):
    """The Socket.IO server."""

    ping_interval_s: float = Field(default=25.0, gt=0, le=300)
    ping_timeout_s: float = Field(default=10.0, gt=0, le=300)
    max_fragment_bytes: int = Field(default=MAX_FRAGMENT_BYTES, ge=1024, le=MAX_FRAGMENT_BYTES)
    """Largest decoded fragment."""
    stage_timeout_s: float = Field(default=35.0, gt=0, le=120)
    """The longest that a model deployment may take to say what it can do, or to be called ready."""


class DecodingConfig(_Section):
    """Where containers are decoded, in each replica of Asr and Tts."""

    processes: int = Field(default=2, ge=0, le=32)
    """Children that a hostile file may crash, and fragments decoded at once; 0: in the replica itself."""


class IngressUserConfig(_Section):
    """The Ingress's `user_config`: applied without a restart."""

    streams: StreamLimits = StreamLimits()
    transcription: TranscriptionLimits = TranscriptionLimits()
    limits: LimitsConfig = LimitsConfig()
    draining: bool = False
    """Take no new stream, finish what is in flight, send workers elsewhere."""


class AppConfig(_Section):
    """The application's `args`."""

    log_level: LogLevel = "INFO"
    voices: str = "configs/voices.json"
    """Path of the voice profiles; relative paths start where the shipped `configs` are."""
    gpus: Literal["required", "awaited"] = "required"
    """Whether a cluster without any GPU is refused when an engine's device is cuda, or an autoscaler will bring one."""
    ingress: IngressConfig = IngressConfig()
    auth: AuthOptions = AuthOptions()
    access: AccessOptions = AccessOptions()
    decoding: DecodingConfig = DecodingConfig()
    fit: FitLimits = FitLimits()
    asr: AsrOptions
    asr_interim: AsrOptions | None = None
    """What hears live speech while it is being said; None: `asr` itself, where that has time."""
    translation: TranslationOptions
    tts: TtsOptions
