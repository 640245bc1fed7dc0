"""How long a client waits for what. PURE."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat

from livedub.flow import RETRY_DELAYS_S


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Every time limit of a DubClient or a TranscribeClient, in seconds."""

    connect_s: float = 10.0
    """For the connection, and again for `stream:ready`."""
    retry_delays_s: tuple[float, ...] = RETRY_DELAYS_S
    """Before the second, third, … try of a fragment."""
    answer_margin_s: float = 5.0
    """Beyond the stream's `timeout_ms`, for a fragment's answer."""
    reconnect_delays_s: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    """Before each try to reconnect; the last one repeats."""
    reconnect_spread: float = 0.5
    """Share by which each of these is longer or shorter by chance: a server's workers must not all come at once."""
    reconnect_s: float = 60.0
    """For a lost connection to come back."""
    stall_s: float = 120.0
    """For `send` to find room, and for a transcription to say more once it was ended."""
    complete_s: float = 30.0
    """For `stream:complete`."""

    def reconnect_waits_s(self, chance: Callable[[], float]) -> Iterator[float]:
        """Before each try to reconnect, without end; `chance` draws from [0, 1)."""
        for delay_s in chain(self.reconnect_delays_s, repeat(self.reconnect_delays_s[-1])):
            yield delay_s * (1 + self.reconnect_spread * (2 * chance() - 1))

    def answer_s(self, timeout_ms: int) -> float:
        """For a fragment's answer, from its send."""
        return timeout_ms / 1000 + self.answer_margin_s

    def drain_s(self, timeout_ms: int) -> float:
        """For everything in flight to become final: every retry, its delay, and a reconnect."""
        tries = len(self.retry_delays_s) + 1
        return tries * self.answer_s(timeout_ms) + sum(self.retry_delays_s) + self.reconnect_s
