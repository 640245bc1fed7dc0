"""What one fragment costs: every figure that a plan is made of, with where it comes from. PURE.

On a CPU: milliseconds of CPU time, measured by `python -m bench.stages` on fragments of 6 s. On a GPU: real-time
factors that others have published; none of them was measured by this project. A card that has no figure is not planned
for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

CPU = "cpu"
MEASURED_FRAGMENT_S = 6.0
"""What CPU figures were measured on."""


class How(StrEnum):
    """How far a figure can be trusted."""

    MEASURED = "measured"
    """By this project, with a command that is named."""
    CITED = "cited"
    """Somebody published it; nobody checked it here."""
    ESTIMATED = "estimated"
    """Derived from another figure, or from the size of the weights."""
    CONFIGURED = "configured"
    """The bound that the configuration sets, where nothing better is known."""
    GIVEN = "given"
    """On the command line."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with its source."""

    value: float
    how: How
    source: str


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU that can be planned for."""

    name: str
    memory_gib: float | None
    """None: not known."""


CARDS = {
    "v100s": Card("v100s", 32.0),
    "rtx-2080-ti": Card("rtx-2080-ti", 11.0),
    "rtx-3070-ti": Card("rtx-3070-ti", 8.0),
    "rtx-3080": Card("rtx-3080", 10.0),
    "rtx-3090": Card("rtx-3090", 24.0),
    "rtx-4090": Card("rtx-4090", 24.0),
}

_README = "https://github.com/SYSTRAN/faster-whisper README"
_LONG = "a recording of 13 minutes, beam 5, float16"
_SHORT = "a smaller model or a faster card, beam 1, but fragments so short that more of each is padding"
_README_3070_TI = f"{_README}: large-v2 in 63 s, {_LONG}, on an RTX 3070 Ti"
_ISSUE_1030 = "https://github.com/SYSTRAN/faster-whisper/issues/1030"
WHISPER: Mapping[str, Mapping[str, tuple[float, str]]] = {
    "v100s": {"large-v2": (54 / 780, f"{_README} until November 2024: large-v2 in 54 s, {_LONG}, on a Tesla V100S")},
    "rtx-2080-ti": {
        "large-v3": (52.0 / 780, f"{_ISSUE_1030}: large-v3 in 52.0 s, {_LONG}, on an RTX 2080 Ti"),
        "large-v3-turbo": (19.2 / 780, f"{_ISSUE_1030}: large-v3-turbo in 19.2 s, {_LONG}, on an RTX 2080 Ti"),
    },
    "rtx-3070-ti": {"large-v2": (63 / 780, _README_3070_TI)},
}
"""Card and model to published real-time factors of faster-whisper, one recording at a time."""
_SLOWER = {"rtx-3080": "rtx-3070-ti", "rtx-3090": "rtx-3070-ti", "rtx-4090": "rtx-3070-ti"}
"""Cards without a figure of Whisper, to a smaller card of the same or an older generation that has one."""
_NOT_LARGER = frozenset({"small", "small.en", "medium", "medium.en", "large-v3-turbo", "turbo", "distil-large-v3"})
"""Models that take no longer than a large one does."""
_LARGE = ("large-v2", "large-v3")

_ISSUE_261 = "https://github.com/KoljaB/RealtimeTTS/issues/261"
_ISSUE_429 = "https://github.com/erew123/alltalk_tts/issues/429"
_ONE = "one text at a time, without DeepSpeed; the host's CPU decides"
XTTS: Mapping[str, tuple[float, str]] = {
    "rtx-3080": (0.30, f"{_ISSUE_261}: 0.28 to 0.30 with a Ryzen 7 9700X; {_ONE}"),
    "rtx-3090": (
        0.30,
        f"{_ISSUE_261}: 0.2 to 0.3 with a Ryzen 5 3600, but 1.05 to 1.2 with a Xeon E5-2650 v2; {_ONE}",
    ),
    "rtx-4090": (
        3.8 / 14,
        f"{_ISSUE_429}: 14 s of speech in 3.8 s; perhaps with DeepSpeed, else as the others",
    ),
}
"""Card to published real-time factors of XTTS v2."""

_STAGES = "python -m bench.stages, bench/results/stages_cpu.json, AMD EPYC, 2 cores"
_ESPEAK = "python -m bench.stages, bench/results/stages_cpu_espeak.json, AMD EPYC, 2 cores"
CPU_MS: Mapping[tuple[str, str], Figure] = {
    ("faster_whisper", "embedded"): Figure(496.2, How.MEASURED, f"Whisper tiny.en, int8: {_STAGES}"),
    ("apertium", ""): Figure(1.9, How.MEASURED, f"Apertium: {_STAGES}"),
    ("kokoro", ""): Figure(4676.7, How.MEASURED, f"Kokoro, int8: {_STAGES}"),
    ("espeak", ""): Figure(245.0, How.MEASURED, f"espeak-ng, stretching and encoding: {_ESPEAK}"),
    ("xtts", ""): Figure(
        2.7 * 2 * 6000,
        How.ESTIMATED,
        "XTTS v2 of full size at 2.7 times real time on two cores (docs/design/models.md)",
    ),
}
"""Engine and model to CPU milliseconds of a fragment of 6 s, all threads together."""
HOST_MEMORY_MIB: Mapping[tuple[str, str], Figure] = {
    ("faster_whisper", "embedded"): Figure(490, How.MEASURED, _STAGES),
    ("apertium", ""): Figure(283, How.MEASURED, _STAGES),
    ("kokoro", ""): Figure(669, How.MEASURED, _STAGES),
    ("espeak", ""): Figure(112, How.MEASURED, _ESPEAK),
    ("deepl", ""): Figure(300, How.ESTIMATED, "as a replica with Apertium, whose process holds no model either"),
    ("faster_whisper", ""): Figure(4096, How.ESTIMATED, "weights on their way to the card, and CUDA's libraries"),
    ("xtts", ""): Figure(6144, How.ESTIMATED, "a checkpoint of 1.9 GB beside the model, torch, CUDA's libraries"),
}
"""Engine and model to the main memory of one replica."""
GPU_MEMORY_GIB: Mapping[tuple[str, str], Figure] = {
    ("faster_whisper", "medium"): Figure(3.0, How.ESTIMATED, "medium, float16: weights of 1.5 GB and room for batches"),
    ("faster_whisper", "large-v2"): Figure(6.0, How.CITED, f"{_README}: large-v2, float16, 6090 MB in batches of 8"),
    ("faster_whisper", "large-v3"): Figure(6.0, How.ESTIMATED, "as large-v2, whose size it has"),
    ("faster_whisper", "large-v3-turbo"): Figure(2.5, How.CITED, f"{_ISSUE_1030}: 2537 MB, one recording at a time"),
    ("xtts", ""): Figure(4.0, How.ESTIMATED, "XTTS v2, GPT in float16: weights of 1.9 GB and room for batches"),
}
"""Engine and model to the card's memory that one replica needs; `configs/prod.yaml` says the same."""

