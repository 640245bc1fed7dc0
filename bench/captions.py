"""How soon live speech is read, and how well: `python -m bench.captions [--quick]`.

configs/local.yaml with Moonshine for interims; 1, 3, 6 and 12 sessions of `/v1/listen` in real time, each with the same
recorded speech (known texts) and pauses of 2 s between the clips. When a voice starts and ends is told by the clips
themselves (frames within 35 dB of the loudest). The errors of the finals are set against those of one decode of each
clip as a whole, by the same model.
"""

import argparse
import asyncio
import math
import multiprocessing
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import report
from bench.foreign import ForeignLoad
from bench.report import Target, judge, percentiles, plot, show, write
from bench.scores import plain, wer
from deployments.asr.faster_whisper import FasterWhisperOptions
from deployments.audio import pcm
from deployments.contracts.engines import Samples, Utterance
from deployments.contracts.values import FragmentRef
from deployments.errors import StageError
from tests.support import clips
from tests.support.captions import RATE_HZ, Captions, captioned, quiet, text_of
from tests.support.server import edited, start

SESSIONS = (1, 3, 6, 12)
JUDGED = 6
PAUSE_MS = 2000
CLIPS = tuple(name for name in sorted(clips.transcripts()) if name.startswith("sense"))
TIMES = {
    "first_interim_ms": ("first interim after speech starts", 700.0),
    "final_ms": ("final after speech ends", 1200.0),
}
"""What is timed, and its target."""
WER_TARGET_POINTS = 1.0
PROCESSES = 2
"""In which the clients run, so that they are not what is late."""


@dataclass(frozen=True, slots=True)
class Programme:
    """What each session sends."""

    audio: bytes
    text: str
    voices: tuple[tuple[float, float], ...]
    """Start and end of what is said in each clip, in seconds."""


def programme(names: Sequence[str]) -> Programme:
    """The clips, each followed by a pause."""
    audio, voices, texts = quiet(PAUSE_MS), [], []
    for name in names:
        samples = clips.clip(name, RATE_HZ)[:, 0]
        spans = pcm.loud_spans(samples, RATE_HZ)
        at_s = len(audio) / 2 / RATE_HZ
        voices.append((at_s + spans[0].start_ms / 1000, at_s + spans[-1].end_ms / 1000))
        texts.append(clips.transcripts()[name])
        audio += pcm.to_bytes(samples, "pcm_s16le") + quiet(PAUSE_MS)
    return Programme(audio, " ".join(texts), tuple(voices))


def first_interims_s(told: Captions, voices: Sequence[tuple[float, float]]) -> list[float]:
    """From the start of each voice to the first words shown of it."""
    shown = [(at_s, message) for at_s, message in told.results if text_of(message)]
    found = []
    for start_s, end_s in voices:
        since = [at_s - start_s for at_s, message in shown if message["start"] + message["duration"] > start_s]
        within = [one for one in since if 0 <= one <= end_s - start_s + PAUSE_MS / 1000]
        found += within[:1]
    return found


def finals_s(told: Captions, voices: Sequence[tuple[float, float]]) -> list[float]:
    """From the end of each voice to the final that holds its last word."""
    found = []
    for _, end_s in voices:
        late = [
            at_s - end_s
            for at_s, message in told.finals
            if text_of(message) and message["start"] < end_s <= message["start"] + message["duration"] + 0.3
        ]
        found += late[:1]
    return found


def revised(told: Captions) -> tuple[int, int]:
    """Words that were shown, and those of them that changed afterwards: in a later interim, or in the final."""
    shown = changed = 0
    before: list[str] = []
    for _, message in told.results:
        words = plain(text_of(message)).split()
        if before:
            shown += len(before)
            changed += sum(one != other for one, other in zip(before, words, strict=False)) + max(
                0, len(before) - len(words)
            )
        before = [] if message["is_final"] else words
    return shown, changed


def run_some(url: str, names: Sequence[str], count: int) -> list[Captions]:
    """So many sessions in this process, begun a little apart."""

    async def one(number: int, audio: bytes) -> Captions:
        await asyncio.sleep(0.37 * number)
        return await captioned(url, audio, interim_results="true", punctuate="true", endpointing=500)

    async def all_of_them() -> list[Captions]:
        audio = programme(names).audio
        return list(await asyncio.gather(*(one(number, audio) for number in range(count))))

    return asyncio.run(all_of_them())


