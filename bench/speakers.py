"""Kokoro in each of its forms, in a process of its own."""

import resource
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import psutil
import soxr

from bench.voice_forms import dequantize
from deployments.contracts.engines import ASR_RATE_HZ, Line, Samples
from deployments.contracts.values import FragmentRef
from deployments.tts.kokoro import KokoroEngine, KokoroOptions, packaged_model
from serve_app.configuration.loading import load_voices

LANGUAGE = "es"
UNHURRIED_MS = 6000
MIB = 2**20
Form = Literal["packaged", "rewritten", "float32", "float16"]


@dataclass(frozen=True, slots=True)
class Way:
    """How the voice runs."""

    form: Form
    threads: int
    at_once: int = 1

    def __str__(self) -> str:
        """For tables and plots."""
        at_once = f", {self.at_once} at once" if self.at_once > 1 else ""
        return f"{self.form}, {self.threads} thread{'s' * (self.threads > 1)}{at_once}"


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
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "floats.onnx" if way.form.startswith("float") else None
        if path is not None:
            dequantize(packaged_model(), path, half=way.form == "float16")
        started_s = time.process_time()
        rewrite = way.form == "rewritten"
        _Child.engine = KokoroEngine(KokoroOptions(model_path=path, rewrite=rewrite, threads=way.threads))
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
