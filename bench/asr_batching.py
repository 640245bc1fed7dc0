"""What hearing fragments of several streams in one call of Whisper is worth: throughput by batch size.

`python -m bench.asr_batching [--quick] [--device cuda --compute-type float16] [--model PATH …]`. The fragments are real
speech, 6 s each, gated and timed to the word as in service. Batch sizes take turns within a round, forwards and
backwards, so that what else the machine does falls on all of them; ratios are taken within a round, and told are
medians over the rounds. Writes bench/results/asr_batching_<device>.json.
"""

import argparse
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jiwer
from rich.console import Console
from rich.table import Table

from bench import report
from bench.foreign import ForeignLoad
from bench.report import Target, judge, median, plot, write
from deployments.asr.faster_whisper import FasterWhisper, FasterWhisperOptions
from deployments.contracts.engines import ASR_RATE_HZ, Utterance
from deployments.contracts.values import FragmentRef, Recognition
from tests.support import clips

FRAGMENT_S = 6
FRAMES_PER_S = 100
ROUNDS, QUICK_ROUNDS = 4, 2
HEADINGS = ("", "fragments/s", "CPU ms a fragment", "ms a call", "× one by one", "words that differ, %")
Rows = dict[str, dict[str, Any]]
BATCHES = {"cpu": (1, 2, 4, 8), "cuda": (1, 2, 4, 8, 16, 32)}


def fragments(wanted: int) -> list[Utterance]:
    """Fragments of real speech of one stream each, recordings repeating."""
    cut = []
    for name in clips.transcripts():
        samples = clips.clip(name, ASR_RATE_HZ)[:, 0]
        length = FRAGMENT_S * ASR_RATE_HZ
        cut += [samples[start : start + length] for start in range(0, len(samples), length)]
    long_enough = [piece for piece in cut if len(piece) >= ASR_RATE_HZ]
    repeated = itertools.islice(itertools.cycle(long_enough), wanted)
    return [Utterance(FragmentRef(f"s-{n}", f"f-{n}", n), samples, "en") for n, samples in enumerate(repeated)]


@dataclass(frozen=True, slots=True)
class Heard:
    """All fragments once, in batches of one size."""

    took_s: float
    cpu_s: float
    calls_ms: list[float]
    text: str


def hear(engine: FasterWhisper, spoken: Sequence[Utterance], batch: int) -> Heard:
    """Have them heard."""
    calls_ms, text = [], []
    started_s, started_cpu_s = time.perf_counter(), time.process_time()
    for start in range(0, len(spoken), batch):
        call_s = time.perf_counter()
        answers = engine.transcribe(spoken[start : start + batch])
        calls_ms.append((time.perf_counter() - call_s) * 1000)
        for answer in answers:
            if not isinstance(answer, Recognition):
                raise answer
            text.append(answer.text)
    took_s, cpu_s = time.perf_counter() - started_s, time.process_time() - started_cpu_s
    return Heard(took_s, cpu_s, calls_ms, " ".join(text))


def measure(engine: FasterWhisper, spoken: Sequence[Utterance], batches: Sequence[int], rounds: int) -> Rows:
    """Figures by batch size."""
    for batch in batches:
        hear(engine, spoken[:batch], batch)  # warms each shape up
    heard: dict[int, list[Heard]] = {batch: [] for batch in batches}
    for number in range(rounds):
        for batch in batches if number % 2 == 0 else reversed(batches):
            heard[batch].append(hear(engine, spoken, batch))
    alone = heard[batches[0]]
    return {
        f"batches of {batch}": {
            "fragments_per_s": median([len(spoken) / one.took_s for one in found]),
            "cpu_ms_a_fragment": median([one.cpu_s * 1000 / len(spoken) for one in found]),
            "call_ms": median([took_ms for one in found for took_ms in one.calls_ms]),
            "times_one_by_one": median([first.took_s / one.took_s for first, one in zip(alone, found, strict=True)]),
            "word_difference_percent": round(100 * jiwer.wer(alone[0].text, found[0].text), 2),
        }
        for batch, found in heard.items()
    }


