"""The process that decodes containers: what a replica starts, see `decoders`. Run as `python -m`, with a socket.

Here a stranger's bytes meet FFmpeg's C code, so this process holds nothing that is worth taking and nothing that is
slow to load: no model, no key, no file. It answers with JSON and raw samples and never with pickles, which would let
a captured decoder run code in the replica.
"""

import json
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np

from deployments.audio import codec
from deployments.audio.confinement import confine
from deployments.contracts.values import AudioFormat, EncodedAudio
from deployments.errors import FragmentTooLarge, InvalidAudio, Stage, StageError

CPU_LIMIT_S = 3.0
"""Of one decode. A minute of audio at 192 kHz takes a tenth of it; overload of the machine doesn't count."""
WALL_LIMIT_S = 10.0
"""Of one decode, the hand-over included: nothing here waits, so this is what a machine without time looks like."""

Decode = Callable[[EncodedAudio], codec.Decoded]


def serve(decode: Decode = codec.decode) -> None:
    """Decode what comes until the replica has gone. The socket's number is the only argument of the program."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the replica's business, and its end ends this one
    connection = Connection(int(sys.argv[1]))
    _warm_up()
    confine()
    connection.send_bytes(b"ready")
    while True:
        try:
            header = json.loads(connection.recv_bytes())
            data = connection.recv_bytes()
        except (EOFError, OSError):
            return
        # The kernel's timers: no handler of ours has to run, so a loop in C ends as well, and so it does when the
        # replica has died meanwhile.
        signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)
        signal.setitimer(signal.ITIMER_REAL, WALL_LIMIT_S)
        answer, samples = _answer(decode, EncodedAudio(data, AudioFormat(**header)))
        try:
            connection.send_bytes(json.dumps(answer).encode())
            connection.send_bytes(samples)
        except OSError:
            return
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(decode: Decode, audio: EncodedAudio) -> tuple[dict[str, object], bytes]:
    """The decoded audio or the error, as a header and samples (float32, interleaved)."""
    try:
        decoded = decode(audio)
        head: dict[str, object] = {"sample_rate_hz": decoded.sample_rate_hz, "channels": decoded.channels}
        return head, np.ascontiguousarray(decoded.samples, dtype="<f4").tobytes()
    except (InvalidAudio, FragmentTooLarge) as error:
        return {"error": error.code, "message": error.message, "details": dict(error.details)}, b""
    except MemoryError:
        message = f"the {audio.format.container} audio takes too much memory to decode"
        return {"error": InvalidAudio.code, "message": message, "details": {}}, b""
    except Exception as error:  # noqa: BLE001 - the outermost shell of this process
        return {"error": "", "message": f"{type(error).__name__}: {error}"[:500], "details": {}}, b""


def _warm_up() -> None:
    """Have everything imported: no file can be opened afterwards."""
    for container in codec.FORMATS:
        shape = AudioFormat(container, 48_000, 1)
        codec.decode(codec.encode(np.zeros((4_800, 1), np.float32), 48_000, shape))
        for data in (b"", b"not audio", b"RIFF\0\0\0\0WAVEfmt ", b"\0\0\0\x08moov", "é".encode()):
            try:
                codec.decode(EncodedAudio(data, shape))
            except StageError:
                continue
    json.dumps(str(FragmentTooLarge(Stage.ASR, "warm")))


if __name__ == "__main__":
    serve()
