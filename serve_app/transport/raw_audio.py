"""Raw audio of one session, of which any stretch that is still needed can be cut. It never looks at a sample."""

from deployments.contracts.values import RAW_BYTES, AudioFormat, EncodedAudio


class RawAudio:
    """Bytes by their time.

    Args:
        audio_format: of what comes; a key of RAW_BYTES is its container.
    """

    def __init__(self, audio_format: AudioFormat) -> None:
        self._format = audio_format
        self._frame_bytes = RAW_BYTES[audio_format.container] * audio_format.channels
        self._bytes = bytearray()
        self._dropped_frames = 0

    @property
    def received_ms(self) -> int:
        """How much has come, in whole milliseconds."""
        frames = self._dropped_frames + len(self._bytes) // self._frame_bytes
        return frames * 1000 // self._format.sample_rate_hz

    @property
    def held_bytes(self) -> int:
        """What is kept."""
        return len(self._bytes)

    def add(self, data: bytes) -> None:
        """More has come; what makes no whole sample waits for the rest of it."""
        self._bytes += data

    def cut(self, start_ms: int, end_ms: int) -> EncodedAudio:
        """A stretch that has not been dropped."""
        return EncodedAudio(bytes(self._bytes[self._at(start_ms) : self._at(end_ms)]), self._format)

    def drop(self, before_ms: int) -> None:
        """What comes before is not needed any more."""
        frames = self._at(before_ms) // self._frame_bytes
        if frames > 0:
            del self._bytes[: frames * self._frame_bytes]
            self._dropped_frames += frames

    def _at(self, time_ms: int) -> int:
        frame = time_ms * self._format.sample_rate_hz // 1000 - self._dropped_frames
        return max(0, frame) * self._frame_bytes
