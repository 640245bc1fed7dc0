"""How requests of several streams best share one card with XTTS v2. Prints a table, writes JSON.

    python -m bench.xtts_sharing [--quick] [--tiny]

The weights are random and of the published model's full size (unless `--tiny`): how long a step takes depends on sizes
and not on values, and each fragment is made exactly as long as asked for. What it says is noise, so nothing here speaks
of quality. Ways that are compared, each on the same fragments:

- one at a time: what the library does;
- threads: several, each with its own state, on one copy of the weights;
- processes: several with a copy each, which is what several replicas on one card are;
- batch: several sentences in one pass of the GPT, which is what the engine does;
- stream: the library's `inference_stream`, for the time to its first chunk;
- vocoder: no way, but the part of each fragment that a batch doesn't share.

Writes bench/results/xtts_sharing_<device>.json.
"""

import argparse
import copy
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from bench.report import write
from deployments.tts.xtts_model import Latents, Sampling, Sentence, XttsModel
from tests.support.xtts_checkpoint import SPEAKERS, write_full, write_tiny

TEXT = "El portero detiene el balón sin problemas, y todo el estadio se levanta para aplaudir la jugada."
FRAGMENT_S = 6.0
WARM_S = 0.5


@dataclass(frozen=True)
class Row:
    """One way, measured."""

    way: str
    precision: str
    fragments: int
    wall_s: float
    times_real_time: float
    """Seconds of speech a second: about the streams that it carries at most."""
    median_latency_s: float
    """Of a fragment, from the start of its own computation to its samples; waiting for a turn is not in it."""
    first_chunk_s: float | None
    peak_memory_gib: float | None
    """Of torch's allocator, all processes together."""


class Card:
    """The model on the device that is there."""

    def __init__(self, folder: Path, *, half: bool, fragment_s: float) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.precision = "float16" if half else "float32"
        self.model = XttsModel(folder, self.device, Sampling())
        self.voices = [self.model.built_in(name) for name in SPEAKERS]
        self.fragment_s = fragment_s
        if half:
            self.model.halve()
        speak(self.model, [self.sentence(0, WARM_S)])

    def sentence(self, number: int, seconds: float | None = None) -> Sentence:
        """A fragment's text; fragments take turns with the voices."""
        voice: Latents = self.voices[number % len(self.voices)]
        sentence = self.model.sentence(TEXT, "es", voice, seconds or self.fragment_s)
        if sentence is None:
            raise ValueError("the text is too long for the model")
        return sentence

    def row(self, way: str, latencies_s: Sequence[float], wall_s: float, first_chunk_s: float | None = None) -> Row:
        """The figures of one way."""
        spoken_s = len(latencies_s) * self.fragment_s
        memory = torch.cuda.max_memory_reserved() / 2**30 if self.device == "cuda" else None
        return Row(
            way,
            self.precision,
            len(latencies_s),
            round(wall_s, 3),
            round(spoken_s / wall_s, 2),
            round(statistics.median(latencies_s), 3),
            first_chunk_s if first_chunk_s is None else round(first_chunk_s, 3),
            memory if memory is None else round(memory, 2),
        )


def speak(model: XttsModel, sentences: Sequence[Sentence]) -> float:
    """Speak them in one pass; seconds until all samples are there (they are copied to the CPU, so the card is done)."""
    started_s = time.perf_counter()
    for sentence, speech in zip(sentences, model.generate(sentences), strict=True):
        model.vocode(speech, sentence.voice, 1.0)
    return time.perf_counter() - started_s


def timed(work: Callable[[], list[float]]) -> tuple[list[float], float]:
    """The latencies that the work gives, and its own seconds."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    started_s = time.perf_counter()
    latencies_s = work()
    return latencies_s, time.perf_counter() - started_s


def in_batches(card: Card, count: int, batch: int) -> Row:
    """`batch` sentences a pass."""

    def work() -> list[float]:
        latencies_s: list[float] = []
        for first in range(0, count, batch):
            sentences = [card.sentence(number) for number in range(first, min(first + batch, count))]
            latencies_s += [speak(card.model, sentences)] * len(sentences)
        return latencies_s

    return card.row("one at a time" if batch == 1 else f"batch {batch}", *timed(work))


def in_threads(card: Card, count: int, threads: int) -> Row:
    """Threads with a view of one model each."""
    views = [_view(card.model) for _ in range(threads)]

    def one(number: int) -> list[float]:
        return [speak(views[number], [card.sentence(each)]) for each in range(number, count, threads)]

    def work() -> list[float]:
        with ThreadPoolExecutor(threads) as pool:
            return [latency_s for share in pool.map(one, range(threads)) for latency_s in share]

    return card.row(f"{threads} threads", *timed(work))


def _view(model: XttsModel) -> XttsModel:
    """The same weights with a state of its own: the library keeps the current text's prefix on `gpt_inference`."""
    view, xtts = copy.copy(model), _own(model._model)  # noqa: SLF001 - the engine has no use for views
    gpt = _own(xtts.gpt)
    gpt._modules["gpt_inference"] = _own(gpt.gpt_inference)  # noqa: SLF001
    xtts._modules["gpt"] = gpt  # noqa: SLF001
    view._model = xtts  # noqa: SLF001
    return view


def _own(module: Any) -> Any:
    shallow = copy.copy(module)
    shallow._modules = dict(module._modules)  # noqa: SLF001
    return shallow


