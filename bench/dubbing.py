"""Dubs recorded speech in this process, stage by stage, so that every way of fitting gets the same words.

The models are those of configs/local.yaml, the dubs the Tts deployment's own; Ray, sockets and streams are left out.
"""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.audio import decode_audio
from faster_whisper.vad import VadOptions, get_speech_timestamps

from deployments.asr.faster_whisper import FasterWhisperOptions
from deployments.audio import pcm
from deployments.audio.codec import resample
from deployments.audio.timing import FitLimits
from deployments.contracts.engines import (
    ASR_RATE_HZ,
    AsrEngine,
    Line,
    Samples,
    Spoken,
    TranslationEngine,
    TtsEngine,
    Utterance,
)
from deployments.contracts.values import (
    AudioFormat,
    FillRequest,
    FragmentRef,
    Overhang,
    Recognition,
    Span,
    SynthesizeRequest,
    TranslateRequest,
    Voice,
)
from deployments.errors import DurationMismatch, StageError
from deployments.media.pauses import Lengths, split
from deployments.translation.apertium import ApertiumOptions
from deployments.tts.deployment import Tts
from deployments.tts.voices import ANY_LANGUAGE
from serve_app.configuration.loading import load_voices

CLIPS = Path(__file__).resolve().parent.parent / "tests" / "data" / "speech"
FRAGMENT_MS = 6000
SHORTEST_MS = 1000
"""What is shorter is joined to the fragment before it."""
BETWEEN_CLIPS_MS = 400
OUTPUT = AudioFormat("pcm_s16le", 24_000, 1)
BUDGET_MS = 60_000
WORD_MS = 380
"""What an English word takes at a pace that nobody finds fast or slow."""
CUTS = ("hard", "pauses")
FITS = ("total", "placed", "carried")
"""As long as the original, no more; with phrases where the original speaks; and with what doesn't fit running over."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One fragment of a stream, and its words in both languages."""

    ref: FragmentRef
    samples: Samples
    """16 000 Hz, mono."""
    recognition: Recognition
    text: str
    """Empty: nothing was said."""
    stages_ms: float
    """Recognition and translation."""

    @property
    def duration_ms(self) -> int:
        """As it is told to the Tts deployment."""
        return pcm.samples_to_ms(self.samples.shape[0], ASR_RATE_HZ)


@dataclass(frozen=True, slots=True)
class Dub:
    """One fragment as it was dubbed."""

    piece: Piece
    audio: Samples
    """As it is heard in the fragment's time, at `OUTPUT`'s rate."""
    own: Samples
    """Of its own text alone, with what of it is heard later; at the same rate."""
    speed: float
    """How much faster than its voice's natural rate: the rate asked for times the stretch."""
    elapsed_ms: float


@dataclass
class Dubs:
    """All fragments, fitted one way."""

    made: list[list[Dub]] = field(default_factory=list)
    """Of each stream, in order."""
    too_long: int = 0
    overhang_ms: list[int] = field(default_factory=list)
    """Of each dub that ran over."""

    @property
    def all(self) -> list[Dub]:
        """Of all streams."""
        return [dub for stream in self.made for dub in stream]


