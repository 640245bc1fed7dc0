"""An hour of film, interrupted and gone on with: `python -m bench.film [--minutes 60] [--interruptions 10]`.

A film is made of recorded speech and a moving picture, and dubbed by `livedub dub` against the shipped echo engines,
once in one go and once with interruptions at random moments: Ctrl-C and SIGKILL in turn, each followed by `--resume`.
Prints how much memory the command takes as the film goes on, leaves bench/results/film.json, and ends with 1 where the
two results differ, a fragment that was done is sent again, or memory grows.
"""

import argparse
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from bench.report import write
from tests.support.media_matrix import ffmpeg
from tests.support.server import RunningServer, edited, start

SPEECH = Path(__file__).parents[1] / "tests" / "data" / "speech" / "two_cities.flac"
MOST_GROWTH = 1.1
"""Memory in the last third of a film over that in the first."""
SAMPLE_S = 0.25


def film(path: Path, minutes: int) -> None:
    """A moving picture and speech, over and over."""
    ffmpeg(
        *("-f", "lavfi", "-i", f"testsrc2=s=160x90:r=10:d={minutes * 60}", "-stream_loop", "-1", "-i", str(SPEECH)),
        *("-map", "0:v", "-map", "1:a", "-t", str(minutes * 60), "-c:v", "libx264", "-preset", "ultrafast"),
        *("-bf", "2", "-c:a", "aac", str(path)),
    )


def command(source: Path, server: RunningServer, *options: str) -> list[str]:
    """`livedub dub` of this environment."""
    return [
        sys.executable,
        "-m",
        "livedub",
        "dub",
        str(source),
        "--server",
        server.url,
        "--max-inflight",
        "6",
        "-q",
        *options,
    ]


def run(source: Path, server: RunningServer, *options: str) -> tuple[int, list[int]]:
    """To its end: exit code, and its memory, in bytes, as it went on."""
    process = subprocess.Popen(command(source, server, *options), stderr=subprocess.DEVNULL)
    memory: list[int] = []
    while process.poll() is None:
        try:
            memory.append(psutil.Process(process.pid).memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(SAMPLE_S)
    return process.wait(), memory


def interrupted(source: Path, server: RunningServer, moments_s: list[float]) -> list[dict[str, Any]]:
    """Interrupt it so long after each start; what was done by then."""
    told = []
    for number, moment_s in enumerate(moments_s):
        process = subprocess.Popen(command(source, server, "--resume"), stderr=subprocess.DEVNULL)
        kind = signal.SIGINT if number % 2 == 0 else signal.SIGKILL
        try:
            process.wait(timeout=moment_s)
        except subprocess.TimeoutExpired:
            process.send_signal(kind)
            process.wait()
        results = next(source.parent.glob(".livedub-*/es.jsonl"), None)
        done = len(results.read_bytes().splitlines()) if results is not None else 0
        told.append({"signal": kind.name, "exit_code": process.returncode, "done": done})
    return told


def contents(folder: Path) -> dict[str, str]:
    """What the results hold: hashes of sound and picture, and the subtitles' times."""
    media = str(folder / "film.es.mp4")
    hashes = {kind: ffmpeg("-i", media, "-map", f"0:{kind}", "-f", "md5", "-").decode().strip() for kind in ("v", "a")}
    times = re.findall(r"[\d:,]+ --> [\d:,]+", (folder / "film.es.srt").read_text(encoding="utf-8"))
    return {**hashes, "cues": str(len(times)), "times": " ".join(times)}


def main() -> int:
    """Measure and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--interruptions", type=int, default=10)
    parser.add_argument("--seed", type=int, default=14)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="livedub-film-") as name:
        whole, parts = Path(name) / "whole", Path(name) / "parts"
        for folder in (whole, parts):
            folder.mkdir()
        film(whole / "film.mp4", options.minutes)
        (parts / "film.mp4").write_bytes((whole / "film.mp4").read_bytes())
        with tempfile.TemporaryDirectory() as logs:
            server = start(edited("echo", {}, Path(logs)), Path(logs) / "log.txt")
            try:
                began_s = time.monotonic()
                code, memory = run(whole / "film.mp4", server)
                took_s = time.monotonic() - began_s
                chance = random.Random(options.seed)  # noqa: S311  # nosec B311 - moments
                most_s = 4.0 + 1.5 * took_s / options.interruptions
                moments_s = [chance.uniform(3.0, most_s) for _ in range(options.interruptions)]
                stops = interrupted(parts / "film.mp4", server, moments_s)
                last_code, _ = run(parts / "film.mp4", server, "--resume")
            finally:
                server.stop()
        third = len(memory) // 3
        growth = max(memory[-third:]) / max(memory[third // 2 : third])
        same = last_code == 0 and contents(whole) == contents(parts)
        found = {
            "minutes": options.minutes, "took_s": round(took_s, 1), "exit_codes": [code, last_code],
            "memory_mib": {"most": round(max(memory) / 2**20), "last_over_first_third": round(growth, 3)},
            "interruptions": stops, "equal": same,
        }  # fmt: skip
        write("film", found)
        print(json.dumps(found, indent=2))
        never_less = [stop["done"] for stop in stops] == sorted(stop["done"] for stop in stops)
        return 0 if same and code == last_code == 0 and growth <= MOST_GROWTH and never_less else 1


if __name__ == "__main__":
    sys.exit(main())