def run(url: str, names: Sequence[str], count: int) -> list[Captions]:
    """So many sessions at once."""
    parts = [len(range(at, count, PROCESSES)) for at in range(min(PROCESSES, count))]
    with multiprocessing.get_context("spawn").Pool(len(parts)) as pool:
        return [told for some in pool.starmap(run_some, [(url, names, part) for part in parts]) for told in some]


def whole_wer(names: Sequence[str]) -> float:
    """Errors of one decode of each clip, in percent."""
    engine = FasterWhisperOptions(engine="faster_whisper", device="cpu", cpu_threads=1).build()
    engine.load()
    heard = []
    for name in names:
        samples: Samples = np.ascontiguousarray(clips.clip(name, RATE_HZ)[:, 0])
        [answer] = engine.transcribe([Utterance(FragmentRef("whole", name, 0), samples, "en")])
        if isinstance(answer, StageError):
            raise answer
        heard.append(answer.text)
    said = " ".join(clips.transcripts()[name] for name in names)
    return wer([said], [" ".join(heard)])


def row(sessions: Sequence[Captions], spoken: Programme) -> dict[str, Any]:
    """The figures of sessions that ran together; times in ms."""
    first = [1000 * one for told in sessions for one in first_interims_s(told, spoken.voices)]
    final = [1000 * one for told in sessions for one in finals_s(told, spoken.voices)]
    said = plain(spoken.text)
    errors = [wer([spoken.text], [" ".join(told.said)]) for told in sessions]
    ends = [plain(" ".join(told.said)).split()[-1:] == said.split()[-1:] for told in sessions]
    counts = [revised(told) for told in sessions]
    shown, changed = (sum(column) for column in zip(*counts, strict=True))
    return {
        "first_interim_ms": percentiles(first),
        "final_ms": percentiles(final),
        "voices": len(spoken.voices) * len(sessions),
        "wer_percent": round(float(np.mean(errors)), 2),
        "last_word_missing": ends.count(False),
        "revised_percent": round(100 * changed / max(1, shown), 1),
    }


def main() -> None:
    """Measure, tell, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two clips, at most three sessions")
    quick = parser.parse_args().quick
    if quick:
        report.quick()
    names, counts = (CLIPS[:2], SESSIONS[:2]) if quick else (CLIPS, SESSIONS)
    spoken, judged = programme(names), counts[-1] if quick else JUDGED
    foreign = ForeignLoad()
    change = {"args.asr_interim": {"engine": "moonshine"}}
    with tempfile.TemporaryDirectory() as folder:
        server = start(edited("local", change, Path(folder)), Path(folder) / "log")
        try:
            run(server.url, names[:1], 1)  # the first calls are the slowest
            found = {count: row(run(server.url, names, count), spoken) for count in counts}
        finally:
            server.stop()
    whole = whole_wer(names)
    figures = {
        "audio_s": round(len(spoken.audio) / 2 / RATE_HZ, 1),
        "endpointing_ms": 500,
        "whole_wer_percent": round(whole, 2),
        "foreign_percent": foreign.percent(),
        "sessions": {str(count): one for count, one in found.items()},
    }
    at = found[judged]
    because = f"{judged} sessions share two cores with each other and with the clients that measure."
    targets = [
        *(
            Target(f"{what}, p50, {judged} sessions", at[key].get("p50", math.nan), bound, "ms", because=because)
            for key, (what, bound) in TIMES.items()
        ),
        Target(
            f"errors of finals above those of one decode, {judged} sessions",
            round(at["wer_percent"] - whole, 2),
            WER_TARGET_POINTS,
            "points",
            because="Finals are decoded from one pause to the next, without what comes before and after.",
        ),
        Target(
            "sessions whose last word is missing",
            float(sum(one["last_word_missing"] for one in found.values())),
            0.0,
            because="The last word was heard as another one, or not at all.",
        ),
    ]
    for key, (what, _) in TIMES.items():
        show(f"{what}, ms", [(str(count), one[key]) for count, one in found.items()])
    judge(targets)
    with plot("captions", width=6) as (axis,):
        for key, (what, _) in TIMES.items():
            for share, line in (("p50", "-"), ("p95", ":")):
                values = [one[key].get(share, math.nan) for one in found.values()]
                axis.plot(list(found), values, line, marker="o", label=f"{what}, {share}")
        axis.set_xlabel("sessions in real time")
        axis.set_ylabel("ms")
        axis.set_ylim(bottom=0)
        axis.legend()
    print(f"written to {write('captions', figures, targets)}")


if __name__ == "__main__":
    main()