INGRESS_MS = Figure(
    19.2, How.MEASURED, "make bench, bench/results/overhead.json: in the server around the models, AMD EPYC, 2 cores"
)
INGRESS_MEMORY_MIB = Figure(
    445, How.MEASURED, "make slow-clients, bench/results/slow_clients.json: once 20 clients had come and gone"
)


def cpu_ms(engine: str, model: str) -> Figure | None:
    """CPU milliseconds of a fragment of `MEASURED_FRAGMENT_S`."""
    return CPU_MS.get((engine, model)) or CPU_MS.get((engine, ""))


def host_memory_mib(engine: str, model: str) -> Figure | None:
    """Main memory of a replica."""
    return HOST_MEMORY_MIB.get((engine, model)) or HOST_MEMORY_MIB.get((engine, ""))


def gpu_memory_gib(engine: str, model: str) -> Figure | None:
    """A card's memory that a replica needs."""
    return GPU_MEMORY_GIB.get((engine, model)) or GPU_MEMORY_GIB.get((engine, ""))


def real_time_factor(engine: str, model: str, card: str) -> Figure | None:
    """Seconds of a card's time for a second of sound; None: nobody has published it, as far as is known here."""
    if engine == "xtts" and card in XTTS:
        return Figure(XTTS[card][0], How.CITED, XTTS[card][1])
    if engine == "faster_whisper":
        return _whisper(model, card)
    return None


def _whisper(model: str, card: str) -> Figure | None:
    measured_on = _SLOWER.get(card, card)
    known = WHISPER.get(measured_on, {})
    like = model if model in known else next((large for large in _LARGE if large in known), None)
    if like is None or (like != model and model not in _NOT_LARGER):
        return None
    factor, source = known[like]
    if (like, measured_on) == (model, card):
        return Figure(factor, How.CITED, source)
    return Figure(factor, How.ESTIMATED, f"{source}; taken for {model} on {card}: {_SHORT}")
