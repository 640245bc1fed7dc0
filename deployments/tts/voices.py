"""The voices that streams may ask for by name: voices.json, checked as a whole before any model loads.

A worker sends a key of this file and never a path. One file serves several engines: each speaks the entries whose
`model` it knows.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from deployments.contracts.values import Voice

ANY_LANGUAGE = "*"
"""The language of voices that speak every one."""

VoiceName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,64}$")]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]


def _as_sequence(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Preference = Annotated[tuple[VoiceName, ...], BeforeValidator(_as_sequence), Field(min_length=1)]


class VoiceEntry(BaseModel):
    """One voice as the file describes it; its name is its key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(min_length=1)
    """The engine or model that speaks it: kokoro, espeak, xtts_v2, …"""
    language: Language
    speaker: str = ""
    """The model's own name for the speaker, if it has one."""
    speaker_wav: str = ""
    """Path of a reference recording, for models that clone a voice."""
    description: str = ""

    def named(self, name: str, language: str | None = None) -> Voice:
        """The voice as engines get it, of another language if one is given."""
        return Voice(
            name=name,
            model=self.model,
            language=language or self.language,
            speaker=self.speaker,
            speaker_wav=self.speaker_wav,
            description=self.description,
        )


class VoiceBook(BaseModel):
    """voices.json. Wrong content is a pydantic ValidationError that names the voice and the field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    voices: Mapping[VoiceName, VoiceEntry] = Field(min_length=1)
    default_voice_per_language: Mapping[Language, Preference] = Field(default_factory=dict)
    """A name, or several: the first that the running engine speaks is the default."""

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """The book that a JSON text holds."""
        return cls.model_validate_json(text)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The book in a file. No such file: OSError."""
        return cls.parse(path.read_bytes())

    @model_validator(mode="after")
    def _defaults_fit(self) -> Self:
        for language, names in self.default_voice_per_language.items():
            for name in names:
                field = f"default_voice_per_language.{language}"
                if name not in self.voices:
                    raise ValueError(f"{field} names {name!r}, which is not in voices: {sorted(self.voices)}")
                if self.voices[name].language != language:
                    raise ValueError(f"{field} names {name!r}, which speaks {self.voices[name].language!r}")
        return self

    def for_engine(self, voice_models: frozenset[str] | None) -> tuple[dict[str, Voice], dict[str, str]]:
        """The voices that an engine speaks by name, and its default voice by language.

        An engine without voice models of its own (None) speaks every voice, in any language (`*`); its default is
        the first one.

        Raises:
            ValueError: no entry is for this engine.
        """
        if voice_models is None:
            voices = {name: entry.named(name, ANY_LANGUAGE) for name, entry in self.voices.items()}
            return voices, {ANY_LANGUAGE: next(iter(voices))}
        voices = {name: entry.named(name) for name, entry in self.voices.items() if entry.model in voice_models}
        if not voices:
            known = sorted({entry.model for entry in self.voices.values()})
            raise ValueError(f"no voice has model {' or '.join(sorted(voice_models))}; those of the file have {known}")
        defaults = {}
        for language, names in self.default_voice_per_language.items():
            spoken = next((name for name in names if name in voices), None)
            if spoken is not None:
                defaults[language] = spoken
        return voices, defaults
