"""What the neural voice costs, as it is packaged and as it ships here, and whether it is understood as well.

    python -m bench.voice_speed [--quick]

The same Spanish sentences are spoken by Kokoro in processes of their own, turn by turn: the packaged model as it is,
and with its convolutions rewritten; on one thread and on two; and two sentences at a time on one thread each. CPU
seconds hold on a busy machine; seconds of waiting don't. What a listener understands is judged by a multilingual
Whisper that hears both ways of speaking (see `make quality`). Writes voice_speed.json and voice_speed.png.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import soxr
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench import report
from bench.foreign import ForeignLoad
from bench.report import Target
from bench.scores import wer
from deployments.contracts import ASR_RATE_HZ, FragmentRef, Line, Samples
from deployments.tts.kokoro import KokoroEngine, KokoroOptions
from serve_app.config import load_voices
from tests.support import whisper

SENTENCES = Path(__file__).resolve().parent / "data" / "spoken_es.json"
LANGUAGE = "es"
UNHURRIED_MS = 6000
MIB = 2**20
SPEED_UP, MISHEARD_POINTS = 1.5, 2.0


@dataclass(frozen=True, slots=True)
class Way:
    """How the voice runs."""

    rewrite: bool
    threads: int
    at_once: int = 1

    def __str__(self) -> str:
        """For tables and plots."""
        at_once = f", {self.at_once} at once" if self.at_once > 1 else ""
        return (
            f"{'rewritten' if self.rewrite else 'packaged'}, {self.threads} thread{'s' * (self.threads > 1)}{at_once}"
        )


WAYS = (Way(False, 1), Way(False, 2), Way(True, 1), Way(True, 2), Way(True, 1, at_once=2))


@dataclass(frozen=True, slots=True)
class Spell:
    """Some sentences, spoken."""

    speech_s: float
    cpu_s: float
    wall_s: float

    @property
    def cpu(self) -> float:
        """CPU seconds for a second of speech."""
        return self.cpu_s / self.speech_s

    @property
    def wall(self) -> float:
        """The real-time factor of all of them together."""
        return self.wall_s / self.speech_s


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a voice takes before it speaks, and while it does."""

    load_cpu_s: float
    peak_mib: int
    """While it was loaded."""


class Speaker:
    """One way of running the voice, in a process of its own."""

    def __init__(self, way: Way) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        self.loaded: Loaded = self._pool.submit(_load, way).result()

    def speak(self, texts: Sequence[str]) -> Spell:
        """Speak them, and throw the speech away."""
        return self._pool.submit(_speak, texts).result()

    def samples(self, text: str) -> Samples:
        """What is spoken, at the ASR's rate."""
        return self._pool.submit(_samples, text).result()

    def memory_mib(self) -> int:
        """As it is."""
        return self._pool.submit(_memory_mib).result()

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown()


class _Child:
    """What the process of a Speaker holds."""

    engine: KokoroEngine
    line: Line
    threads: ThreadPoolExecutor


