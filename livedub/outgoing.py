"""Audio on its way to be transcribed: what may be sent now, and what has no final yet. PURE.

Protocol: `audio:chunk`.
"""

from collections import deque
from dataclasses import dataclass

from deployments.contracts.values import OPUS_PACKETS, RAW_BYTES
from serve_app.protocol import AudioReady, TranscriptionConfig

CHUNK_BYTES = 64 * 1024
"""Of what is cut; a packet of Opus is none."""


@dataclass(slots=True)
class _Session:
    """What one connection was sent."""

    sent_bytes: int = 0
    taken_bytes: int = 0


class Outgoing:
    """The audio of one client.

    Of raw audio all is kept that no final covers, so that a new connection can go on where the last one was lost.

    Args:
        config: how it sounds.
    """

    def __init__(self, config: TranscriptionConfig) -> None:
        self._config = config
        self._raw = config.format in RAW_BYTES
        self._chunks: deque[bytes] = deque()
        """Those that are kept, from the first that no final covers."""
        self._sent = 0
        """How many of these were sent on this connection."""
        self._unsent_bytes = 0
        self._session = _Session()
        self._window_bytes = self._most_bytes = 0
        self._covered_ms = 0
        """By finals of this connection."""
        self.offset_ms = 0
        """From the start of all to the start of this connection's session."""

    @property
    def can_be_resent(self) -> bool:
        """Whether a new connection could go on in the middle."""
        return self._raw or not self._session.sent_bytes

    @property
    def unsent_bytes(self) -> int:
        """What waits for room."""
        return self._unsent_bytes

    @property
    def unheard(self) -> bool:
        """Whether some of it has no final yet, as far as can be told."""
        return bool(self._chunks)

    def check(self, data: bytes) -> None:
        """Whether this can be sent.

        Raises:
            ValueError: raw audio that holds no whole number of samples.
        """
        frame_bytes = self._config.frame_bytes
        if len(data) % frame_bytes:
            raise ValueError(f"{len(data)} bytes hold no whole number of samples of {frame_bytes} bytes")

    def add(self, data: bytes) -> None:
        """More of it; in a form that can be cut, except packets of Opus, each of which is given by itself."""
        step = len(data) if self._config.format == OPUS_PACKETS else CHUNK_BYTES
        for at in range(0, len(data), max(1, step)):
            self._chunks.append(data[at : at + step])
        self._unsent_bytes += len(data)

    def connected(self, ready: AudioReady) -> None:
        """A session is open, and nothing has been sent to it."""
        self._window_bytes = ready.window_bytes
        self.offset_ms += self._covered_ms
        self._covered_ms = self._sent = 0
        self._unsent_bytes = sum(map(len, self._chunks))
        self._session = _Session()

    def next(self) -> bytes | None:
        """A chunk to send now; None: there is none, or no room for it."""
        session = self._session
        if self._sent == len(self._chunks) or session.sent_bytes - session.taken_bytes >= self._window_bytes:
            return None
        chunk = self._chunks[self._sent]
        session.sent_bytes += len(chunk)
        self._unsent_bytes -= len(chunk)
        if self._raw:
            self._sent += 1
        else:
            self._chunks.popleft()
        return chunk

    def taken(self, taken_bytes: int) -> None:
        """The server has taken so much."""
        self._session.taken_bytes = taken_bytes

    def covered(self, end_ms: int) -> None:
        """Finals reach up to here on this connection."""
        if self._raw:
            frame_bytes, rate_hz = self._config.frame_bytes, self._config.sample_rate_hz
            due = (end_ms * rate_hz // 1000 - self._covered_ms * rate_hz // 1000) * frame_bytes
            while due > 0 and self._sent:
                first = self._chunks.popleft()
                if len(first) > due:
                    self._chunks.appendleft(first[due:])
                    break
                due -= len(first)
                self._sent -= 1
        self._covered_ms = end_ms
