"""How good the dub is, on real speech with transcripts: words heard, translation, isochrony, and how it is understood.

    python -m bench.quality [--quick] [--no-ear]

The models of configs/local.yaml run in this process, without Ray, on tests/data/speech. Each clip is cut twice, every
6 s and at pauses, and each fragment is dubbed twice from the same words: fitted to its original's length alone, and
with its phrases placed where the original speaks. When somebody speaks is judged by Silero VAD, which neither way of
fitting uses. What a listener understands is judged by a multilingual Whisper that hears the dub (see `make quality`).
Prints tables, writes bench/results/quality.json and quality.png, and exits with 1 where a bound of `GATE` is missed.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from faster_whisper import WhisperModel
from faster_whisper.audio import decode_audio
from faster_whisper.vad import VadOptions, get_speech_timestamps
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.report import RESULTS, write
from bench.scores import Dubbed, border_step, isochrony, translation, wer
from client.pauses import Lengths, split
from deployments.asr.faster_whisper import FasterWhisperOptions
from deployments.audio.timing import FitLimits
from deployments.contracts import (
    ASR_RATE_HZ,
    AudioFormat,
    FragmentRef,
    Line,
    Recognition,
    Samples,
    Span,
    TranslateRequest,
    TtsEngine,
    Utterance,
    Voice,
)
from deployments.errors import DurationMismatch, StageError
from deployments.translation.apertium import ApertiumOptions
from deployments.tts.fitting import fit, speech_ms
from deployments.tts.kokoro import KokoroOptions
from deployments.tts.voices import VoiceBook
from serve_app.config import load_voices
from tests.support import whisper

PROJECT = Path(__file__).resolve().parent.parent
CLIPS = PROJECT / "tests" / "data" / "speech"
REFERENCES = Path(__file__).resolve().parent / "data" / "references_es.json"
FRAGMENT_MS = 6000
SHORTEST_MS = 1000
"""What is shorter is joined to the fragment before it."""
OUTPUT = AudioFormat("pcm_s16le", 24_000, 1)
CUTS, FITS = ("hard", "pauses"), ("total", "placed")
GATE: dict[str, Callable[[dict[str, Any]], bool]] = {
    "at most 10 % of the words misheard": lambda found: found["pauses"]["wer_percent"] <= 10,
    "chrF of at least 40": lambda found: found["pauses"]["translation"]["chrf"] >= 40,
    "placing overlaps more than length alone": lambda found: all(
        found[cut]["placed"]["overlap_percent"] > found[cut]["total"]["overlap_percent"] for cut in CUTS
    ),
    "placing hurries no more fragments": lambda found: all(
        found[cut]["placed"]["unnatural_percent"] <= found[cut]["total"]["unnatural_percent"] for cut in CUTS
    ),
    "no click at a border": lambda found: all(found[cut][fit]["border_step"] <= 1 for cut in CUTS for fit in FITS),
}
"""Generous bounds: they catch a regression, not a bad day."""


@dataclass
class Way:
    """All fragments, cut and fitted one way."""

    texts: list[str] = field(default_factory=list)
    dubs: list[Dubbed] = field(default_factory=list)
    audio: list[Samples] = field(default_factory=list)
    failed: int = 0


def main() -> None:
    """Measure, tell, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only the clips of Sense and Sensibility")
    parser.add_argument("--no-ear", action="store_true", help="don't have the dub heard by a multilingual Whisper")
    given = parser.parse_args()
    transcripts = json.loads((CLIPS / "transcripts.json").read_text(encoding="utf-8"))
    names = [name for name in sorted(transcripts) if not given.quick or name.startswith("sense")]
    with tempfile.TemporaryDirectory() as folder:
        weights = None if given.no_ear else whisper.multilingual(Path(folder) / "whisper")
        ear = WhisperModel(str(weights), device="cpu", compute_type="int8") if weights else None
        started_s = time.perf_counter()
        found = measure(names, {name: transcripts[name]["text"] for name in names}, ear)
    found["seconds"] = round(time.perf_counter() - started_s)
    found["ear"] = "whisper-base" if ear else whisper.MISSING
    missed = [name for name, holds in GATE.items() if not holds(found)]
    show(found)
    draw(found, RESULTS / "quality.png")
    print(f"written to {write('quality', found | {'missed': missed})}")
    for name in missed:
        print(f"missed: {name}")
    sys.exit(bool(missed))