class Ears:
    """The models that make words of speech, warm."""

    def __init__(self) -> None:
        self._asr: AsrEngine = FasterWhisperOptions(engine="faster_whisper").build()
        self._translation: TranslationEngine = ApertiumOptions(engine="apertium").build()
        self._asr.load()
        self._translation.load()

    def hear(self, ref: FragmentRef, samples: Samples, hints: Sequence[str] = ()) -> Recognition:
        """What was said."""
        (found,) = self._asr.transcribe([Utterance(ref, samples, "en", tuple(hints))])
        if isinstance(found, StageError):
            raise found
        return found

    def pieces(self, stream: str, samples: Samples, cut: str) -> list[Piece]:
        """A stream cut `hard`, every 6 s, or at `pauses`, each fragment with its words."""
        made: list[Piece] = []
        for number, part in enumerate(_at_pauses(samples) if cut == "pauses" else _hard(samples)):
            ref = FragmentRef(stream, f"{stream}-{number}", number)
            started_s = time.perf_counter()
            heard = self.hear(ref, part)
            text: str | StageError = ""
            if heard.text:
                (text,) = self._translation.translate(
                    [TranslateRequest(ref, heard.text, "en", "es", (), "", BUDGET_MS)]
                )
            if isinstance(text, StageError):
                raise text
            made.append(Piece(ref, part, heard, text, (time.perf_counter() - started_s) * 1000))
        return made

    def close(self) -> None:
        """End the translator's programs."""
        self._translation.close()


def streams(*, quick: bool) -> dict[str, tuple[str, ...]]:
    """The recordings, as the clips that each is put together from."""
    names = sorted(json.loads((CLIPS / "transcripts.json").read_text(encoding="utf-8")))
    parts = ("sense_and_sensibility",) if quick else ("sense_and_sensibility", "two_cities")
    return {part: tuple(name for name in names if name.startswith(part)) for part in parts}


def recording(clips: Sequence[str]) -> Samples:
    """Clips one after the other as float32 (n,), 16 000 Hz."""
    return joined([decode_audio(str(CLIPS / name), ASR_RATE_HZ) for name in clips])


def joined(parts: Sequence[Samples]) -> Samples:
    """Speech (n,), 16 000 Hz, with a short pause between."""
    quiet = np.zeros(pcm.ms_to_samples(BETWEEN_CLIPS_MS, ASR_RATE_HZ), dtype=np.float32)
    return np.concatenate([part for speech in parts for part in (quiet, speech)][1:])


def _hard(samples: Samples) -> list[Samples]:
    n_fragment = FRAGMENT_MS * ASR_RATE_HZ // 1000
    starts = list(range(0, samples.shape[0], n_fragment))
    if len(starts) > 1 and (samples.shape[0] - starts[-1]) * 1000 < SHORTEST_MS * ASR_RATE_HZ:
        starts.pop()
    return [samples[a:b] for a, b in zip(starts, [*starts[1:], samples.shape[0]], strict=True)]


def _at_pauses(samples: Samples) -> list[Samples]:
    whole = pcm.to_s16(samples)[:, np.newaxis]
    pieces = split([whole], ASR_RATE_HZ, Lengths.around(FRAGMENT_MS))
    return [pcm.from_bytes(piece.tobytes(), "pcm_s16le", 1)[:, 0] for piece in pieces]


class _Noting:
    """An engine of which only two voices are loaded; it keeps the rate that it was asked for last.

    What is asked for twice, with the same time for it, is spoken once: time beyond the original's end changes no rate
    below the comfortable one, and no other is asked of Kokoro.
    """

    def __init__(self, engine: TtsEngine, voices: Sequence[str]) -> None:
        self._engine = engine
        self._names = voices
        self._spoken: dict[tuple[str, int, int | None], Spoken] = {}
        self.model, self.voice_models = engine.model, engine.voice_models
        self.wants_original = engine.wants_original
        self.rate = 1.0

    def load(self, voices: Mapping[str, Voice]) -> None:
        self._engine.load({name: voice for name, voice in voices.items() if name in self._names})

    def speak(self, line: Line) -> Spoken:
        key = (line.text, min(line.room_ms or line.target_duration_ms, line.target_duration_ms), line.speech_ms)
        spoken = self._spoken.get(key) or self._engine.speak(line)
        self._spoken[key] = spoken
        self.rate = spoken.rate
        return spoken


