"""A DubClient that streams beside whatever a test does to the server."""

import asyncio
import itertools
from collections.abc import Sequence

from livedub import DubClient, Fragment, FragmentResult, StreamConfig
from serve_app.protocol import StreamComplete

CONFIG = StreamConfig(target_language="es", format="pcm_s16le", sample_rate_hz=16_000)
PACE_S = 0.1


class Streaming:
    """One that sends until told to stop; meanwhile what it has got, afterwards the stream's summary."""

    def __init__(self, url: str | Sequence[str], name: str) -> None:
        self.client = DubClient(url, config=CONFIG, stream_id=name)
        self.stop = asyncio.Event()
        self.sent: list[str] = []
        self.results: list[FragmentResult] = []
        self.summary: StreamComplete | None = None

    async def run(self) -> None:
        async with self.client, asyncio.TaskGroup() as reading:
            reading.create_task(self._read())
            for number in itertools.count():
                self.sent.append(f"{self.client.stream_id}-{number}")
                audio = (number + 1).to_bytes(2, "little") * 3200
                await self.client.send(Fragment(audio, "pcm_s16le", 16_000, 1, 200, fragment_id=self.sent[-1]))
                if self.stop.is_set():
                    break
                await asyncio.sleep(PACE_S)
            self.summary = await self.client.end()

    async def _read(self) -> None:
        async for result in self.client.results():
            self.results.append(result)

    def assert_nothing_was_lost(self) -> None:
        """Each fragment has its one result, in order, and it is a success."""
        assert [result.fragment_id for result in self.results] == self.sent
        assert [result.sequence_number for result in self.results] == list(range(len(self.sent)))
        assert {result.status for result in self.results} == {"success"}
