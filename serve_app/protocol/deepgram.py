"""The wire of Deepgram's live transcription, `/v1/listen`, as its SDKs speak it. PURE.

Query parameters in, messages out. Parameters that are not known are ignored, as Deepgram does.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from deployments.contracts.values import CONTAINER, OPUS_PACKETS, AudioFormat, Word

RAW_ENCODINGS: Final = {"linear16": "pcm_s16le", "linear32": "pcm_f32le", "mulaw": "mulaw", "alaw": "alaw"}
"""Their names and ours, of raw audio."""
ENCODINGS: Final = {**RAW_ENCODINGS, "opus": OPUS_PACKETS, "ogg-opus": CONTAINER, "flac": CONTAINER}
"""The same with what is decoded on its way."""
MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 192_000
_OPUS_RATE_HZ = 48_000
MAX_HINTS = 100
_BOOST: Final = re.compile(r":-?[\d.]+$")
"""Of a keyword; a keyterm has none."""
MAX_FIELDS = 500
IDLE_TIMEOUT_S = 10.0
"""Without any frame from the client."""
NOT_DECODABLE = "DATA-0000"
"""The reason of a close: what came can't be decoded as audio."""
NO_FRAME = "NET-0001"
"""The reason of a close: nothing came from the client in time."""


class InvalidQuery(ValueError):
    """A parameter has a value that it can't have."""


