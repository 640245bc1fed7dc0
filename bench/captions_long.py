"""What live captions make of sound without words, and whether a long session grows.

    python -m bench.captions_long [--quick]

configs/local.yaml with Moonshine for interims. Ten minutes each of digital silence, of noise and of music are sent to
`/v1/listen` faster than they last; every word that is shown, in an interim or a final, is an invention. Then one
session of an hour of speech with pauses; the memory of the ingress is looked at on the way.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from bench import report
from bench.captions import CLIPS, PAUSE_MS, programme
from bench.foreign import ForeignLoad
from bench.report import Target, judge, write
from bench.soak import kind_of
from deployments.audio import codec, pcm
from deployments.contracts.values import AudioFormat, EncodedAudio
from tests.support import clips
from tests.support.captions import RATE_HZ, captioned, quiet, text_of
from tests.support.server import RunningServer, edited, start

MINUTES, HOUR_MINUTES = 10, 60
PACE = 40.0
SAMPLE_S = 2.0
MIB = 2**20
WARM_SHARE = 1 / 3
"""Of the session, whose memory is taken for good by then."""


def noise(level_db: float) -> Callable[[int], bytes]:
    """White noise of a level, dB of full scale."""

    def made(duration_ms: int) -> bytes:
        values = np.random.default_rng(1).normal(0, 10 ** (level_db / 20), RATE_HZ * duration_ms // 1000)
        return pcm.to_bytes(np.clip(values, -1, 1).astype(np.float32), "pcm_s16le")

    return made


def music(duration_ms: int) -> bytes:
    """A chord that swells and fades, again and again."""
    once = codec.to_asr(codec.decode(EncodedAudio(clips.music(), AudioFormat("aac", 48_000, 2))))
    return pcm.to_bytes(np.resize(once, RATE_HZ * duration_ms // 1000), "pcm_s16le")


SOUNDS: dict[str, Callable[[int], bytes]] = {
    "silence": quiet,
    "noise, -60 dB": noise(-60),
    "noise, -30 dB": noise(-30),
    "music": music,
}


async def shown_words(url: str, audio: bytes) -> int:
    """Words of interims and finals."""
    told = await captioned(url, audio, pace=PACE, interim_results="true")
    return sum(len(text_of(message).split()) for _, message in told.results)


def ingress_mib(server: RunningServer) -> float:
    """Resident memory of the ingress replica."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    return sum(one.memory_info().rss for one in children if kind_of(one, server) == "Ingress") / MIB


async def long_session(server: RunningServer, minutes: int) -> list[float]:
    """The ingress's memory while one session hears so much speech."""
    once = programme(CLIPS).audio
    audio = once * max(1, round(minutes * 60 * RATE_HZ * 2 / len(once)))
    seen: list[float] = []

    async def watch() -> None:
        while True:
            seen.append(ingress_mib(server))
            await asyncio.sleep(SAMPLE_S)

    watching = asyncio.create_task(watch())
    await captioned(server.url, audio, pace=PACE, interim_results="true")
    watching.cancel()
    return seen


def main() -> None:
    """Measure, tell, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="half a minute of each, and two of speech")
    quick = parser.parse_args().quick
    if quick:
        report.quick()
    sound_ms, minutes = (30_000, 2) if quick else (MINUTES * 60_000, HOUR_MINUTES)
    foreign = ForeignLoad()
    change = {"args.asr_interim": {"engine": "moonshine"}}
    with tempfile.TemporaryDirectory() as folder:
        server = start(edited("local", change, Path(folder)), Path(folder) / "log")
        try:
            invented = {name: asyncio.run(shown_words(server.url, made(sound_ms))) for name, made in SOUNDS.items()}
            seen = asyncio.run(long_session(server, minutes))
        finally:
            server.stop()
    warm = max(seen[: max(1, round(len(seen) * WARM_SHARE))])
    growth = round(max(seen) - warm, 1)
    figures = {
        "minutes_of_each_sound": sound_ms / 60_000,
        "invented_words": invented,
        "minutes_of_speech": minutes,
        "pause_ms": PAUSE_MS,
        "ingress_mib_warm": round(warm, 1),
        "ingress_mib_most": round(max(seen), 1),
        "foreign_percent": foreign.percent(),
    }
    targets = [
        Target(
            "words invented on silence", float(invented["silence"]), 0.0, because="The voice gate let silence pass."
        ),
        Target(
            "words invented on noise",
            float(invented["noise, -60 dB"] + invented["noise, -30 dB"]),
            0.0,
            because="The voice gate took noise for a voice.",
        ),
        Target("growth of the ingress in the last two thirds of a session", growth, 16.0, "MiB"),
    ]
    print(f"words invented in {sound_ms // 60_000} minutes each: {invented}")
    judge(targets)
    print(f"written to {write('captions_long', figures, targets)}")


if __name__ == "__main__":
    main()
