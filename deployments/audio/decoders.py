"""Decoding apart from the model: child processes that may crash, hang or swell without harm to the replica.

A replica holds a model that takes long to load; FFmpeg's decoders meet strangers' bytes. So containers are decoded in
children, each bounded in CPU, time and memory, and one that dies costs its own fragment only. Raw PCM, for which no
decoder is needed, stays here. Nothing waits longer than the fragment has time. The children know neither Ray nor the
model: they are programs of their own, because `multiprocessing` would import the replica's main module, Ray's, into
each of them.
"""

import json
import math
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from queue import Empty, LifoQueue

import numpy as np

from deployments.audio import codec, pcm
from deployments.audio.codec import Decoded
from deployments.audio.confinement import environment
from deployments.audio.decode_worker import CPU_LIMIT_S, WALL_LIMIT_S
from deployments.contracts.values import RAW_BYTES, EncodedAudio
from deployments.errors import DeadlineExceeded, FragmentTooLarge, InternalFault, InvalidAudio, Stage
from deployments.logs import get_logger

PROGRAM = "deployments.audio.decode_worker"
_START_LIMIT_S = 60.0
_LEAST_DECODE_S = 0.5
"""What has begun gets as long, however little time its fragment has: nearly all need less than a tenth of it, and a
child that is killed has to be replaced, on a machine that is late already."""
_TRIES = 2
"""The second one tells an input that kills decoders from a child that died of something else."""
_MAX_HEADER_BYTES = 64 * 1024
_MAX_SAMPLES_BYTES = 2 * 4 * (pcm.ms_to_samples(codec.MAX_DURATION_MS, codec.MAX_RATE_HZ) + 65_536)

logger = get_logger(__name__)


class _Died(Exception):
    """The child ended without an answer."""

    def __init__(self, returncode: int, *, out_of_time: bool) -> None:
        super().__init__(returncode)
        self.returncode = returncode
        self.out_of_time = out_of_time


def needs_decoder(audio: EncodedAudio) -> bool:
    """Whether it is a container; raw PCM is not."""
    return audio.format.container not in RAW_BYTES


@dataclass(slots=True, eq=False)
class _Child:
    process: "subprocess.Popen[bytes]"
    connection: Connection
    ready_by_s: float | None
    """When its start has failed, on the monotonic clock; None: it is ready."""

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def end(self) -> int:
        """Kill it and take leave; its exit status."""
        self.process.kill()
        self.connection.close()
        return self.process.wait()

    def ask(self, *messages: bytes, answers: tuple[int, ...], limit_s: float) -> list[bytes]:
        """Send messages, receive as many answers as there are size limits, in bytes. _Died: it is to be ended."""
        late = threading.Event()

        def kill() -> None:
            late.set()
            self.process.kill()

        # Killing it is what ends a blocked send or receive here.
        timer = threading.Timer(limit_s, kill)
        timer.daemon = True
        timer.start()
        try:
            for message in messages:
                self.connection.send_bytes(message)
            return [self.connection.recv_bytes(limit) for limit in answers]
        except (EOFError, OSError) as error:
            returncode = self.end()
            raise _Died(returncode, out_of_time=late.is_set() or returncode == -signal.SIGALRM) from error
        finally:
            timer.cancel()


