"""The wire of OpenAI's audio endpoints by HTTP, as its SDKs speak it. PURE.

Forms and JSON in, JSON, subtitles and events out. Fields that are not known are ignored, as OpenAI does.
"""

import base64
import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

from babel import Locale, UnknownLocaleError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from deployments.contracts.values import Word
from deployments.media.captions import TimedWord, layout, timed
from deployments.media.subtitles import to_srt, to_vtt

MAX_INPUT_CHARACTERS = 4096
MAX_HINTS, MAX_HINT_CHARACTERS = 100, 500
BUILT_IN_VOICES: Final = frozenset({
    *("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer", "verse"),
})  # fmt: skip
"""OpenAI's; they mean the default voice of a language here."""
TRANSCRIPTION_MODELS, SPEECH_MODELS = ("whisper-1",), ("tts-1",)
"""Names that clients are sure to find at OpenAI; any other is taken too."""
_SENTENCE_ENDS = re.compile(r"[.!?…。！？][\"'”’»)\]]*$")
_SEGMENT_PAUSE_MS, _SEGMENT_MOST_MS = 1000, 15_000


class InvalidRequest(ValueError):
    """A field has a value that it can't have.

    Args:
        message: what was sent and what is allowed.
        param: the field.
    """

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Heard:
    """A stretch of a recording and what was said in it."""

    start_ms: int
    end_ms: int
    text: str
    words: tuple[Word, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    """When somebody spoke, where the words tell no times; none: all the time."""


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def parsed(cls, fields: Mapping[str, Any]) -> Self:
        """Check the fields of a request.

        Raises:
            InvalidRequest: saying which one is wrong, what was sent and what is allowed.
        """
        try:
            return cls.model_validate(dict(fields))
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            name = ".".join(str(part) for part in first["loc"]) or None
            message = first["msg"].removeprefix("Value error, ")
            if first["type"] == "missing":
                raise InvalidRequest(f"{name} is missing", name) from None
            sent = f"{name}={str(first['input'])[:60]!r}: " if name else ""
            raise InvalidRequest(f"{sent}{message}", name) from None


class TranscriptionForm(_Body):
    """The form of `/v1/audio/transcriptions`, besides its file."""

    model: str = Field(min_length=1, max_length=200)
    language: str | None = None
    prompt: str = ""
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt"] = "json"
    stream: bool = False
    timestamp_granularities: tuple[Literal["word", "segment"], ...] = ("segment",)
    keywords: tuple[str, ...] = Field(default=(), max_length=MAX_HINTS)

    @field_validator("response_format", mode="before")
    @classmethod
    def _one_speaker(cls, value: object) -> object:
        if value == "diarized_json":
            raise ValueError("speakers are not told apart here; allowed: json, text, srt, verbose_json, vtt")
        return value

    @field_validator("timestamp_granularities", mode="after")
    @classmethod
    def _segments_unless_said(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return value or ("segment",)

    @property
    def hints(self) -> tuple[str, ...]:
        """Words to expect."""
        expected = (*self.keywords, self.prompt)
        return tuple(hint.strip()[:MAX_HINT_CHARACTERS] for hint in expected if hint.strip())

    @property
    def base_language(self) -> str | None:
        """Such as en, of en-US; None: not told."""
        return base(self.language) if self.language else None


class TranslationForm(TranscriptionForm):
    """The form of `/v1/audio/translations`, besides its file."""

    to_language: str = "en"
    """Not OpenAI's: what to translate into."""

    @property
    def target_language(self) -> str:
        """Such as es, of es-MX."""
        return base(self.to_language)


class SpeechBody(_Body):
    """The JSON of `/v1/audio/speech`."""

    model: str = Field(min_length=1, max_length=200)
    input: str = Field(min_length=1, max_length=MAX_INPUT_CHARACTERS)
    voice: str = Field(max_length=200)
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    speed: float = Field(default=1.0, ge=0.25, le=4.0)
    stream_format: Literal["audio", "sse"] = "audio"
    language: str | None = None
    """Not OpenAI's: what the text is in, where the voice doesn't tell."""

    @field_validator("voice", mode="before")
    @classmethod
    def _by_id(cls, value: object) -> object:
        return value.get("id") if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.input.strip():
            raise ValueError("input is empty")
        return self


def form_fields(pairs: Iterable[tuple[str, object]]) -> dict[str, Any]:
    """The fields of a form: those that may come several times as tuples, under their names without brackets."""
    fields: dict[str, Any] = {}
    for name, value in pairs:
        plain = name.removesuffix("[]")
        if plain in ("timestamp_granularities", "keywords"):
            fields[plain] = (*fields.get(plain, ()), value)
        else:
            fields[plain] = value
    return fields


def base(language: str) -> str:
    """The base language of a tag."""
    return re.split("[-_]", language.strip().lower())[0]


def chosen_voice(body: SpeechBody, voices: Mapping[str, str], defaults: Mapping[str, str]) -> str:
    """The voice that speaks.

    Args:
        body: of the request.
        voices: names and base languages of those that there are; `*` speaks any.
        defaults: the default voice of each language.

    Raises:
        InvalidRequest: there is none of this name, or none for the language.
    """
    if body.voice in voices:
        return body.voice
    if body.voice not in (*BUILT_IN_VOICES, "default"):
        names = ", ".join(sorted(voices)) or "none"
        raise InvalidRequest(
            f"voice={body.voice[:60]!r} is none; voices: {names}; OpenAI's names mean the default one of the language",
            "voice",
        )
    language = base(body.language) if body.language else next(iter(["en", *defaults]))
    found = defaults.get(language) or defaults.get("*")
    if found is None and body.language is None:
        found = next(iter(defaults.values()), None)
    if found is None:
        allowed = ", ".join(sorted(defaults)) or "none"
        raise InvalidRequest(
            f"language={language[:40]!r} has no default voice; languages that have: {allowed}", "language"
        )
    return found


# --- answers ----------------------------------------------------------------------------------------------------


def rendered(
    form: TranscriptionForm, heard: Sequence[Heard], language: str, duration_ms: int, task: str
) -> dict[str, Any] | str:
    """The answer to a recording: text where that was asked for, else an object."""
    text = " ".join(one.text for one in heard if one.text)
    usage = {"type": "duration", "seconds": math.ceil(duration_ms / 1000)}
    match form.response_format:
        case "json":
            return {"text": text, "usage": usage}
        case "text":
            return f"{text}\n"
        case "srt":
            return to_srt(layout(_timed(heard)), language)
        case "vtt":
            return to_vtt(layout(_timed(heard)), language)
    found: dict[str, Any] = {
        "task": task,
        "language": language_name(language),
        "duration": duration_ms / 1000,
        "text": text,
        "usage": usage,
    }
    if "segment" in form.timestamp_granularities:
        found["segments"] = [_segment(number, one) for number, one in enumerate(_segments(heard))]
    if "word" in form.timestamp_granularities:
        found["words"] = [
            {"word": word.text, "start": word.start_ms / 1000, "end": word.end_ms / 1000}
            for one in heard
            for word in one.words
        ]
    return found


def delta(text: str) -> dict[str, Any]:
    """An event of a transcription that is streamed: what comes next of it."""
    return {"type": "transcript.text.delta", "delta": text}


def done(text: str, duration_ms: int) -> dict[str, Any]:
    """Its last event: all of it."""
    usage = {"type": "duration", "seconds": math.ceil(duration_ms / 1000)}
    return {"type": "transcript.text.done", "text": text, "usage": usage}


def speech_delta(data: bytes) -> dict[str, Any]:
    """An event of speech that is streamed: the next bytes of the file."""
    return {"type": "speech.audio.delta", "audio": base64.b64encode(data).decode("ascii")}


def speech_done() -> dict[str, Any]:
    """Its last event. Tokens are not counted here."""
    return {"type": "speech.audio.done", "usage": dict.fromkeys(("input_tokens", "output_tokens", "total_tokens"), 0)}


def error(message: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The body of an answer that is an error, and an event where the answer has begun."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def model(name: str, created: int) -> dict[str, Any]:
    """One entry of `/v1/models`."""
    return {"id": name, "object": "model", "created": created, "owned_by": "livedub"}


def language_name(language: str) -> str:
    """A language's name in English, in small letters, as Whisper calls it; the tag itself where it has none."""
    try:
        return str(Locale(language).english_name or language).lower()
    except (UnknownLocaleError, ValueError):
        return language


def _timed(heard: Sequence[Heard]) -> list[TimedWord]:
    words: list[TimedWord] = []
    for one in heard:
        if one.words:
            said = [TimedWord(word.text, word.start_ms, word.end_ms) for word in one.words]
            words += [*said[:-1], TimedWord(said[-1].text, said[-1].start_ms, said[-1].end_ms, last=True)]
        else:
            words += timed(one.text, one.spans or [(one.start_ms, one.end_ms)])
    return words


def _segments(heard: Sequence[Heard]) -> list[Heard]:
    """Stretches cut at the ends of sentences and at pauses, where words tell."""
    segments: list[Heard] = []
    for one in heard:
        if not one.words:
            segments += [one] if one.text else []
            continue
        group: list[Word] = []
        for word in one.words:
            if group and _cut_between(group, word):
                segments.append(_of_words(group))
                group = []
            group.append(word)
        segments.append(_of_words(group))
    return segments


def _cut_between(group: Sequence[Word], word: Word) -> bool:
    return (
        _SENTENCE_ENDS.search(group[-1].text) is not None
        or word.start_ms - group[-1].end_ms >= _SEGMENT_PAUSE_MS
        or word.end_ms - group[0].start_ms > _SEGMENT_MOST_MS
    )


def _of_words(words: Sequence[Word]) -> Heard:
    return Heard(words[0].start_ms, words[-1].end_ms, " ".join(word.text for word in words), tuple(words))


def _segment(number: int, one: Heard) -> dict[str, Any]:
    """As Whisper tells one; what is not known of it, tokens and how sure it is that nobody spoke, is empty and 0."""
    encoded = one.text.encode()
    confidences = [max(word.confidence, 1e-6) for word in one.words]
    return {
        "id": number,
        "seek": one.start_ms // 10,
        "start": one.start_ms / 1000,
        "end": one.end_ms / 1000,
        "text": one.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": sum(map(math.log, confidences)) / len(confidences) if confidences else 0.0,
        "compression_ratio": len(encoded) / max(1, len(zlib.compress(encoded))),
        "no_speech_prob": 0.0,
    }
