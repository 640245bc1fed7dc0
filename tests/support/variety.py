"""A load in which everything happens that the dashboard shows."""

import asyncio
import contextlib
import time
from typing import Any

from socketio.exceptions import ConnectionError as Refused

from tests.support import clips
from tests.support.captions import captioned, loud, quiet
from tests.support.deepl_stub import Answer, DeepLStub
from tests.support.worker import Worker

MS = 1000
ORIGIN = "https://studio.example"
CHANGES: dict[str, Any] = {
    "args.access": {"origins": [ORIGIN]},
    "args.asr.script": [
        {"stream": "poison", "fragments": [0], "crash": True},
        {"stream": "failing", "error": "MODEL_ERROR"},
        {"stream": "full", "error": "QUEUE_FULL"},
        {"stream": "crowd", "delay_ms": 700},
    ],
    "args.tts.script": [{"stream": "unspoken", "error": "SYNTHESIS_FAILED"}],
}
"""To configs/fakes.yaml."""


def with_deepl(stub: DeepLStub) -> dict[str, Any]:
    """The changes, with the stub for an outside service whose breaker opens after three failures."""
    options = {"engine": "deepl", "server_url": stub.url, "max_attempts": 1, "breaker_failures": 3}
    return CHANGES | {"args.translation": options}


class Load:
    """Streams of all kinds on one server; counts the results they see.

    Args:
        url: of the server.
        stub: what the server takes for DeepL.
    """

    def __init__(self, url: str, stub: DeepLStub) -> None:
        self._url = url
        self._stub = stub
        self._audio = clips.adts_fragments(MS)
        self.results: list[dict[str, Any]] = []
        self.errors: list[dict[str, Any]] = []

    async def run(self, seconds: float, streams: int = 3, outage: tuple[float, float] = (0.6, 1.0)) -> None:
        """All kinds at once; between these two shares of the time the outside service fails."""
        await self._poison()
        end_s = time.monotonic() + seconds
        steady = [self._stream(f"steady-{number}", end_s, period_s=0.4) for number in range(streams)]
        odd = [self._stream(name, end_s, period_s=0.8) for name in ("failing", "full", "unspoken")]
        others = (self._crowd(end_s), self._strangers(end_s), self._captions(end_s))
        await asyncio.gather(*steady, *odd, *others, self._fail(seconds, outage))

    async def _stream(self, name: str, end_s: float, period_s: float) -> None:
        async with Worker(self._url) as worker:
            await worker.init(name)
            number = 0
            while time.monotonic() < end_s:
                await worker.send(number, self._audio[number % 4], audio__duration_ms=MS)
                number += 1
                await asyncio.sleep(period_s)
            await _answered(worker, number)
            self._keep(worker)

    async def _crowd(self, end_s: float) -> None:
        """Sends in bursts of more than a stream may have in flight."""
        async with Worker(self._url) as worker:
            await worker.init("crowd", max_inflight=2)
            number = 0
            while time.monotonic() < end_s:
                for _ in range(12):
                    await worker.send(number, self._audio[number % 4], audio__duration_ms=MS)
                    number += 1
                await _answered(worker, number)
                await asyncio.sleep(0.5)
            self._keep(worker)

    async def _strangers(self, end_s: float) -> None:
        """Pages that may not connect."""
        while time.monotonic() < end_s:
            with contextlib.suppress(Refused):
                async with Worker(self._url, headers={"Origin": "https://elsewhere.example"}):
                    pass
            await asyncio.sleep(1)

    async def _captions(self, end_s: float) -> None:
        """Live transcription, one short session after the other."""
        while time.monotonic() < end_s:
            await captioned(self._url, loud(900) + quiet(700), interim_results="true")

    async def _fail(self, seconds: float, outage: tuple[float, float]) -> None:
        await asyncio.sleep(seconds * outage[0])
        self._stub.answer = Answer(status=503)
        await asyncio.sleep(seconds * (outage[1] - outage[0]))
        self._stub.answer = Answer()

    async def _poison(self) -> None:
        """Content that replicas die of, in which nobody else's work is lost: nobody else is there yet."""
        async with Worker(self._url) as worker:
            await worker.init("poison", timeout_ms=30_000)
            await worker.send(0, self._audio[5], audio__duration_ms=MS)
            await worker.wait_results(1, 40)
            await worker.send(1, self._audio[6], audio__duration_ms=MS)  # until there is a replica again
            await worker.wait_results(2, 40)
            self._keep(worker)

    def _keep(self, worker: Worker) -> None:
        self.results += worker.results
        self.errors += worker.errors


async def _answered(worker: Worker, sent: int) -> None:
    """Wait until every fragment has its result or was refused."""
    await worker.wait(lambda: len(worker.results) + len(worker.errors) >= sent)