class Decoders:
    """Decodes in `processes` children, that many containers at once; with none, in the calling thread.

    Threads may share it; a call blocks. A child is started by the first call that finds it missing.

    Args:
        stage: of the replica, for its errors.
        processes: how many children.
        program: the module that a child runs.
    """

    def __init__(self, stage: Stage, processes: int, program: str = PROGRAM) -> None:
        self._stage = stage
        self._program = program
        self._processes = processes
        self._free: LifoQueue[_Child | None] = LifoQueue()
        for _ in range(processes):
            self._free.put(None)

    def start(self) -> None:
        """Start the children now, so that no fragment waits for it."""
        starting = [self._launch() for _ in range(self._processes)]
        for child in starting:
            self._free.get()
            self._await_ready(child, math.inf)
        for child in starting:
            self._free.put(child)

    def decode(self, audio: EncodedAudio, budget_ms: int) -> Decoded:
        """As `codec.decode`, elsewhere, within what is left of the fragment's time.

        Raises:
            InvalidAudio: not audio, or it killed the decoder twice, or took more CPU or memory than any fragment does.
            FragmentTooLarge: longer than a fragment may be.
            DeadlineExceeded: no time was left, no decoder was free in time, or the machine gave it none.
        """
        end_s = time.monotonic() + budget_ms / 1000
        if budget_ms <= 0:
            raise DeadlineExceeded(self._stage, "the fragment's time ran out before it was decoded")
        if self._processes == 0 or not needs_decoder(audio):
            return _lasting(codec.decode(audio))
        try:
            child = self._free.get(timeout=min(WALL_LIMIT_S, budget_ms / 1000))
        except Empty:
            raise DeadlineExceeded(self._stage, "no decoder came free") from None
        try:
            for tries_left in reversed(range(_TRIES)):
                if child is None or not child.alive:
                    child = self._replaced(child)
                self._await_ready(child, end_s)
                try:
                    return _lasting(self._decode(child, audio, end_s))
                except _Died as death:
                    child = None
                    self._judge(death, audio, tries_left)
            raise AssertionError
        finally:
            self._free.put(child)

    def close(self) -> None:
        """End the children. Nothing may be decoding."""
        for _ in range(self._processes):
            child = self._free.get(timeout=WALL_LIMIT_S)
            if child is not None:
                child.end()
            self._free.put(None)

    def _decode(self, child: _Child, audio: EncodedAudio, end_s: float) -> Decoded:
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            raise DeadlineExceeded(self._stage, "the fragment's time ran out before it was decoded")
        limit_s = min(WALL_LIMIT_S, max(left_s, _LEAST_DECODE_S))
        header = json.dumps(asdict(audio.format)).encode()
        sizes = (_MAX_HEADER_BYTES, _MAX_SAMPLES_BYTES)
        head, raw = child.ask(header, audio.data, answers=sizes, limit_s=limit_s)
        answer = json.loads(head)
        if "error" not in answer:
            if time.monotonic() >= end_s:
                raise DeadlineExceeded(self._stage, "the fragment's time ran out while it was decoded")
            samples = np.frombuffer(raw, dtype="<f4").reshape(-1, answer["channels"])
            return Decoded(samples, answer["sample_rate_hz"], answer["channels"], audio.format.container)
        for known in (InvalidAudio, FragmentTooLarge):
            if answer["error"] == known.code:
                raise known(Stage.ASR, answer["message"], answer["details"])
        raise InternalFault(self._stage, f"the decoder failed: {answer['message']}")

    def _judge(self, death: _Died, audio: EncodedAudio, tries_left: int) -> None:
        """Raise what a decoder's death means, unless another try is to tell."""
        container = audio.format.container
        logger.warning("decoder_died", returncode=death.returncode, container=container, n_bytes=len(audio.data))
        if death.out_of_time:
            message = f"the fragment's time, {WALL_LIMIT_S:g} s at most, ran out while it was decoded"
            raise DeadlineExceeded(self._stage, message)
        if death.returncode == -signal.SIGPROF:
            raise InvalidAudio(Stage.ASR, f"decoding the {container} audio takes more than {CPU_LIMIT_S:g} s of CPU")
        if tries_left == 0:
            raise InvalidAudio(Stage.ASR, f"the {container} audio can't be read: it ends the decoder")

    def _replaced(self, dead: _Child | None) -> _Child:
        if dead is not None:
            dead.end()
        return self._launch()

    def _launch(self) -> _Child:
        ours, theirs = Pipe(duplex=True)
        with theirs:
            process = subprocess.Popen(  # noqa: S603  # nosec B603 - our own program
                [sys.executable, "-m", self._program, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment(),
            )
        return _Child(process, ours, time.monotonic() + _START_LIMIT_S)

    def _await_ready(self, child: _Child, end_s: float) -> None:
        """Wait while it starts; one that isn't ready in time goes on starting, for whoever comes next."""
        if child.ready_by_s is None:
            return
        limit_s = min(end_s, child.ready_by_s)
        try:
            if child.connection.poll(max(0.0, limit_s - time.monotonic())):
                child.connection.recv_bytes(_MAX_HEADER_BYTES)
                child.ready_by_s = None
                return
        except (EOFError, OSError):
            limit_s = -math.inf
        if limit_s == end_s:
            raise DeadlineExceeded(self._stage, "no decoder was ready in the fragment's time")
        raise InternalFault(self._stage, f"a decoder did not start (status {child.end()})")


def _lasting(decoded: Decoded) -> Decoded:
    """The same, or InvalidAudio: nothing can be dubbed in no time."""
    if decoded.duration_ms == 0:
        raise InvalidAudio(Stage.ASR, f"the {decoded.container} audio lasts less than a millisecond")
    return decoded
