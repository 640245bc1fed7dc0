"""The reorder buffer: sequence numbers leave in order, however their results arrive. PURE.

A number is reserved when its fragment is accepted and filled when its result is there. Rejected numbers are skipped,
numbers that never came are given up; neither holds anything back. Passing over them is put off until something behind
them is ready to leave, so that a resend still finds its place.

Protocol: Order.
"""

from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
MAX_SKIPPED = 1024
"""Rejected numbers remembered ahead of the next one; beyond it a number counts as never sent."""


class ReorderBuffer(Generic[T, R]):
    """Slots for one stream's sequence numbers: what each is reserved for, and its result.

    Args:
        first: the number that the stream starts with.
    """

    def __init__(self, first: int) -> None:
        self.next = first
        """The lowest number that has not left."""
        self._slots: dict[int, T] = {}
        self._filled: dict[int, R] = {}
        self._skipped: set[int] = set()
        self._floor = first
        """Numbers below it that nobody reserved are given up."""

    def __contains__(self, number: int) -> bool:
        return number in self._slots

    def slots(self) -> list[tuple[int, T, bool]]:
        """Number, what it is reserved for and whether it is filled; lowest first."""
        return [(number, self._slots[number], number in self._filled) for number in sorted(self._slots)]

    def reserve(self, number: int, item: T) -> None:
        """Give the number to an accepted fragment.

        Raises:
            ValueError: the number has left or is taken; callers ask first.
        """
        if number < self.next or number in self._slots:
            raise ValueError(f"number {number} is not free: next is {self.next}")
        self._slots[number] = item
        self._skipped.discard(number)

    def fill(self, number: int, result: R) -> None:
        """The number's result is there.

        Raises:
            ValueError: nobody has reserved the number.
        """
        if number not in self._slots:
            raise ValueError(f"number {number} was not reserved")
        self._filled[number] = result

    def skip(self, number: int) -> None:
        """The number was rejected: do not wait for it."""
        if number >= self.next and number not in self._slots and len(self._skipped) < MAX_SKIPPED:
            self._skipped.add(number)

    def missing_below(self, number: int) -> list[tuple[int, int]]:
        """Ranges (first, last) under `number` that something ready would have to wait for."""
        known = {n for n in (*self._slots, *self._skipped) if n < number}
        ranges: list[tuple[int, int]] = []
        expected = max(self.next, self._floor)
        for occupied in (*sorted(known), number):
            if occupied > expected:
                ranges.append((expected, occupied - 1))
            expected = max(expected, occupied + 1)
        return ranges

    def give_up_below(self, number: int) -> list[tuple[int, int]]:
        """Wait no longer for numbers under `number` that never came; returns their ranges (first, last)."""
        missing = self.missing_below(number)
        self._floor = max(self._floor, number)
        return missing

    def release(self) -> list[tuple[int, T, R]]:
        """Everything that may leave now, in order."""
        leaving: list[tuple[int, T, R]] = []
        while self._slots:
            head = min(self._slots)
            if head not in self._filled or self.missing_below(head):
                break
            leaving.append((head, self._slots.pop(head), self._filled.pop(head)))
            self.next = head + 1
            self._skipped = {number for number in self._skipped if number > head}
        return leaving

    def clear(self) -> None:
        """Drop all slots."""
        self._slots.clear()
        self._filled.clear()
        self._skipped.clear()