def measure(names: Sequence[str], transcripts: dict[str, str], ear: WhisperModel | None) -> dict[str, Any]:
    """Both cuts, both fits."""
    asr = FasterWhisperOptions(engine="faster_whisper").build()
    asr.load()
    apertium = ApertiumOptions(engine="apertium").build()
    apertium.load()
    references = json.loads(REFERENCES.read_text(encoding="utf-8"))["references"]
    found: dict[str, Any] = {}
    for cut in CUTS:
        fits = {fit: Way() for fit in FITS}
        voices = {fit: _voice() for fit in FITS}  # one each: they learn from what they speak
        heard, translated, lengths_ms = [], [], []
        for name in track(names, description=f"cut: {cut}"):
            words, texts = [], []
            for number, samples in enumerate(_fragments(CLIPS / name, cut)):
                lengths_ms.append(samples.shape[0] * 1000 // ASR_RATE_HZ)
                ref = FragmentRef(name, f"{name}-{number}", number)
                recognition = asr.transcribe([Utterance(ref, samples, "en")])[0]
                if isinstance(recognition, StageError):
                    raise recognition
                if not recognition.text:
                    continue
                text = apertium.translate([TranslateRequest(ref, recognition.text, "en", "es", (), "", 60_000)])[0]
                if isinstance(text, StageError):
                    raise text
                words.append(recognition.text)
                texts.append(text)
                for fit_name, way in fits.items():
                    _dub(way, *voices[fit_name], ref, samples, text, recognition if fit_name == "placed" else None)
            heard.append(" ".join(words))
            translated.append(" ".join(texts))
        found[cut] = {
            "wer_percent": round(wer([transcripts[name] for name in names], heard), 1),
            "translation": translation([references[name] for name in names], translated),
            "fragment_ms": {"n": len(lengths_ms), "p50": int(np.median(lengths_ms)), "max": max(lengths_ms)},
            **{name: _scored(way, ear) for name, way in fits.items()},
        }
    apertium.close()
    return found


def _fragments(path: Path, cut: str) -> list[Samples]:
    samples = decode_audio(str(path), ASR_RATE_HZ)
    if cut == "pauses":
        whole = np.rint(samples * 32_767).astype(np.int16)[:, np.newaxis]
        return [
            piece[:, 0].astype(np.float32) / np.float32(32_768)
            for piece in split([whole], ASR_RATE_HZ, Lengths.around(FRAGMENT_MS))
        ]
    n_fragment = FRAGMENT_MS * ASR_RATE_HZ // 1000
    starts = list(range(0, samples.shape[0], n_fragment))
    if len(starts) > 1 and (samples.shape[0] - starts[-1]) * 1000 < SHORTEST_MS * ASR_RATE_HZ:
        starts.pop()
    return [samples[a:b] for a, b in zip(starts, [*starts[1:], samples.shape[0]], strict=True)]


def _voice() -> tuple[TtsEngine, Voice]:
    engine = KokoroOptions(engine="kokoro").build()
    voices, defaults = _book().for_engine(engine.voice_models)
    voice = voices[defaults["es"]]
    engine.load({voice.name: voice})
    return engine, voice


def _book() -> VoiceBook:
    return load_voices("configs/voices.json")


def _dub(
    way: Way,
    engine: TtsEngine,
    voice: Voice,
    ref: FragmentRef,
    samples: Samples,
    text: str,
    recognition: Recognition | None,
) -> None:
    """One fragment's dub, added to the others of its way."""
    original_ms = samples.shape[0] * 1000 // ASR_RATE_HZ
    speech = recognition.speech if recognition else ()
    try:
        spoken = engine.speak(Line(ref, text, voice, original_ms, speech_ms=speech_ms(speech)))
        fitted = fit(spoken, original_ms, OUTPUT, FitLimits(), deadline_s=1.0, clock=lambda: 0.0, speech=speech)
    except DurationMismatch:
        way.failed += 1
        return
    heard = soxr.resample(fitted.samples, spoken.sample_rate_hz, ASR_RATE_HZ)
    way.texts.append(text)
    way.audio.append(heard)
    way.dubs.append(
        Dubbed(
            original=_speech(samples),
            dub=_speech(heard),
            original_ms=original_ms,
            dub_ms=heard.shape[0] * 1000 // ASR_RATE_HZ,
            speed=spoken.rate * fitted.speed_ratio,
        )
    )


def _speech(samples: Samples) -> tuple[Span, ...]:
    options = VadOptions(min_silence_duration_ms=150, speech_pad_ms=0, min_speech_duration_ms=60)
    return tuple(
        Span(found["start"] * 1000 // ASR_RATE_HZ, found["end"] * 1000 // ASR_RATE_HZ)
        for found in get_speech_timestamps(samples, options)
    )


def _scored(way: Way, ear: WhisperModel | None) -> dict[str, Any]:
    understood = None
    if ear:
        heard = [
            " ".join(part.text for part in ear.transcribe(audio, language="es", beam_size=5)[0]) for audio in way.audio
        ]
        understood = round(wer(way.texts, heard), 1)
    return {
        **isochrony(way.dubs),
        "too_long": way.failed,
        "border_step": border_step(way.audio, ASR_RATE_HZ),
        "misheard_percent": understood,
    }


def show(found: dict[str, Any]) -> None:
    """Two tables."""
    words = Table("cut", "fragments", "median ms", "longest ms", "WER %", "chrF", "BLEU", title="Words")
    dubs = Table(title="Isochrony: the dub's phrases placed where the original speaks, against its length alone")
    for column in ("cut", "fitted", "overlap %", "covered %", "inside %", "outside .8–1.25 %", "fastest"):
        dubs.add_column(column)
    for column in ("too long", "border step", "misheard %"):
        dubs.add_column(column)
    for cut in CUTS:
        row = found[cut]
        length, score = row["fragment_ms"], row["translation"]
        cells = (length["n"], length["p50"], length["max"], row["wer_percent"], score["chrf"], score["bleu"])
        words.add_row(cut, *map(str, cells))
        for name in FITS:
            one = row[name]
            keys = ("overlap_percent", "covered_percent", "inside_percent", "unnatural_percent", "speed_max")
            more = ("too_long", "border_step", "misheard_percent")
            dubs.add_row(cut, name, *(str(one[key]) for key in (*keys, *more)))
    console = Console()
    console.print(words)
    console.print(dubs)


def draw(found: dict[str, Any], path: Path) -> None:
    """Both ways of fitting side by side."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to import, and only this draws

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    keys = {
        "overlap_percent": "speech overlap %",
        "unnatural_percent": "outside .8–1.25 %",
        "misheard_percent": "misheard %",
    }
    figure, axes = plt.subplots(1, len(keys), figsize=(10, 3.2), layout="constrained")
    for axis, (key, title) in zip(axes, keys.items(), strict=True):
        for at, name in enumerate(FITS):
            values = [found[cut][name][key] or 0 for cut in CUTS]
            axis.bar(np.arange(len(CUTS)) + 0.35 * at, values, 0.33, label=name)
        axis.set_xticks(np.arange(len(CUTS)) + 0.175, [f"cut: {cut}" for cut in CUTS])
        axis.set_title(title)
    axes[0].legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