class Mouth:
    """A Tts deployment around one engine, which learns its voice's pace as it speaks."""

    def __init__(self, engine: TtsEngine, limits: FitLimits | None = None) -> None:
        book = load_voices("configs/voices.json")
        self._voices, self._defaults = book.for_engine(engine.voice_models)
        self._engine = _Noting(engine, list(self._defaults.values()))
        self._tts = Tts(self._engine, book, limits or FitLimits(), log_level="WARNING")

    def say(self, text: str) -> Samples:
        """An English sentence at about the voice's own pace, float32 (n,), 16 000 Hz."""
        voice, length_ms = self._voices[self._voice("en")], WORD_MS * len(text.split())
        spoken = self._engine.speak(Line(FragmentRef("said", text, 0), text, voice, length_ms))
        return resample(spoken.samples, spoken.sample_rate_hz, ASR_RATE_HZ)

    def dub(self, heard: Sequence[Sequence[Piece]], fit: str) -> Dubs:
        """All fragments of all streams, one after the other as they come from a live stream."""
        dubs = Dubs()
        for pieces in heard:
            dubs.made.append(asyncio.run(self._stream(pieces, fit, dubs)))
        return dubs

    def _voice(self, language: str) -> str:
        return self._defaults.get(language) or self._defaults[ANY_LANGUAGE]

    async def _stream(self, pieces: Sequence[Piece], fit: str, dubs: Dubs) -> list[Dub]:
        made: list[Dub] = []
        overhang: Overhang | None = None
        for piece in pieces:
            lead_ms = overhang.duration_ms if overhang else 0
            if not piece.text:
                filled = FillRequest(piece.ref, piece.duration_ms, OUTPUT, BUDGET_MS, overhang=overhang)
                await self._tts.fill(filled)
                overhang = None
                continue
            request = SynthesizeRequest(
                piece.ref,
                piece.text,
                self._voice("es"),
                piece.duration_ms,
                OUTPUT,
                BUDGET_MS,
                speech=piece.recognition.speech if fit != "total" else (),
                overhang=overhang,
                may_run_over=fit == "carried" and piece is not pieces[-1],
            )
            overhang = None
            try:
                speech = await self._tts.synthesize(request)
            except DurationMismatch:
                dubs.too_long += 1
                continue
            overhang = speech.overhang
            dubs.overhang_ms += [overhang.duration_ms] if overhang else []
            audio = _samples(speech.audio.data)
            own = np.concatenate([audio, _samples(overhang.data if overhang else b"")])
            own[: pcm.ms_to_samples(lead_ms, OUTPUT.sample_rate_hz)] = 0
            speed = self._engine.rate * speech.speed_ratio
            made.append(Dub(piece, audio, own, speed, piece.stages_ms + speech.elapsed_ms))
        return made


def _samples(data: bytes) -> Samples:
    return pcm.from_bytes(data, "pcm_s16le", 1)[:, 0]


def voice_activity(samples: Samples, rate_hz: int) -> tuple[Span, ...]:
    """When somebody speaks, by Silero VAD, which no way of fitting uses."""
    options = VadOptions(min_silence_duration_ms=150, speech_pad_ms=0, min_speech_duration_ms=60)
    return tuple(
        Span(found["start"] * 1000 // ASR_RATE_HZ, found["end"] * 1000 // ASR_RATE_HZ)
        for found in get_speech_timestamps(resample(samples, rate_hz, ASR_RATE_HZ), options)
    )


class Listener:
    """A multilingual Whisper; the same audio is heard once."""

    def __init__(self, weights: Path) -> None:
        self._model = WhisperModel(str(weights), device="cpu", compute_type="int8")
        self._heard: dict[bytes, str] = {}

    def hear(self, dub: Dub) -> str:
        """A dub's own text."""
        key = dub.own.tobytes()
        if key not in self._heard:
            audio = resample(dub.own, OUTPUT.sample_rate_hz, ASR_RATE_HZ)
            found, _ = self._model.transcribe(audio, language="es", beam_size=5, condition_on_previous_text=False)
            self._heard[key] = " ".join(part.text for part in found)
        return self._heard[key]
