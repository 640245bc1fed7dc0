"""How good the dub is, on real speech with transcripts: words heard, translation, isochrony, and how it is understood.

    python -m bench.quality [--quick] [--no-ear]

The recordings in tests/data/speech are cut twice, every 6 s and at pauses, and each fragment is dubbed three times from
the same words: as long as its original and no more; with its phrases where the original speaks; and so that what
doesn't fit runs over into the next fragment. When somebody speaks is judged by Silero VAD, which no way of fitting
uses, and what a listener understands by a multilingual Whisper that hears the dub. The recogniser is asked about
sentences in a synthetic voice too, with numbers, names and jargon; they are dubbed like the recordings. Prints tables,
writes quality.json and quality.png, and exits with 1 where a bound of `GATE` is missed.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench import report
from bench.dubbing import (
    CLIPS,
    CUTS,
    FITS,
    OUTPUT,
    Dub,
    Dubs,
    Ears,
    Listener,
    Mouth,
    Piece,
    joined,
    recording,
    streams,
    voice_activity,
)
from bench.foreign import ForeignLoad
from bench.gate import GATE, targets
from bench.scores import (
    Dubbed,
    border_step,
    error_rate,
    error_rate_difference,
    isochrony,
    translation,
    wer,
    word_errors,
)
from deployments.contracts.engines import ASR_RATE_HZ, Samples, TtsEngine
from deployments.contracts.values import FragmentRef
from deployments.tts.kokoro import KokoroOptions
from tests.support import whisper

DATA = Path(__file__).resolve().parent / "data"
QUICK_CASES = 1
"""Sentences of each kind that a quick run takes."""


def main() -> None:
    """Measure, tell, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only the clips of Sense and Sensibility")
    parser.add_argument("--no-ear", action="store_true", help="don't have the dub heard by a multilingual Whisper")
    given = parser.parse_args()
    if given.quick:
        report.quick()
    load, started_s = ForeignLoad(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        weights = None if given.no_ear else whisper.multilingual(Path(folder) / "whisper")
        ear = Listener(weights) if weights else None
        found = measure(ear, quick=given.quick)
    found["seconds"] = round(time.perf_counter() - started_s)
    found["ear"] = "whisper-base" if ear else whisper.MISSING
    found["foreign_percent"] = load.percent()
    judged, missed = targets(found), [name for name, holds in GATE.items() if not holds(found)]
    show(found)
    report.judge(judged)
    draw(found)
    print(f"written to {report.write('quality', found, judged)}")
    for name in missed:
        print(f"missed: {name}")
    sys.exit(bool(missed))


def kokoro() -> TtsEngine:
    """The voice of configs/local.yaml, not loaded."""
    return KokoroOptions(engine="kokoro").build()


def measure(ear: Listener | None, *, quick: bool, cuts: Sequence[str] = CUTS) -> dict[str, Any]:
    """All cuts, all fits, and the sentences."""
    transcripts = json.loads((CLIPS / "transcripts.json").read_text(encoding="utf-8"))
    references = json.loads((DATA / "references_es.json").read_text(encoding="utf-8"))["references"]
    ears, plain = Ears(), Mouth(kokoro())
    placed = Mouth(kokoro())
    mouths = {"total": plain, "placed": placed, "carried": placed}  # they learn from what they speak
    clips = streams(quick=quick)
    spoken = sentences(quick=quick)
    audio = {kind: [plain.say(case["text"]) for case in cases] for kind, cases in spoken.items()}
    said = [" ".join(transcripts[name]["text"] for name in parts) for parts in clips.values()]
    meant = [" ".join(references[name] for name in parts) for parts in clips.values()]
    found: dict[str, Any] = {}
    counts: dict[str, list[tuple[int, int]]] = {fit: [] for fit in FITS}
    for cut in cuts:
        heard = [ears.pieces(name, recording(parts), cut) for name, parts in clips.items()]
        found[cut] = words(heard, said, meant)
        heard.append(ears.pieces("sentences", joined([one for kind in audio.values() for one in kind]), cut))
        dubs = {fit: mouths[fit].dub(heard, fit) for fit in track(FITS, description=f"cut: {cut}")}
        found[cut] |= scored(dubs, ear, counts)
    if ear:
        found["misheard_more_than_total_points"] = {
            fit: error_rate_difference(counts[fit], counts["total"]) for fit in FITS[1:]
        }
    found["sentences"] = {
        kind: hearing(ears, cases, samples)
        for (kind, cases), samples in zip(spoken.items(), audio.values(), strict=True)
    }
    ears.close()
    return found


def words(heard: Sequence[Sequence[Piece]], said: Sequence[str], meant: Sequence[str]) -> dict[str, Any]:
    """What the recogniser and the translator made of whole streams."""
    lengths_ms = [piece.duration_ms for stream in heard for piece in stream]
    return {
        "wer_percent": round(wer(said, [" ".join(piece.recognition.text for piece in stream) for stream in heard]), 1),
        "translation": translation(meant, [" ".join(piece.text for piece in stream) for stream in heard]),
        "fragment_ms": {"n": len(lengths_ms), "p50": int(np.median(lengths_ms)), "max": max(lengths_ms)},
    }


def scored(dubs: dict[str, Dubs], ear: Listener | None, counts: dict[str, list[tuple[int, int]]]) -> dict[str, Any]:
    """Each way of fitting, and how long a listener waits for the words; each fragment's mistakes go to `counts`."""
    found: dict[str, Any] = {"speech_to_dub_ms": report.percentiles(waits_ms(dubs["placed"]))}
    for fit, way in dubs.items():
        found[fit] = isochrony([_as_heard(dub) for dub in way.all]) | {
            "too_long": way.too_long,
            "carried": len(way.overhang_ms),
            "border_step": max(border_step([dub.audio for dub in made], OUTPUT.sample_rate_hz) for made in way.made),
        }
        if ear:
            mistakes = [word_errors(dub.piece.text, ear.hear(dub)) for dub in way.all]
            counts[fit] += mistakes
            found[fit] |= {"misheard_words": sum(n for n, _ in mistakes), "misheard_percent": error_rate(mistakes)}
    return found


def _as_heard(dub: Dub) -> Dubbed:
    return Dubbed(
        original=voice_activity(dub.piece.samples, ASR_RATE_HZ),
        dub=voice_activity(dub.audio, OUTPUT.sample_rate_hz),
        original_ms=dub.piece.duration_ms,
        dub_ms=round(dub.audio.shape[0] * 1000 / OUTPUT.sample_rate_hz),
        speed=dub.speed,
    )


def waits_ms(dubs: Dubs) -> list[float]:
    """For each word of the original: from its end until its fragment's dub can begin.

    That is the rest of the fragment, which has to be recorded, and the time of all stages, measured here.
    """
    return [
        dub.piece.duration_ms - word.end_ms + dub.elapsed_ms
        for dub in dubs.all
        for segment in dub.piece.recognition.segments
        for word in segment.words
    ]


def sentences(*, quick: bool) -> dict[str, list[dict[str, Any]]]:
    """Known sentences, by what makes them hard."""
    kinds = json.loads((DATA / "spoken_en.json").read_text(encoding="utf-8"))["kinds"]
    return {kind: cases[:QUICK_CASES] if quick else cases for kind, cases in kinds.items()}


def hearing(ears: Ears, cases: Sequence[dict[str, Any]], audio: Sequence[Samples]) -> dict[str, Any]:
    """How the recogniser hears sentences in a synthetic voice, without the hints that some have and with them."""
    texts, hints = [case["text"] for case in cases], [case.get("hints", ()) for case in cases]
    ref = FragmentRef("sentences", "sentence", 0)
    alone = [ears.hear(ref, samples).text for samples in audio]
    hinted = [ears.hear(ref, samples, given).text for samples, given in zip(audio, hints, strict=True) if given]
    return {
        "words": sum(len(text.split()) for text in texts),
        "wer_percent": round(wer(texts, alone), 1),
        "with_hints_percent": round(wer(texts, hinted), 1) if hinted else None,
    }


def show(found: dict[str, Any]) -> None:
    """Three tables."""
    told = Table(
        "cut", "fragments", "median ms", "WER %", "chrF", "BLEU", "speech to dub ms, p50", "p95", title="Words"
    )
    dubs = Table(title="Isochrony: three ways of fitting the same words")
    for column in ("cut", "fitted", "overlap %", "outside .8–1.25 %", "speed p5", "p50", "p95", "carried", "too long"):
        dubs.add_column(column)
    for column in ("border step", "misheard %"):
        dubs.add_column(column)
    for cut in CUTS:
        row = found[cut]
        length, score, wait = row["fragment_ms"], row["translation"], row["speech_to_dub_ms"]
        cells = (length["n"], length["p50"], row["wer_percent"], score["chrf"], score["bleu"], wait["p50"], wait["p95"])
        told.add_row(cut, *map(str, cells))
        for fit in FITS:
            one = row[fit]
            keys = ("overlap_percent", "unnatural_percent", "speed_p5", "speed_p50", "speed_p95", "carried", "too_long")
            figures = [str(one[key]) for key in (*keys, "border_step")]
            dubs.add_row(cut, fit, *figures, _interval(one.get("misheard_percent")))
    spoken = Table("sentences", "words", "WER %", "with hints %", title="Sentences in a synthetic voice")
    for kind, row in found["sentences"].items():
        spoken.add_row(kind, *(str(row[key]) for key in ("words", "wer_percent", "with_hints_percent")))
    console = Console()
    for table in (told, dubs, spoken):
        console.print(table)


def _interval(found: dict[str, float] | None) -> str:
    return f"{found['median']} ({found['low']} to {found['high']})" if found else "–"


def draw(found: dict[str, Any]) -> None:
    """All ways of fitting side by side, and the wait for each cut."""
    with report.plot("quality", 4, width=3.2) as axes:
        for axis, (key, title) in zip(
            axes,
            {
                "overlap_percent": "speech overlap %",
                "unnatural_percent": "outside .8–1.25 %",
                "misheard_percent": "misheard %",
            }.items(),
            strict=False,
        ):
            for at, fit in enumerate(FITS):
                values = [found[cut][fit].get(key) for cut in CUTS]
                heights = [value["median"] if isinstance(value, dict) else value or 0 for value in values]
                axis.bar(np.arange(len(CUTS)) + 0.27 * at, heights, 0.25, label=fit)
            axis.set_xticks(np.arange(len(CUTS)) + 0.27, [f"cut: {cut}" for cut in CUTS])
            axis.set_title(title)
        for at, key in enumerate(("p50", "p95")):
            values = [found[cut]["speech_to_dub_ms"][key] / 1000 for cut in CUTS]
            axes[3].bar(np.arange(len(CUTS)) + 0.35 * at, values, 0.33, label=key)
        axes[3].set_xticks(np.arange(len(CUTS)) + 0.175, [f"cut: {cut}" for cut in CUTS])
        axes[3].set_title("from a word to its dub, s")
        axes[0].legend(loc="lower right")
        axes[3].legend(loc="lower right")


if __name__ == "__main__":
    main()
