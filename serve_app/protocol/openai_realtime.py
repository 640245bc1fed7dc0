"""The wire of OpenAI's realtime transcription, as its SDKs speak it, in the form of today and in the beta one. PURE."""

import binascii
import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

import pybase64
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deployments.contracts.values import AudioFormat
from serve_app.protocol.openai import MAX_HINT_CHARACTERS, MAX_HINTS, InvalidRequest, base

LEAST_COMMIT_MS = 100
EAGERNESS_MS: Final = {"low": 1000, "medium": 600, "auto": 600, "high": 300}
"""The pause that ends an utterance, by how eager a semantic detector is to be."""
BETA_FORMATS: Final[dict[str, dict[str, Any]]] = {
    "pcm16": {"type": "audio/pcm", "rate": 24_000},
    "g711_ulaw": {"type": "audio/pcmu"},
    "g711_alaw": {"type": "audio/pcma"},
}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Pcm(_Part):
    """16 bit integers, little endian, mono."""

    type: Literal["audio/pcm"]
    rate: int = Field(default=24_000, ge=8000, le=48_000)

    @property
    def audio_format(self) -> AudioFormat:
        """As the models are told."""
        return AudioFormat("pcm_s16le", self.rate, 1)


class Telephone(_Part):
    """G.711 at 8 kHz, mono."""

    type: Literal["audio/pcmu", "audio/pcma"]

    @property
    def audio_format(self) -> AudioFormat:
        """As the models are told."""
        return AudioFormat("mulaw" if self.type == "audio/pcmu" else "alaw", 8000, 1)


class Transcription(_Part):
    """What is heard, and what to expect."""

    model: str = Field(default="whisper-1", max_length=200)
    language: str | None = None
    prompt: str = ""
    keywords: tuple[str, ...] = Field(default=(), max_length=MAX_HINTS)


class ServerVad(_Part):
    """Pauses of a length end utterances."""

    type: Literal["server_vad"]
    threshold: float = Field(default=0.5, ge=0, le=1)
    prefix_padding_ms: int = Field(default=300, ge=0, le=10_000)
    silence_duration_ms: int = Field(default=500, ge=0, le=10_000)


class SemanticVad(_Part):
    """Utterances end as eagerly as is asked for."""

    type: Literal["semantic_vad"]
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"


class Input(_Part):
    """How a session hears: `session.audio.input`."""

    format: Annotated[Pcm | Telephone, Field(discriminator="type")] = Pcm(type="audio/pcm")
    transcription: Transcription | None = Transcription()
    noise_reduction: dict[str, Any] | None = None
    turn_detection: Annotated[ServerVad | SemanticVad, Field(discriminator="type")] | None = ServerVad(
        type="server_vad"
    )

    @property
    def hints(self) -> tuple[str, ...]:
        """Words to expect."""
        heard = self.transcription or Transcription()
        expected = (*heard.keywords, heard.prompt)
        return tuple(hint.strip()[:MAX_HINT_CHARACTERS] for hint in expected if hint.strip())

    @property
    def base_language(self) -> str | None:
        """Such as en; None: not told."""
        language = self.transcription and self.transcription.language
        return base(language) if language else None

    @property
    def pause_ms(self) -> int | None:
        """What ends an utterance; None: only a commit does."""
        match self.turn_detection:
            case None:
                return None
            case ServerVad(silence_duration_ms=pause_ms):
                return pause_ms
            case SemanticVad(eagerness=eagerness):
                return EAGERNESS_MS[eagerness]

    def updated(self, changes: Mapping[str, Any]) -> Self:
        """The same with what an update changes: what is absent stays, null clears, objects are merged.

        Raises:
            InvalidRequest: saying which field is wrong, what was sent and what is allowed.
        """
        now = self.model_dump(mode="json")
        merged = {**now, **{name: _merged(now.get(name), value) for name, value in changes.items()}}
        try:
            return type(self).model_validate(merged)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            name = ".".join(str(part) for part in ("session", "audio", "input", *first["loc"]))
            raise InvalidRequest(f"{name}={str(first['input'])[:60]!r}: {first['msg']}", name) from None


