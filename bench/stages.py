"""What one fragment costs in each stage of a configuration: the figures that `livedub plan` is made of.

    python -m bench.stages [configs/local.yaml] [--rounds 3] [--at-once 1] [--name WORD]

Each stage's deployment runs in a process of its own, without Ray, on fragments of real speech of 6 s as workers send
them (AAC, 48 kHz stereo), so decoding, stretching and encoding are in the figures. `--at-once 8` gives a stage eight
fragments at a time: where it batches, the milliseconds a fragment fall and those until the answer rise. On a machine
that does other things too, only the CPU milliseconds can be trusted. Writes bench/results/stages_<name>.json, the name
being `cpu` or the card's unless given.
"""

import argparse
import asyncio
import os
import re
import resource
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import psutil
from rich.console import Console
from rich.table import Table

from bench.report import write
from deployments.asr.deployment import Asr
from deployments.contracts.values import (
    AudioFormat,
    EncodedAudio,
    FragmentRef,
    SynthesizeRequest,
    TranscribeRequest,
    TranslateRequest,
)
from deployments.translation.deepl import DeepLOptions
from deployments.translation.deployment import Translation
from deployments.tts.deployment import Tts
from serve_app.configuration.loading import ConfigError, load_args, load_voices
from serve_app.configuration.schema import AppConfig
from serve_app.configuration.serve_file import args_of, read_schema, user_config_of
from serve_app.observability.gpus import count_gpus
from serve_app.operations.preflight import missing
from tests.support import clips

FRAGMENT_MS = 6000
BUDGET_MS = 120_000
SOURCE, TARGET = "en", "es"
OUTPUT = AudioFormat("m4a", 48_000, 2)
TEXT = "El portero detiene el balón sin problemas, y todo el estadio se levanta para aplaudir la jugada."
"""Spoken where no translation can be had: about 6 s of Spanish."""
MIB = 1024 * 1024
T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One stage, measured."""

    stage: str
    model: str
    fragments: int
    load_s: float
    ms_a_fragment: float
    """Time of the stage over fragments done: what its replica carries."""
    answer_ms: float
    """Median, from the call to its answer."""
    cpu_ms_a_fragment: float
    """Of all threads and children; what else the machine does is hardly in it."""
    memory_mib: int
    """Peak of the process, and its children as they are."""


async def paced(jobs: Sequence[Callable[[], Awaitable[T]]], at_once: int) -> tuple[list[T], list[float], float, float]:
    """Results, ms until each answer, seconds for all, and CPU seconds; `at_once` jobs run side by side."""
    results, answers_ms = [], []
    cpu_s, started_s = _cpu_s(), time.perf_counter()
    for first in range(0, len(jobs), at_once):
        call_s = time.perf_counter()
        results += await asyncio.gather(*(job() for job in jobs[first : first + at_once]))
        answers_ms += [(time.perf_counter() - call_s) * 1000] * len(jobs[first : first + at_once])
    return results, answers_ms, time.perf_counter() - started_s, _cpu_s() - cpu_s


def _cpu_s() -> float:
    own = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (own, *own.children(recursive=True)))


def _memory_mib() -> int:
    children = sum(child.memory_info().rss for child in psutil.Process().children(recursive=True))
    return round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + children) / MIB)


def _ref(number: int) -> FragmentRef:
    return FragmentRef(f"s-{number}", f"f-{number}", number)


def asr(config: AppConfig, user_config: Mapping[str, Any], rounds: int, at_once: int) -> tuple[Row, list[str]]:
    """Speech in, text out. Runs in a child."""

    async def work() -> tuple[Row, list[str]]:
        started_s = time.perf_counter()
        stage = Asr(config.asr.build(), config.asr.concurrency, config.decoding.processes, "WARNING")
        await stage.reconfigure(user_config)
        load_s = time.perf_counter() - started_s
        fragments = clips.adts_fragments(FRAGMENT_MS)

        def heard(number: int) -> Callable[[], Awaitable[Any]]:
            audio = EncodedAudio(fragments[number % len(fragments)], OUTPUT)
            return lambda: stage.transcribe(TranscribeRequest(_ref(number), audio, SOURCE, (), BUDGET_MS))

        await heard(0)()
        count = len(fragments) * rounds
        transcripts, *times = await paced([heard(number) for number in range(count)], at_once)
        texts = [transcript.recognition.text for transcript in transcripts[: len(fragments)]]
        return _row("Asr", transcripts[0].model, load_s, *times), texts

    return asyncio.run(work())


def translation(config: AppConfig, texts: Sequence[str], rounds: int, at_once: int) -> tuple[Row, list[str]]:
    """Text in, text out. Runs in a child."""

    async def work() -> tuple[Row, list[str]]:
        started_s = time.perf_counter()
        stage = Translation(config.translation.build(), config.translation.concurrency, "WARNING")
        load_s = time.perf_counter() - started_s

        def said(number: int) -> Callable[[], Awaitable[Any]]:
            request = TranslateRequest(
                _ref(number), texts[number % len(texts)], SOURCE, TARGET, hints=(), context="", budget_ms=BUDGET_MS
            )
            return lambda: stage.translate(request)

        await said(0)()
        translations, *times = await paced([said(number) for number in range(len(texts) * rounds)], at_once)
        return _row("Translation", translations[0].model, load_s, *times), [t.text for t in translations[: len(texts)]]

    return asyncio.run(work())


def tts(config: AppConfig, texts: Sequence[str], rounds: int, at_once: int) -> tuple[Row, list[str]]:
    """Text in, fitted and encoded speech out. Runs in a child."""

    async def work() -> tuple[Row, list[str]]:
        started_s = time.perf_counter()
        stage = Tts(config.tts.build(), load_voices(config.voices), config.fit, config.tts.concurrency, 0, "WARNING")
        load_s = time.perf_counter() - started_s
        defaults = (await stage.capabilities()).default_voices
        voice = defaults.get(TARGET) or defaults["*"]

        def spoken(number: int) -> Callable[[], Awaitable[Any]]:
            text = texts[number % len(texts)]
            request = SynthesizeRequest(_ref(number), text, voice, FRAGMENT_MS, OUTPUT, BUDGET_MS)
            return lambda: stage.synthesize(request)

        await spoken(0)()
        speeches, *times = await paced([spoken(number) for number in range(len(texts) * rounds)], at_once)
        return _row("Tts", speeches[0].model, load_s, *times), []

    return asyncio.run(work())


def _row(stage: str, model: str, load_s: float, answers_ms: Sequence[float], wall_s: float, cpu_s: float) -> Row:
    n = len(answers_ms)
    answer_ms = statistics.median(answers_ms)
    return Row(
        stage, model, n, round(load_s, 2), round(wall_s * 1000 / n, 1), round(answer_ms, 1),
        round(cpu_s * 1000 / n, 1), _memory_mib(),
    )  # fmt: skip


def alone(work: Callable[..., tuple[Row, list[str]]], *arguments: object) -> tuple[Row, list[str]]:
    """The stage in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def measure(path: Path, rounds: int, at_once: int) -> list[Row]:
    """All stages of the configuration, each on what the one before it gave."""
    schema = read_schema(path)
    lacking = [sentence for sentence in missing(args_of(schema), os.environ, count_gpus()) if "DeepL" not in sentence]
    if lacking:
        raise ConfigError(f"missing: {'; '.join(lacking)}")
    config = load_args(args_of(schema), os.environ)
    row, texts = alone(asr, config, user_config_of(schema, "Asr"), rounds, at_once)
    rows = [row]
    if not isinstance(config.translation, DeepLOptions) or config.translation.api_key is not None:
        row, texts = alone(translation, config, texts, rounds, at_once)
        rows.append(row)
    else:
        texts = [TEXT]
    rows.append(alone(tts, config, texts, rounds, at_once)[0])
    return rows


