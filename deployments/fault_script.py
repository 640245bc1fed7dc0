"""What the fake engines do on cue: be slow, fail with any code, die. It ships, so that a deployment can be rehearsed.

A script is part of a fake engine's options. For each fragment the first step that matches it counts:

    script:
      - {stream: "radio-*", fragments: [3], times: 1, error: GPU_OOM}
      - {fragments: [7], crash: true}
      - {delay_ms: 400}

Fakes run in worker threads like every engine, so a delay blocks its thread.
"""

import os
import signal
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from deployments.contracts.values import ITSELF, FragmentRef
from deployments.errors import Stage, StageError
from deployments.patterns import matches

MAX_COUNTED = 10_000
"""Fragments for which a script remembers how often a step applied; the oldest are forgotten."""


def _leaves(kind: type[StageError]) -> Iterator[type[StageError]]:
    children = kind.__subclasses__()
    if not children:
        yield kind
    for child in children:
        yield from _leaves(child)


ERRORS_BY_CODE = {kind.code: kind for kind in _leaves(StageError)}
"""Wire code to the exception that stands for it."""


def _known_code(code: str) -> str:
    if code not in ERRORS_BY_CODE:
        raise ValueError(f"{code!r} is none of {', '.join(sorted(ERRORS_BY_CODE))}")
    return code


class Step(BaseModel):
    """What happens to the fragments that match: first the delay, then the crash or the error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stream: str = "*"
    """Pattern of stream_ids: `*` is any text, `?` any character, all else itself."""
    fragments: tuple[int, ...] | None = None
    """sequence_numbers; None: all."""
    times: int | None = Field(default=None, ge=1)
    """How often it applies to one fragment, so that a retry can go well; None: always."""
    delay_ms: int | None = Field(default=None, ge=0)
    """Instead of the engine's own delay."""
    error: Annotated[str, AfterValidator(_known_code)] | None = None
    """Wire code of the error to raise."""
    crash: bool = False
    """Kill the process, as the kernel's out-of-memory killer would."""


def kill_own_process() -> None:
    """End this process at once, with nothing cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


class Script:
    """Plays steps. Several threads may use it at once; it can't be pickled, so engines make it in `load()`.

    Args:
        steps: the first match counts.
        delay_ms: for fragments whose step names none.
        sleep: takes seconds, blocks.
        crash: ends the process.
    """

    def __init__(
        self,
        steps: tuple[Step, ...],
        *,
        delay_ms: int = 0,
        sleep: Callable[[float], None] = time.sleep,
        crash: Callable[[], None] = kill_own_process,
    ) -> None:
        self._steps = steps
        self._delay_ms = delay_ms
        self._sleep = sleep
        self._crash = crash
        self._lock = threading.Lock()
        self._applied: OrderedDict[tuple[int, str, int], int] = OrderedDict()

    def decide(self, ref: FragmentRef) -> Step | None:
        """The step that applies to this fragment now. Counts as one application; none applies to a replica itself."""
        if ref == ITSELF:
            return None
        with self._lock:
            for index, step in enumerate(self._steps):
                if not matches(ref.stream_id, step.stream):
                    continue
                if step.fragments is not None and ref.sequence_number not in step.fragments:
                    continue
                if step.times is None or self._count(index, ref) <= step.times:
                    return step
        return None

    def _count(self, index: int, ref: FragmentRef) -> int:
        key = (index, ref.stream_id, ref.sequence_number)
        self._applied[key] = self._applied.get(key, 0) + 1
        self._applied.move_to_end(key)
        if len(self._applied) > MAX_COUNTED:
            self._applied.popitem(last=False)
        return self._applied[key]

    def perform(self, step: Step | None, stage: Stage) -> None:
        """Do what the step says; with no step, only the default delay.

        Raises:
            StageError: the one that the step names.
        """
        delay_ms = self._delay_ms if step is None or step.delay_ms is None else step.delay_ms
        if delay_ms:
            self._sleep(delay_ms / 1000)
        if step is not None and step.crash:
            self._crash()
        if step is not None and step.error is not None:
            raise ERRORS_BY_CODE[step.error](stage, "the script says so")

    def play(self, ref: FragmentRef, stage: Stage) -> None:
        """Decide and perform."""
        self.perform(self.decide(ref), stage)