def targets(rows: Rows, title: str) -> list[Target]:
    """What the largest gain and the words should be."""
    best = max(row["times_one_by_one"]["median"] for row in list(rows.values())[1:])
    differs = max(row["word_difference_percent"] for row in rows.values())
    return [
        Target(
            f"{title}: throughput of the best batch size over one by one",
            best,
            1.0,
            "times",
            at_least=True,
            because="One fragment already keeps all cores busy, so a batch saves memory traffic and nothing else.",
        ),
        Target(
            f"{title}: words that differ from one by one",
            differs,
            0.0,
            "%",
            because="Sums are taken in another order in a batch, which tips a word that was a near thing.",
        ),
    ]


def device_name(device: Literal["cpu", "cuda"]) -> str:
    """What it ran on."""
    if device == "cpu":
        return "cpu"
    import pynvml  # noqa: PLC0415  only where there is a GPU

    pynvml.nvmlInit()
    return str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0)))


def show(rows: Rows, title: str) -> None:
    """Print a row a batch size."""
    table = Table(*HEADINGS, title=title)
    for name, row in rows.items():
        cells = (row[key]["median"] for key in ("fragments_per_s", "cpu_ms_a_fragment", "call_ms", "times_one_by_one"))
        table.add_row(name, *(f"{cell:.2f}" for cell in cells), str(row["word_difference_percent"]))
    Console().print(table)


def draw(name: str, all_rows: dict[str, Rows]) -> None:
    """The gain by batch size, with its interval."""
    with plot(name, 2) as (gain, call):
        for title, rows in all_rows.items():
            sizes = [int(batch.split()[-1]) for batch in rows]
            times = [row["times_one_by_one"] for row in rows.values()]
            around = [[one["median"] - one["low"] for one in times], [one["high"] - one["median"] for one in times]]
            gain.errorbar(sizes, [one["median"] for one in times], around, marker="o", capsize=3, label=title)
            call.plot(sizes, [row["call_ms"]["median"] for row in rows.values()], marker="o", label=title)
        gain.set_title("throughput, times one by one")
        call.set_title("a call, ms")
        for axis in (gain, call):
            axis.set_xlabel("fragments in a call")
            axis.set_ylim(bottom=0)
        gain.legend()


def main() -> None:
    """Measure, print, and leave the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two rounds of few fragments")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--compute-type", default="int8")
    parser.add_argument("--cpu-threads", type=int, default=0)
    parser.add_argument("--model", nargs="+", default=["embedded"], help="embedded, names or directories")
    parser.add_argument("--windows", type=int, nargs="+", default=[1500], help="mel frames")
    asked = parser.parse_args()
    if asked.quick:
        report.quick()

    load = ForeignLoad()
    batches = BATCHES[asked.device]
    spoken = fragments(batches[-1] * (1 if asked.quick else 2))
    device = device_name(asked.device)
    found: dict[str, Rows] = {}
    for model in asked.model:
        options = FasterWhisperOptions(
            engine="faster_whisper",
            model=model,
            device=asked.device,
            compute_type=asked.compute_type,
            cpu_threads=asked.cpu_threads,
        )
        engine = FasterWhisper(options)
        engine.load()
        for frames in asked.windows:
            engine.use_window(frames)
            title = f"{engine.model}, window of {frames / FRAMES_PER_S:g} s"
            found[title] = measure(engine, spoken, batches, QUICK_ROUNDS if asked.quick else ROUNDS)
            show(found[title], f"{title}, {asked.compute_type} on {device}")
    judged = [target for title, rows in found.items() for target in targets(rows, title)]
    judge(judged)
    name = f"asr_batching_{device.lower().replace(' ', '_')}"
    draw(name, found)
    about = {"device": device, "compute_type": asked.compute_type, "fragment_s": FRAGMENT_S}
    path = write(name, about | found | {"foreign_percent": load.percent()}, judged)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