class ListenQuery(BaseModel):
    """The query of `/v1/listen`, as far as it means something here."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str = ""
    language: str = "en"
    encoding: str | None = None
    sample_rate: int | None = Field(default=None, ge=MIN_RATE_HZ, le=MAX_RATE_HZ)
    channels: int = Field(default=1, ge=1, le=8)
    interim_results: bool = False
    endpointing: int | None = Field(default=10, ge=0, le=10_000)
    """None: `false`."""
    utterance_end_ms: int | None = Field(default=None, ge=1, le=60_000)
    vad_events: bool = False
    punctuate: bool = False
    smart_format: bool = False
    multichannel: bool = False
    utterances: bool = False
    """Of a recording: whether it is told in parts too."""
    utt_split: float = Field(default=0.8, ge=0.1, le=60)
    """Of a recording: the pause in seconds that ends such a part."""
    callback: str | None = None
    keyterm: tuple[str, ...] = Field(default=(), max_length=MAX_HINTS)
    keywords: tuple[str, ...] = Field(default=(), max_length=MAX_HINTS)

    @field_validator(
        "interim_results", "vad_events", "punctuate", "smart_format", "multichannel", "utterances", mode="before"
    )
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("endpointing", mode="before")
    @classmethod
    def _may_be_off(cls, value: object) -> object:
        switch = value.lower() if isinstance(value, str) else value
        return None if switch == "false" else 10 if switch == "true" else value

    @field_validator("encoding")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in ENCODINGS:
            raise ValueError(f"{value[:40]!r} is not supported here; supported: {', '.join(ENCODINGS)}")
        return value

    @field_validator("multichannel")
    @classmethod
    def _one_transcript(cls, value: bool) -> bool:
        if value:
            raise ValueError("separate transcripts of channels are not supported here; channels are mixed into one")
        return value

    @property
    def formatted(self) -> bool:
        """Whether capitals and punctuation are wanted."""
        return self.punctuate or self.smart_format

    @property
    def base_language(self) -> str:
        """Such as en, of en-US."""
        return re.split("[-_]", self.language.lower())[0]

    @property
    def hints(self) -> tuple[str, ...]:
        """Words to expect, without their boosts."""
        keywords = (_BOOST.sub("", word) for word in self.keywords)
        return tuple(term.strip() for term in (*self.keyterm, *keywords) if term.strip(" :"))

    def audio_format(self) -> AudioFormat:
        """Of the frames that will come.

        Raises:
            InvalidQuery: they are raw, and their rate is not said.
        """
        container = CONTAINER if self.encoding is None else ENCODINGS[self.encoding]
        if self.encoding in RAW_ENCODINGS and self.sample_rate is None:
            raise InvalidQuery(f"sample_rate is needed with encoding={self.encoding}")
        return AudioFormat(container, self.sample_rate or _OPUS_RATE_HZ, self.channels)


_LISTS = ("keyterm", "keywords")


def parse_query(query: str) -> ListenQuery:
    """The parameters of a request.

    Raises:
        InvalidQuery: saying which one is wrong, what was sent and what is allowed.
    """
    fields: dict[str, Any] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="replace", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise InvalidQuery(f"the query has more parameters than are read, at most {MAX_FIELDS}") from None
    for name, value in pairs:
        if name in _LISTS:
            fields[name] = (*fields.get(name, ()), value)
        else:
            fields[name] = value
    try:
        return ListenQuery.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise InvalidQuery(f"{name}={str(first['input'])[:60]!r}: {message}") from None


def results(
    query: ListenQuery,
    metadata: dict[str, Any],
    *,
    start_ms: int,
    end_ms: int,
    text: str,
    words: Sequence[Word],
    confidence: float,
    is_final: bool,
    speech_final: bool,
    from_finalize: bool,
) -> dict[str, Any]:
    """A `Results` message."""
    alternative = _alternative(query, text, words, confidence)
    return {
        "type": "Results",
        "channel_index": [0, 1],
        "duration": (end_ms - start_ms) / 1000,
        "start": start_ms / 1000,
        "is_final": is_final,
        "speech_final": speech_final,
        "from_finalize": from_finalize,
        "channel": {"alternatives": [alternative]},
        "metadata": metadata,
    }


def recording(
    query: ListenQuery, metadata: dict[str, Any], texts: Sequence[str], words: Sequence[Word], confidence: float
) -> dict[str, Any]:
    """The answer to a recording.

    Args:
        query: it came with.
        metadata: of the request.
        texts: of its finals.
        words: of all of them.
        confidence: of the whole.
    """
    channel = {"alternatives": [_alternative(query, " ".join(filter(None, texts)), words, confidence)]}
    heard: dict[str, Any] = {"channels": [channel]}
    if query.utterances:
        heard["utterances"] = [_utterance(query, group) for group in _utterances(words, query.utt_split)]
    return {"metadata": metadata, "results": heard}


def _utterances(words: Sequence[Word], pause_s: float) -> list[list[Word]]:
    groups: list[list[Word]] = []
    for word in words:
        if not groups or word.start_ms - groups[-1][-1].end_ms >= pause_s * 1000:
            groups.append([])
        groups[-1].append(word)
    return groups


def _utterance(query: ListenQuery, words: Sequence[Word]) -> dict[str, Any]:
    confidence = sum(word.confidence for word in words) / len(words)
    return {
        "start": words[0].start_ms / 1000,
        "end": words[-1].end_ms / 1000,
        "channel": 0,
        **_alternative(query, " ".join(word.text for word in words), words, confidence),
    }


def _alternative(query: ListenQuery, text: str, words: Sequence[Word], confidence: float) -> dict[str, Any]:
    return {
        "transcript": text if query.formatted else _bare(text),
        "confidence": round(confidence, 4),
        "words": [_word(query, word) for word in words],
    }


def _word(query: ListenQuery, word: Word) -> dict[str, Any]:
    told: dict[str, Any] = {
        "word": _bare(word.text),
        "start": word.start_ms / 1000,
        "end": word.end_ms / 1000,
        "confidence": round(word.confidence, 4),
    }
    return {**told, "punctuated_word": word.text} if query.formatted else told


def _bare(text: str) -> str:
    """Without capitals and punctuation; what stands inside a word stays."""
    words = (word.strip("".join(filter(_is_punctuation, word))).lower() for word in text.split())
    return " ".join(word for word in words if word)


def _is_punctuation(character: str) -> bool:
    """Not a letter, a number or a mark that belongs to one, such as a vowel sign."""
    return unicodedata.category(character)[0] not in "LNM"
