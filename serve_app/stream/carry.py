"""Who may leave the end of its dub over to the next fragment, and who opens with it. PURE.

A dub may leave something over only where the next fragment can still use it: its number has not been accepted, and can
still come. What is left over is given only to the number right behind it, until that one is heard; a retry gets it
again, because its first try was not.
"""

from collections.abc import Callable

from deployments.contracts import Carried

MAX_KEPT = 2
"""Ends of dubs that wait for the next one: more only where numbers overtake each other."""


class Carry:
    """What one stream's dubs hand on."""

    def __init__(self) -> None:
        self._newest = -1
        self._ended = False
        self._speaking: int | None = None
        """The number that may leave something over and has no outcome yet."""
        self._wake: Callable[[], None] | None = None
        self._kept: dict[int, Carried] = {}
        """What was left over, by the number that left it."""

    def accept(self, number: int) -> None:
        """A fragment is taken."""
        self._newest = max(self._newest, number)

    def end(self) -> None:
        """No new number comes any more."""
        self._ended = True

    def begin(self, number: int) -> bool:
        """A fragment is about to be spoken: whether it may leave something over."""
        if self._ended or number < self._newest:
            return False
        self._speaking = number
        return True

    def settle(self, number: int, carried: Carried | None, *, heard: bool) -> None:
        """A fragment has its outcome; one that is not heard leaves nothing, and uses nothing up."""
        if heard:
            self._kept.pop(number - 1, None)
        if heard and carried is not None:
            self._kept[number] = carried
            if len(self._kept) > MAX_KEPT:
                del self._kept[min(self._kept)]
        if self._speaking == number:
            self._speaking = None
            if self._wake is not None:
                self._wake()
                self._wake = None

    def due(self, number: int, wake: Callable[[], None]) -> bool:
        """Whether the fragment before this one is being spoken and may leave something over; `wake` is called then."""
        if self._speaking is None or self._speaking != number - 1:
            return False
        self._wake = wake
        return True

    def before(self, number: int) -> Carried | None:
        """What this fragment's dub opens with."""
        return self._kept.get(number - 1)