def in_stream(card: Card, count: int) -> Row:
    """The library's streaming inference, one at a time, in float32."""
    firsts_s: list[float] = []
    xtts: Any = card.model._model  # noqa: SLF001
    steps = round(card.fragment_s / 1024 * 22_050)

    def one(number: int) -> float:
        voice = card.voices[number % len(card.voices)]
        started_s = time.perf_counter()
        chunks = xtts.inference_stream(
            TEXT, "es", voice.conditioning, voice.embedding, stream_chunk_size=20, max_new_tokens=steps
        )
        for position, chunk in enumerate(chunks):
            chunk.cpu()
            if position == 0:
                firsts_s.append(time.perf_counter() - started_s)
        return time.perf_counter() - started_s

    latencies_s, wall_s = timed(lambda: [one(number) for number in range(count)])
    return card.row("stream", latencies_s, wall_s, statistics.median(firsts_s))


def in_processes(folder: Path, count: int, processes: int, *, half: bool, fragment_s: float) -> Row:
    """Processes with a copy of the weights each; loading is not in the time."""
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(processes), context.Queue()
    share = max(1, count // processes)
    arguments = (folder, share, barrier, answers)
    workers = [
        context.Process(target=_work_alone, args=arguments, kwargs={"half": half, "fragment_s": fragment_s})
        for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    shares = [answers.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
    latencies_s = [latency_s for _, _, latencies_s, _ in shares for latency_s in latencies_s]
    wall_s = max(end for _, end, _, _ in shares) - min(start for start, _, _, _ in shares)
    memory = [memory for *_, memory in shares if memory is not None]
    return Row(
        f"{processes} processes",
        "float16" if half else "float32",
        len(latencies_s),
        round(wall_s, 3),
        round(len(latencies_s) * fragment_s / wall_s, 2),
        round(statistics.median(latencies_s), 3),
        None,
        round(sum(memory), 2) if memory else None,
    )


def _work_alone(folder: Path, share: int, barrier: Any, answers: Any, *, half: bool, fragment_s: float) -> None:
    card = Card(folder, half=half, fragment_s=fragment_s)
    sentences = [card.sentence(number) for number in range(share)]
    barrier.wait(timeout=120)
    started_s = time.time()  # one clock for all processes of the machine
    latencies_s = [speak(card.model, [sentence]) for sentence in sentences]
    memory = torch.cuda.max_memory_reserved() / 2**30 if card.device == "cuda" else None
    answers.put((started_s, time.time(), latencies_s, memory))


def vocoder_alone(card: Card, count: int) -> Row:
    """From what the GPT said to samples."""
    sentence = card.sentence(0)
    (speech,) = card.model.generate([sentence])

    def one() -> float:
        started_s = time.perf_counter()
        card.model.vocode(speech, sentence.voice, 1.0)
        return time.perf_counter() - started_s

    return card.row("vocoder", *timed(lambda: [one() for _ in range(count)]))


def measure(folder: Path, count: int, fragment_s: float, show: Callable[[Row], None]) -> None:
    """All ways on this device, what the engine does there first."""
    cuda = torch.cuda.is_available()
    for half in (True, False) if cuda else (False,):
        card = Card(folder, half=half, fragment_s=fragment_s)
        for batch in (1, 2, 4, 8, 16) if cuda else (1, 2, 4):
            show(in_batches(card, max(count, batch), batch))
        show(vocoder_alone(card, count))
        for threads in (2, 4):
            show(in_threads(card, count, threads))
        if not half:
            show(in_stream(card, max(2, count // 4)))
        del card
    for processes in (2, 4):
        show(in_processes(folder, count, processes, half=cuda, fragment_s=fragment_s))


def _tiny(folder: Path) -> Path:
    return write_tiny(folder, ends=False)


def main() -> None:
    """Measure, print, write."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="8 fragments a way in place of 64")
    arguments.add_argument("--tiny", action="store_true", help="a tiny model and short fragments, to try the bench")
    given = arguments.parse_args()
    count, fragment_s = (4, 1.0) if given.tiny else (8 if given.quick else 64, FRAGMENT_S)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    size = "tiny" if given.tiny else "full XTTS v2"
    about = f"{device}, torch {torch.__version__}; RANDOM weights, {size} size; fragments of {fragment_s:g} s, noise"
    print(about, flush=True)
    print(f"{'way':<15}{'precision':<11}{'x real time':>12}{'latency s':>11}{'1st chunk s':>13}{'GiB':>7}", flush=True)
    rows: list[Row] = []

    def show(row: Row) -> None:
        rows.append(row)
        first, memory = (f"{each:g}" if each is not None else "" for each in (row.first_chunk_s, row.peak_memory_gib))
        print(
            f"{row.way:<15}{row.precision:<11}{row.times_real_time:>12}{row.median_latency_s:>11}{first:>13}{memory:>7}",
            flush=True,
        )

    with tempfile.TemporaryDirectory() as folder:
        path = (_tiny if given.tiny else write_full)(Path(folder))
        try:
            measure(path, count, fragment_s, show)
        finally:
            name = f"xtts_sharing_{'cuda' if torch.cuda.is_available() else 'cpu'}{'_tiny' if given.tiny else ''}"
            target = write(name, {"about": about, "device": device, "rows": [asdict(row) for row in rows]})
    print(f"written to {target}")


if __name__ == "__main__":
    main()
