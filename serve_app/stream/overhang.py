"""Who may let the end of its dub run over into the next fragment, and who opens with it. PURE.

A dub may run over only where the next fragment can still use what is left: its number has not been accepted, and can
still come. What is left is given only to the number right behind it, until that one is heard; a retry gets it again,
because its first try was not.
"""

from collections.abc import Callable

from deployments.contracts.values import Overhang

MAX_KEPT = 2
"""Ends of dubs that wait for the next one: more only where numbers overtake each other."""


class Overhangs:
    """What one stream's dubs hand on."""

    def __init__(self) -> None:
        self._newest = -1
        self._ended = False
        self._speaking: dict[int, list[Callable[[], None]]] = {}
        """The numbers that may run over and have no outcome yet, with who is to be told of it."""
        self._kept: dict[int, Overhang] = {}
        """What was left, by the number that left it."""

    def accept(self, number: int) -> None:
        """A fragment is taken."""
        self._newest = max(self._newest, number)

    def end(self) -> None:
        """No new number comes any more."""
        self._ended = True

    def begin(self, number: int) -> bool:
        """A fragment is about to be spoken: whether it may run over."""
        if self._ended or number < self._newest:
            return False
        self._speaking.setdefault(number, [])
        return True

    def settle(self, number: int, overhang: Overhang | None, *, heard: bool) -> None:
        """A fragment has its outcome; one that is not heard leaves nothing, and uses nothing up."""
        if heard:
            self._kept.pop(number - 1, None)
        if heard and overhang is not None:
            self._kept[number] = overhang
            if len(self._kept) > MAX_KEPT:
                del self._kept[min(self._kept)]
        for wake in self._speaking.pop(number, ()):
            wake()

    def due(self, number: int, wake: Callable[[], None]) -> bool:
        """Whether the fragment before this one is being spoken and may run over; `wake` is called once it has."""
        waiting = self._speaking.get(number - 1)
        if waiting is None:
            return False
        waiting.append(wake)
        return True

    def before(self, number: int) -> Overhang | None:
        """What this fragment's dub opens with."""
        return self._kept.get(number - 1)
