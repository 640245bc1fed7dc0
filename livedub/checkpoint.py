"""What a dub has done so far, in a folder beside its output, so that it can be gone on with.

For each language there is the dubbed sound in its place and a line for each result, written as soon as it is there.
What is done is told by these lines alone: a piece without one is sent, whatever happened to it.
"""

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, TextIO

from deployments.media.reader import Piece
from deployments.media.timeline import Fill, Timeline
from livedub.errors import DubError
from livedub.fragment import Failure, FragmentResult
from serve_app.protocol import FragmentProcessed

_SETTINGS = "settings.json"


class CheckpointRefused(DubError):
    """There is work to go on with and nobody asked for it, or it is of another run: says what to do."""


@dataclass(frozen=True, slots=True)
class Done:
    """A piece that has its result."""

    start_samples: int
    start_ms: int
    duration_ms: int
    result: FragmentResult
    """Without the dub's sound."""

    @property
    def may_be_tried_again(self) -> bool:
        """It failed for a reason that may have gone."""
        return self.result.failure is not None and self.result.failure.retryable


class Checkpoint:
    """The folder of one dub.

    Args:
        output: the file that the dub is to become.
        settings: all that the result depends on.
    """

    def __init__(self, output: Path, settings: dict[str, Any]) -> None:
        digest = hashlib.sha256(output.name.encode(errors="surrogateescape")).hexdigest()
        self.folder = output.with_name(f".livedub-{digest[:12]}")
        """Of a short name: the output's own may be as long as names can be."""
        self._output = output
        self._settings = json.loads(json.dumps(settings))
        self._lock: TextIO | None = None
        """Open and locked while this process is at work on it."""

    @property
    def exists(self) -> bool:
        """Whether there is something to go on with."""
        return (self.folder / _SETTINGS).exists()

    def begin(self, *, resume: bool, anew: bool) -> None:
        """Make the folder, or find it.

        Args:
            resume: go on with what is there, if anything is.
            anew: throw away what is there.

        Raises:
            CheckpointRefused: there is one and neither is wanted, or it is of other settings.
            OSError: it can't be made.
        """
        path = self.folder / _SETTINGS
        there = self.exists
        self.folder.mkdir(exist_ok=True)
        self._lock = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if there and not (anew and not resume):
                self._check(json.loads(path.read_text(encoding="utf-8")), resume=resume)
                return
        except BlockingIOError:
            raise CheckpointRefused(f"another process is at work on {self._output}: wait for its end") from None
        except CheckpointRefused:
            self.close()
            raise
        for file in self.folder.iterdir():
            if file != path:
                file.unlink()
        path.write_text(json.dumps(self._settings, indent=2) + "\n", encoding="utf-8")

    def _check(self, before: dict[str, Any], *, resume: bool) -> None:
        if not resume:
            raise CheckpointRefused(
                f"a dub of {self._output} was interrupted: go on with --resume, or start anew with --force"
            )
        changed = [
            f"{name} was {before.get(name)!r} and is {value!r}"
            for name, value in self._settings.items()
            if before.get(name) != value
        ]
        if changed:
            raise CheckpointRefused(
                f"what was begun of {self._output} can't be gone on with, since {', '.join(changed)}: "
                "use what it was begun with, or start anew with --force"
            )

    def track(self, language: str, sample_rate_hz: int, channels: int, fill: Fill) -> "Track":
        """The work on one language."""
        return Track(self.folder / language, sample_rate_hz, channels, fill)

    def close(self) -> None:
        """Others may work on it."""
        if self._lock is not None:
            self._lock.close()

    def remove(self) -> None:
        """All is done, or nothing is wanted of it."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Track:
    """The work on one language: its sound and its results. Closes with its `with` block."""

    def __init__(self, path: Path, sample_rate_hz: int, channels: int, fill: Fill) -> None:
        self._results = path.with_suffix(".jsonl")
        self.sound = Timeline(path.with_suffix(".pcm"), sample_rate_hz, channels, fill)
        self._cut_off_half_a_line()
        self._done = {done.start_samples for done in self.done() if not done.may_be_tried_again}
        self._file: TextIO = self._results.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.sound.close()

    def has(self, piece: Piece) -> bool:
        """Whether a piece needs not be sent."""
        return piece.start_samples in self._done

    def note(self, piece: Piece, result: FragmentResult) -> None:
        """A piece has its result, and its sound is in place."""
        processed = result.processed
        line = {
            "start_samples": piece.start_samples,
            "start_ms": piece.start_ms,
            "duration_ms": piece.duration_ms,
            **{name: getattr(result, name) for name in _KEPT},
            "failure": asdict(result.failure) if result.failure is not None else None,
            "processed": processed.model_dump(mode="json", exclude={"dubbed_audio"}) if processed is not None else None,
        }
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def _cut_off_half_a_line(self) -> None:
        """The process may have ended while it wrote one."""
        with self._results.open("ab+") as file:
            file.seek(0)
            file.truncate(sum(len(line) for line in file if line.endswith(b"\n")))

    def done(self) -> Iterator[Done]:
        """The pieces that have a result, by time; of what was tried again, the latest."""
        lines: dict[int, int] = {}
        with self._results.open("rb") as file:
            at = 0
            for line in file:
                lines[json.loads(line)["start_samples"]] = at
                at += len(line)
            for _, place in sorted(lines.items()):
                file.seek(place)
                yield _read(json.loads(file.readline()))


_KEPT = ("fragment_id", "sequence_number", "status", "attempts", "latency_ms")


def _read(line: dict[str, Any]) -> Done:
    processed, failure = line["processed"], line["failure"]
    result = FragmentResult(
        **{name: line[name] for name in _KEPT},
        processed=FragmentProcessed.model_validate(processed, strict=False) if processed is not None else None,
        failure=Failure(**failure) if failure is not None else None,
    )
    return Done(line["start_samples"], line["start_ms"], line["duration_ms"], result)