def _load(way: Way) -> Loaded:
    voices, defaults = load_voices("configs/voices.json").for_engine(frozenset({"kokoro"}))
    voice = voices[defaults[LANGUAGE]]
    started_s = time.process_time()
    _Child.engine = KokoroEngine(KokoroOptions(rewrite=way.rewrite, threads=way.threads))
    _Child.engine.load({voice.name: voice})
    load_cpu_s = time.process_time() - started_s
    _Child.line = Line(FragmentRef("voice", "sentence", 0), "", voice, UNHURRIED_MS)
    _Child.threads = ThreadPoolExecutor(way.at_once)
    return Loaded(round(load_cpu_s, 2), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // MIB)


def _seconds(text: str) -> float:
    spoken = _Child.engine.speak(_line(text))
    return float(spoken.samples.shape[0] / spoken.sample_rate_hz)


def _line(text: str) -> Line:
    return Line(_Child.line.ref, text, _Child.line.voice, _Child.line.target_duration_ms)


def _speak(texts: Sequence[str]) -> Spell:
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    speech_s = sum(_Child.threads.map(_seconds, texts))
    return Spell(speech_s, time.process_time() - cpu_s, time.perf_counter() - wall_s)


def _samples(text: str) -> Samples:
    spoken = _Child.engine.speak(_line(text))
    resampled: Samples = soxr.resample(spoken.samples, spoken.sample_rate_hz, ASR_RATE_HZ)
    return resampled


def _memory_mib() -> int:
    return int(psutil.Process().memory_info().rss // MIB)


@dataclass
class Measured:
    """All spells of one way."""

    loaded: Loaded
    spells: list[Spell] = field(default_factory=list)
    memory_mib: int = 0

    def figures(self) -> dict[str, Any]:
        """CPU seconds and waiting for a second of speech, the load and the memory."""
        cpu, wall = ([getattr(spell, name) for spell in self.spells] for name in ("cpu", "wall"))
        medians = {"cpu_s_a_second": report.median(cpu), "real_time_factor": report.median(wall)}
        rounded = {name: {key: round(value, 3) for key, value in row.items()} for name, row in medians.items()}
        load = {"load_cpu_s": self.loaded.load_cpu_s, "load_peak_mib": self.loaded.peak_mib}
        return rounded | load | {"memory_mib": self.memory_mib}


def measure(speakers: dict[Way, Speaker], texts: Sequence[str], rounds: int) -> dict[Way, Measured]:
    """Every way, turn by turn, forwards and backwards; the first sentence of each warms it and is left out."""
    found = {way: Measured(speaker.loaded) for way, speaker in speakers.items()}
    for speaker in speakers.values():
        speaker.speak(texts[:1])
    for turn in track(range(2 * rounds), description="speaking"):
        for way in WAYS if turn % 2 == 0 else reversed(WAYS):
            found[way].spells.append(speakers[way].speak(texts))
    for way, speaker in speakers.items():
        found[way].memory_mib = speaker.memory_mib()
    return found


def misheard(speakers: dict[Way, Speaker], texts: Sequence[str]) -> dict[str, float]:
    """Percent of the words that Whisper hears wrong, of each model's speech; empty where there is no such Whisper."""
    from faster_whisper import WhisperModel  # noqa: PLC0415 - only where there is somebody to listen

    with tempfile.TemporaryDirectory() as folder:
        weights = whisper.multilingual(Path(folder) / "whisper")
        if weights is None:
            return {}
        ear = WhisperModel(str(weights), device="cpu", compute_type="int8")
    found = {}
    for name, way in (("packaged", Way(False, 2)), ("rewritten", Way(True, 2))):
        heard = []
        for text in track(texts, description=f"listening: {name}"):
            parts, _ = ear.transcribe(speakers[way].samples(text), language=LANGUAGE, beam_size=1)
            heard.append(" ".join(part.text for part in parts))
        found[name] = round(wer(texts, heard), 2)
    return found


def judged(ways: dict[Way, Measured], understood: dict[str, float]) -> list[Target]:
    """The speed-up in CPU time on one thread, and what it costs in understanding."""
    packaged, rewritten = (report.median([s.cpu for s in ways[Way(way, 1)].spells])["median"] for way in (False, True))
    targets = [
        Target(
            "CPU time of the neural voice as packaged, over that as shipped",
            round(packaged / rewritten, 2),
            SPEED_UP,
            at_least=True,
            because="The gain is that of signed over unsigned 8-bit products, which only CPUs with VNNI have.",
        )
    ]
    if understood:
        points = round(understood["rewritten"] - understood["packaged"], 2)
        because = "The sums are the same and only rounding differs, so a difference is one of a few words."
        targets.append(
            Target(
                "Words misheard as shipped, beyond those as packaged",
                points,
                MISHEARD_POINTS,
                "points",
                because=because,
            )
        )
    return targets


def show(ways: dict[Way, Measured], understood: dict[str, float]) -> None:
    """Print a row for each way."""
    title = "Kokoro, for a second of speech"
    table = Table("", "CPU s", "95 %", "real time", "load CPU s", "peak MiB", "MiB", title=title)
    for way, measured in ways.items():
        row = measured.figures()
        cpu = row["cpu_s_a_second"]
        interval, waited = f"{cpu['low']}–{cpu['high']}", row["real_time_factor"]["median"]
        load = (row["load_cpu_s"], row["load_peak_mib"], row["memory_mib"])
        table.add_row(str(way), str(cpu["median"]), interval, str(waited), *map(str, load))
    Console().print(table)
    for name, percent in understood.items():
        print(f"misheard, {name}: {percent} % of the words")


def draw(ways: dict[Way, Measured]) -> None:
    """CPU time and waiting by way."""
    names = [str(way) for way in ways]
    rows = [measured.figures() for measured in ways.values()]
    colours = ["tab:orange" if not way.rewrite else "tab:blue" for way in ways]
    with report.plot("voice_speed", 2, width=5.5) as axes:
        for axis, (key, title) in zip(
            axes,
            (("cpu_s_a_second", "CPU s for a second of speech"), ("real_time_factor", "s of waiting for a second")),
            strict=True,
        ):
            middles = [row[key]["median"] for row in rows]
            errors = [[row[key]["median"] - row[key]["low"] for row in rows]]
            errors.append([row[key]["high"] - row[key]["median"] for row in rows])
            axis.barh(names, middles, xerr=errors, color=colours)
            axis.invert_yaxis()
            axis.set_title(title)


def main() -> None:
    """Measure, tell, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer sentences")
    given = parser.parse_args()
    if given.quick:
        report.quick()
    texts = json.loads(SENTENCES.read_text(encoding="utf-8"))["sentences"]
    spoken, rounds, listened = (texts[:1], 1, texts[:2]) if given.quick else (texts[:2], 2, texts[:20])
    foreign = ForeignLoad()
    speakers = {way: Speaker(way) for way in WAYS}
    ways = measure(speakers, spoken, rounds)
    understood = misheard(speakers, listened)
    for speaker in speakers.values():
        speaker.close()
    targets = judged(ways, understood)
    show(ways, understood)
    draw(ways)
    report.judge(targets)
    figures = {
        "foreign_percent": foreign.percent(),
        "sentences": {"timed": len(spoken), "heard": len(listened) if understood else 0},
        "ways": {str(way): measured.figures() for way, measured in ways.items()},
        "misheard_percent": understood,
    }
    print(f"written to {report.write('voice_speed', figures, targets)}")


if __name__ == "__main__":
    main()
