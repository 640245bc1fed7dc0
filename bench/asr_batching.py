"""What hearing fragments of several streams in one call of Whisper is worth: throughput by batch size.

`python -m bench.asr_batching [--quick] [--device cuda --compute-type float16] [--model PATH …]`. The fragments are real
speech, 6 s each, gated and timed to the word as in service. Batch sizes take turns within a round, so that what else
the machine does falls on all of them; the figures are medians over the rounds. Writes
bench/results/asr_batching_<device>.json.
"""

import argparse
import itertools
import time
from collections.abc import Sequence
from statistics import median
from typing import Any, Literal

import jiwer
from rich.console import Console
from rich.table import Table

from bench.report import write
from deployments.asr.faster_whisper import FasterWhisper, FasterWhisperOptions
from deployments.contracts import ASR_RATE_HZ, FragmentRef, Recognition, Utterance
from tests.support import clips

FRAGMENT_S = 6
HEADINGS = ("batch", "fragments/s", "RTF", "ms a call", "× one by one", "words that differ")
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


def hear(engine: FasterWhisper, spoken: Sequence[Utterance], batch: int) -> tuple[float, list[float], str]:
    """Seconds for all, ms of each call, and all that was heard."""
    took_ms, text = [], []
    started_s = time.perf_counter()
    for start in range(0, len(spoken), batch):
        call_s = time.perf_counter()
        answers = engine.transcribe(spoken[start : start + batch])
        took_ms.append((time.perf_counter() - call_s) * 1000)
        for answer in answers:
            if not isinstance(answer, Recognition):
                raise answer
            text.append(answer.text)
    return time.perf_counter() - started_s, took_ms, " ".join(text)


def measure(engine: FasterWhisper, spoken: Sequence[Utterance], batches: Sequence[int], rounds: int) -> list[Any]:
    """A row a batch size."""
    total_s: dict[int, list[float]] = {batch: [] for batch in batches}
    calls_ms: dict[int, list[float]] = {batch: [] for batch in batches}
    heard = {batch: hear(engine, spoken[:batch], batch)[2] for batch in batches}  # warms each shape up
    for _ in range(rounds):
        for batch in batches:
            took_s, took_ms, heard[batch] = hear(engine, spoken, batch)
            total_s[batch].append(took_s)
            calls_ms[batch] += took_ms
    audio_s = sum(len(utterance.samples) for utterance in spoken) / ASR_RATE_HZ
    alone_s = median(total_s[batches[0]])
    return [
        {
            "batch": batch,
            "fragments_per_s": round(len(spoken) / median(total_s[batch]), 2),
            "rtf": round(median(total_s[batch]) / audio_s, 4),
            "call_ms": round(median(calls_ms[batch]), 1),
            "times_one_by_one": round(alone_s / median(total_s[batch]), 2),
            "word_difference": round(jiwer.wer(heard[batches[0]], heard[batch]), 4),
        }
        for batch in batches
    ]


def device_name(device: Literal["cpu", "cuda"]) -> str:
    """What it ran on."""
    if device == "cpu":
        return "cpu"
    import pynvml  # noqa: PLC0415  only where there is a GPU

    pynvml.nvmlInit()
    return str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of few fragments")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--compute-type", default="int8")
    parser.add_argument("--cpu-threads", type=int, default=0)
    parser.add_argument("--model", nargs="+", default=["embedded"], help="embedded, names or directories")
    parser.add_argument("--windows", type=int, nargs="+", default=[1500, 3000], help="mel frames")
    asked = parser.parse_args()

    batches = BATCHES[asked.device]
    spoken = fragments(batches[-1] * (1 if asked.quick else 2))
    name = device_name(asked.device)
    models: dict[str, Any] = {}
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
        models[engine.model] = {}
        for frames in asked.windows:
            engine.use_window(frames)
            rows = measure(engine, spoken, batches, rounds=1 if asked.quick else 3)
            models[engine.model][f"{frames}_frames"] = rows
            table = Table(*HEADINGS, title=f"{engine.model} {asked.compute_type} on {name}, {frames} mel frames")
            for row in rows:
                table.add_row(*map(str, row.values()))
            Console().print(table)
    figures = {"device": name, "compute_type": asked.compute_type, "fragment_s": FRAGMENT_S, "models": models}
    path = write(f"asr_batching_{name.lower().replace(' ', '_')}", figures)
    Console().print(f"written to {path}")


if __name__ == "__main__":
    main()
