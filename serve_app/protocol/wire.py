"""What all wire models share: strictness, limits and constrained types. PURE."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
MAX_FRAGMENT_BYTES = 10 * 1024 * 1024
MAX_INTEGER = 2**53 - 1
"""The largest integer that every JSON implementation keeps exact."""
MAX_NANOSECONDS = 2**63 - 1
FORMATS = ("pcm_s16le", "pcm_f32le", "m4a", "aac", "wav", "mp3", "ogg", "opus", "flac", "webm", "mp4")

Format = Literal["pcm_s16le", "pcm_f32le", "m4a", "aac", "wav", "mp3", "ogg", "opus", "flac", "webm", "mp4"]
Id = Annotated[str, StringConstraints(min_length=1, max_length=256)]
LanguageTag = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8}){0,4}$")]
Text = Annotated[str, StringConstraints(max_length=1024)]
Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Nanoseconds = Annotated[int, Field(ge=0, le=MAX_NANOSECONDS)]
Hint = Annotated[str, StringConstraints(max_length=200)]


class WireModel(BaseModel):
    """A value on the wire: frozen, strict, unknown fields ignored."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", protected_namespaces=(), allow_inf_nan=False)


def either_payload(schema: dict[str, Any]) -> None:
    """Say in the JSON Schema of an audio object that its bytes come as `data` or as `data_base64`, never both."""
    ways = {"data": {"type": "string", "format": "binary"}, "data_base64": {"type": "string", "format": "base64"}}
    schema["properties"] |= ways
    schema["required"] = [name for name in schema.get("required", ()) if name not in ways]
    schema["oneOf"] = [{"required": [name]} for name in ways]


def base_language(tag: str) -> str:
    """The base of a BCP-47 tag, in lower case: en for en-US."""
    return tag.split("-", 1)[0].lower()
