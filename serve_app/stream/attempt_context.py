"""What the pipeline tells and asks the session about the attempt that it works on. PURE."""

from collections.abc import Callable

from deployments.contracts.values import Outcome, Overhang
from deployments.errors import Stage
from serve_app.stream.session import Session


class AttemptContext:
    """One attempt of a session.

    Args:
        session: of the stream.
        ticket: names the attempt.
        clock: the session's `now`.
    """

    def __init__(self, session: Session, ticket: int, clock: Callable[[], float]) -> None:
        self._session = session
        self._ticket = ticket
        self._clock = clock
        self.stage = Stage.ASR
        """That was started last."""

    def start(self, stage: Stage, so_far: Outcome) -> bool:
        """A stage starts, with what was done before it; whether the faster voice is to speak.

        Raises:
            QueueFull: the fragment can't be done in time any more.
        """
        self.stage = stage
        return self._session.running(self._ticket, stage, so_far, self._clock())

    def said_before(self) -> str:
        """What the stream said before this fragment, in the source language."""
        return self._session.said_before(self._ticket)

    def overhang_due(self, wake: Callable[[], None]) -> bool:
        """Whether the fragment before this one may still leave an overhang; `wake` is called once it has, or won't."""
        return self._session.overhang_due(self._ticket, wake)

    def overhang(self) -> Overhang | None:
        """What this fragment's dub opens with."""
        return self._session.overhang(self._ticket)

    def may_run_over(self) -> bool:
        """Whether this fragment's dub, which is about to be spoken, may leave an overhang."""
        return self._session.may_run_over(self._ticket)