def _merged(now: object, value: object) -> object:
    if isinstance(now, dict) and isinstance(value, dict) and value.get("type", now.get("type")) == now.get("type"):
        return {**now, **value}
    return value


def changes_of(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a `session.update` changes of `session.audio.input`, or a `transcription_session.update` in its flat form.

    Raises:
        InvalidRequest: it is no update of a transcription session.
    """
    session = event.get("session")
    if not isinstance(session, dict):
        raise InvalidRequest("session is missing: an object", "session")
    if event["type"] == "transcription_session.update":
        flat = {name.removeprefix("input_audio_"): value for name, value in session.items()}
        if "format" in flat:
            if flat["format"] not in BETA_FORMATS:
                raise InvalidRequest(
                    f"session.input_audio_format={str(flat['format'])[:60]!r}; allowed: {', '.join(BETA_FORMATS)}",
                    "session.input_audio_format",
                )
            flat["format"] = BETA_FORMATS[flat["format"]]
        return flat
    kind = session.get("type", "transcription")
    if kind != "transcription":
        raise InvalidRequest(f"session.type={str(kind)[:60]!r}; allowed: transcription", "session.type")
    audio = session.get("audio", {})
    heard = audio.get("input", {}) if isinstance(audio, dict) else None
    if not isinstance(heard, dict):
        raise InvalidRequest("session.audio.input is no object", "session.audio.input")
    return heard


def sound_of(event: Mapping[str, Any]) -> bytes:
    """What an `input_audio_buffer.append` brings.

    Raises:
        InvalidRequest: it is no base64.
    """
    audio = event.get("audio")
    if not isinstance(audio, str):
        raise InvalidRequest("audio is missing: base64", "audio")
    try:
        return pybase64.b64decode(audio, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"audio is no base64: {audio[:20]!r}…", "audio") from None


# --- what is told -----------------------------------------------------------------------------------------------


def new_id(kind: str) -> str:
    """An id that is never used again."""
    return f"{kind}_{secrets.token_hex(12)}"


def told(kind: str, **fields: Any) -> dict[str, Any]:
    """An event."""
    return {"type": kind, "event_id": new_id("event"), **fields}


def session_object(session_id: str, expires_at: int, heard: Input, *, beta: bool) -> dict[str, Any]:
    """A session as clients are told of it."""
    effective = heard.model_dump(mode="json")
    if beta:
        flat = next(name for name, value in BETA_FORMATS.items() if value["type"] == effective["format"]["type"])
        return {
            "id": session_id,
            "object": "realtime.transcription_session",
            "expires_at": expires_at,
            "input_audio_format": flat,
            "input_audio_transcription": effective["transcription"],
            "input_audio_noise_reduction": effective["noise_reduction"],
            "turn_detection": effective["turn_detection"],
        }
    return {
        "type": "transcription",
        "id": session_id,
        "object": "realtime.transcription_session",
        "expires_at": expires_at,
        "audio": {"input": effective},
        "include": [],
    }


def error_event(message: str, kind: str, code: str, param: str | None = None, about: object = None) -> dict[str, Any]:
    """Something is wrong, and the session goes on.

    Args:
        message: what was sent and what is allowed.
        kind: OpenAI's type of the error.
        code: names it.
        param: the field that is wrong.
        about: the client's id of the event that was wrong.
    """
    named = about if isinstance(about, str) else None
    error = {"type": kind, "code": code, "message": message, "param": param, "event_id": named}
    return told("error", error=error)


def item(item_id: str, transcript: str | None) -> dict[str, Any]:
    """An item of the conversation: sound, and what was said in it once that is known."""
    content = [{"type": "input_audio", "transcript": transcript}]
    return {"id": item_id, "object": "realtime.item", "type": "message", "status": "completed", "role": "user",
            "content": content}  # fmt: skip
