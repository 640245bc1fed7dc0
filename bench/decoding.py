"""What decoding apart from the model costs: a fragment decoded in the process and in a child, side by side.

`python -m bench.decoding [--rounds N]`. Fragments are real speech, 6 s, 48 kHz stereo. Both ways take turns, so that
what else the machine does falls on both; the ratio counts. Writes bench/results/decoding.json.
"""

import argparse
import time
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.report import percentiles, write
from deployments.audio import codec
from deployments.audio.decoders import Decoders
from deployments.contracts.values import AudioFormat, EncodedAudio
from deployments.errors import Stage
from tests.support import clips

FRAGMENT_MS = 6_000
FORMATS = ("m4a", "aac", "wav", "mp3", "opus", "flac", "webm")
BUDGET_MS = 30_000


def measure(pool: Decoders, container: str, rounds: int) -> dict[str, Any]:
    """Times of both ways in ms, and their ratio."""
    samples = clips.clip("two_cities.flac")[: FRAGMENT_MS * 48]
    audio = EncodedAudio(clips.encoded(np.repeat(samples, 2, axis=1), container), AudioFormat(container, 48_000, 2))
    here_ms, apart_ms = [], []

    def apart(audio: EncodedAudio) -> codec.Decoded:
        return pool.decode(audio, BUDGET_MS)

    for _ in range(rounds):
        for decode, times_ms in ((codec.decode, here_ms), (apart, apart_ms)):
            started_s = time.perf_counter()
            decode(audio)
            times_ms.append((time.perf_counter() - started_s) * 1000)
    return {
        "here_ms": percentiles(here_ms),
        "apart_ms": percentiles(apart_ms),
        "added_ms": round(median(apart_ms) - median(here_ms), 1),
        "ratio": round(median(apart_ms) / median(here_ms), 2),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    rounds = parser.parse_args().rounds
    pool = Decoders(Stage.ASR, 1)
    started_s = time.perf_counter()
    pool.start()
    start_ms = round((time.perf_counter() - started_s) * 1000)
    figures = {container: measure(pool, container, rounds) for container in FORMATS}
    pool.close()
    table = Table("format", "here p50, ms", "apart p50, ms", "added, ms", "ratio", title="6 s, 48 kHz stereo")
    for name, row in figures.items():
        values = (row["here_ms"]["p50"], row["apart_ms"]["p50"], row["added_ms"], row["ratio"])
        table.add_row(name, *map(str, values))
    console = Console()
    console.print(table)
    console.print(f"a child starts in {start_ms} ms; {write('decoding', {'start_ms': start_ms, 'formats': figures})}")


if __name__ == "__main__":
    main()