def main() -> None:
    """Measure, print, write."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("config", nargs="?", type=Path, default=Path("configs/local.yaml"))
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--at-once", type=int, default=1)
    arguments.add_argument("--name", help="of the file with the results")
    given = arguments.parse_args()
    try:
        rows = measure(given.config, given.rounds, given.at_once)
    except ConfigError as error:
        raise SystemExit(str(error)) from None
    table = Table(
        "stage", "model", "n", "load s", "ms a fragment", "answer ms", "CPU ms", "MiB", title=str(given.config)
    )
    for row in rows:
        table.add_row(*map(str, asdict(row).values()))
    Console().print(table)
    options = {"Asr": "--asr-ms", "Translation": "--translation-ms", "Tts": "--tts-ms"}
    print("livedub plan", " ".join(f"{options[row.stage]} {row.ms_a_fragment:g}" for row in rows))
    device = _device() if count_gpus() else "cpu"
    load = round(os.getloadavg()[0], 1)
    about = {"config": str(given.config), "fragment_ms": FRAGMENT_MS, "at_once": given.at_once, "device": device}
    figures = {**about, "load_average": load, "rows": [asdict(row) for row in rows]}
    target = write(f"stages_{given.name or device}", figures)
    print(f"written to {target}")


def _device() -> str:
    import pynvml  # noqa: PLC0415 - only where there is a GPU

    pynvml.nvmlInit()
    try:
        name = str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0)))
    finally:
        pynvml.nvmlShutdown()
    return re.sub(r"[^a-z0-9]+", "-", name.lower().replace("nvidia", "").replace("geforce", "")).strip("-")


if __name__ == "__main__":
    main()
