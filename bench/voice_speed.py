"""What the neural voice costs, as it is packaged and as it ships here, and whether it is understood as well.

    python -m bench.voice_speed [--quick] [--name WORD]

The same Spanish sentences are spoken by Kokoro in processes of their own, turn by turn: the packaged model as it is,
with its convolutions rewritten, and with convolutions of floats; on one thread and on two; and two sentences at a time
on one thread each. CPU seconds hold on a busy machine; seconds of waiting don't. What a listener understands is judged
by a multilingual Whisper that hears both ways of speaking that may ship (see `make quality`). On CPUs without VNNI, or
where ONNX Runtime can be kept from it, the targets are others. Writes voice_speed.json and voice_speed.png, or with a
name voice_speed_<name>.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench import report
from bench.foreign import ForeignLoad
from bench.report import Target
from bench.scores import wer
from bench.speakers import LANGUAGE, Loaded, Speaker, Spell, Way
from deployments.tts import kokoro_graph
from tests.support import whisper

SENTENCES = Path(__file__).resolve().parent / "data" / "spoken_es.json"
SPEED_UP, MISHEARD_POINTS = 1.5, 2.0
FASTEST = 1.0
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "asimddp", "i8mm")
"""Of a CPU, that decide how fast bytes are summed."""


WAYS = (
    *(Way(form, threads) for form in ("packaged", "rewritten") for threads in (1, 2)),
    Way("rewritten", 1, at_once=2),
    Way("float32", 1),
    Way("float16", 1),
)


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
    for name in ("packaged", "rewritten"):
        way = Way(name, 2)
        heard = []
        for text in track(texts, description=f"listening: {name}"):
            parts, _ = ear.transcribe(speakers[way].samples(text), language=LANGUAGE, beam_size=1)
            heard.append(" ".join(part.text for part in parts))
        found[name] = round(wer(texts, heard), 2)
    return found


def judged(ways: dict[Way, Measured], understood: dict[str, float], *, exact: bool = True) -> list[Target]:
    """The speed-up in CPU time on one thread, and what it costs in understanding.

    Args:
        ways: what was measured.
        understood: percent of words misheard.
        exact: whether this CPU sums products of bytes exactly, as those with VNNI do.
    """
    cpu = {
        way.form: report.median([s.cpu for s in one.spells])["median"]
        for way, one in ways.items()
        if way.threads == way.at_once == 1
    }
    shipped = cpu.pop("rewritten")
    if exact:
        found, bound, what = cpu["packaged"] / shipped, SPEED_UP, "as packaged"
    else:
        found, bound, what = min(cpu.values()) / shipped, FASTEST, "in the fastest other form"
    targets = [
        Target(
            f"CPU time of the neural voice {what}, over that as shipped",
            round(found, 2),
            bound,
            at_least=True,
            because="The gain is that of signed over unsigned 8-bit products, which is largest on CPUs with VNNI.",
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


def draw(name: str, ways: dict[Way, Measured]) -> None:
    """CPU time and waiting by way."""
    names = [str(way) for way in ways]
    rows = [measured.figures() for measured in ways.values()]
    colours = ["tab:blue" if way.form == "rewritten" else "tab:orange" for way in ways]
    with report.plot(name, 2, width=5.5) as axes:
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


def flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Those of FLAGS that the machine has, whatever ONNX Runtime makes of them."""
    found = set(cpuinfo.read_text(encoding="utf-8").split()) if cpuinfo.exists() else set()
    return ", ".join(flag for flag in FLAGS if flag in found) or "not known"


def main() -> None:
    """Measure, tell, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer sentences")
    parser.add_argument("--name", help="what to call the results, as those of another CPU")
    given = parser.parse_args()
    name = f"voice_speed_{given.name}" if given.name else "voice_speed"
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
    exact = kokoro_graph.products_are_exact()
    targets = judged(ways, understood, exact=exact)
    show(ways, understood)
    draw(name, ways)
    report.judge(targets)
    figures = {
        "foreign_percent": foreign.percent(),
        "cpu_flags": flags(),
        "sums_of_bytes_are_exact": exact,
        "sentences": {"timed": len(spoken), "heard": len(listened) if understood else 0},
        "ways": {str(way): measured.figures() for way, measured in ways.items()},
        "misheard_percent": understood,
    }
    print(f"written to {report.write(name, figures, targets)}")


if __name__ == "__main__":
    main()
