"""The whole corpus at a running server: each case gets its code, nothing restarts, and a stream beside goes on."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import pytest
import websockets
from rich.console import Console
from rich.table import Table
from websockets.protocol import State

from tests.hostile.corpus import OK, media
from tests.hostile.messages import Message, captions, messages
from tests.hostile.packets import packets
from tests.support import clips
from tests.support.worker import Worker

CONNECTIONS = 4
MAX_GROWTH_BYTES = 200 * 1024 * 1024
MAX_SLOWER = 20.0
"""The neighbour's median latency against itself before. Two cores decode the whole corpus meanwhile."""
HELD_S = 2.0
"""For which a stopped decoder holds its fragment; far from the deadline."""
PACKET_TIMEOUT_S = 10.0
OF_THE_DUB = {"DURATION_MISMATCH_EXCEEDED", "SYNTHESIS_FAILED"}
"""What decoded, if only to a few milliseconds, may still be too short for a dub."""


def processes(session: int) -> dict[int, tuple[str, int]]:
    """Replicas and decoders by process id: name and resident bytes, of all processes in the server's session."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if os.getsid(int(entry.name)) != session and not _descends(int(entry.name), session):
                continue
            name = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            resident = int((entry / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            continue
        if "ServeReplica" in name or "deployments.audio.decode_worker" in name:
            found[int(entry.name)] = (name, resident)
    return found


def _descends(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return False


async def neighbour(worker: Worker, first: int, stop: asyncio.Event) -> list[float]:
    """Latencies in ms of a stream that sends a fragment after another; all are successes."""
    audio, latencies_ms, number = clips.adts_fragments(1000)[0], [], first
    while not stop.is_set():
        started_s = time.monotonic()
        name = await worker.send(number, audio, audio__duration_ms=1000)
        result = await worker.wait(lambda name=name: worker.result(name))
        assert result["status"] == "success", result
        latencies_ms.append((time.monotonic() - started_s) * 1000)
        number += 1
        await asyncio.sleep(0.05)
    return latencies_ms


@dataclass
class Answers:
    """What the server said to the cases of a family."""

    codes: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    slowest: str = ""

    def note(self, case: str, code: str, seconds: float) -> None:
        self.codes[code] += 1
        if seconds > self.slowest_s:
            self.slowest_s, self.slowest = seconds, case


Book = dict[str, Answers]
"""Answers by family: the first word of a case's name, with what it belongs to."""


def note(book: Book, kind: str, case: str, code: str, started_s: float) -> None:
    family = f"{kind}: {case.split(maxsplit=1)[0]}"
    book.setdefault(family, Answers()).note(case, code, time.monotonic() - started_s)


def show(book: Book) -> None:
    """A row a family; `make hostile` shows it."""
    table = Table("family", "cases", "codes", "slowest s", "which", title="hostile input")
    for family, found in sorted(book.items()):
        codes = ", ".join(f"{code} {count}" for code, count in found.codes.most_common())
        table.add_row(family, str(found.codes.total()), codes, f"{found.slowest_s:.2f}", found.slowest)
    Console(width=150).print(table)


async def send_media(url: str, part: int, book: Book) -> dict[str, str]:
    """Wrong answers by case."""
    wrong = {}
    async with Worker(url) as worker:
        await worker.init(f"hostile-{part}", timeout_ms=30_000)
        for number, case in enumerate(media()[part::CONNECTIONS]):
            started_s = time.monotonic()
            name = await worker.send(
                number, b"", audio__data=case.data, audio__format=case.label, audio__duration_ms=600,
                audio__sample_rate_hz=case.rate_hz, audio__channels=case.channels,
            )  # fmt: skip
            result = await worker.wait(lambda name=name: worker.result(name))
            error = result.get("error")
            code = error["code"] if error else OK
            note(book, "media", case.name, code, started_s)
            allowed = case.expected | (OF_THE_DUB if OK in case.expected else set())
            if code not in allowed or (error and error["retryable"]):
                wrong[case.name] = f"{code}: {error}"
    return wrong


async def send_messages(
    url: str, cases: list[Message], opens: Callable[[Worker], Awaitable[object]], book: Book
) -> dict[str, str]:
    """Wrong answers by case.

    Args:
        url: of the server.
        cases: each of them refused.
        opens: gives a connection what they are about.
        book: where answers are noted.
    """
    wrong: dict[str, str] = {}
    left = list(cases)
    while left:
        async with Worker(url) as worker:
            await opens(worker)
            while left and not worker.disconnects:
                case = left.pop(0)
                seen = len(worker.errors)
                started_s = time.monotonic()
                try:
                    await worker.emit(case.event, case.payload)
                    news = await worker.wait(lambda w=worker, n=seen: w.errors[n:] or w.disconnects, 10)
                except TimeoutError:
                    wrong[case.name] = "no answer"
                    continue
                note(book, "message", case.name, "closed" if worker.disconnects else news[0]["code"], started_s)
                if worker.disconnects or news[0]["code"] not in case.expected or news[0]["retryable"]:
                    wrong[case.name] = "the connection was closed" if worker.disconnects else str(news[0])[:300]
    return wrong


async def opens_stream(worker: Worker) -> None:
    await worker.init("hostile-messages")


async def opens_captions(worker: Worker) -> None:
    await worker.emit("audio:start", {"config": {"channels": 2}})
    await worker.wait(lambda: worker.of("audio:ready"))


async def send_packets(port: int, book: Book) -> dict[str, str]:
    """Wrong endings by case."""
    wrong: dict[str, str] = {}
    url = f"ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket"
    for case in packets():
        async with websockets.connect(url, proxy=None, ping_interval=None) as raw:
            await asyncio.wait_for(raw.recv(), PACKET_TIMEOUT_S)
            if case.joined:
                await raw.send("40")
                await asyncio.wait_for(raw.recv(), PACKET_TIMEOUT_S)
            started_s = time.monotonic()
            with suppress(TimeoutError, websockets.ConnectionClosed):
                for frame in case.frames:
                    await raw.send(frame, text=True if case.as_text else None)
                await asyncio.wait_for(raw.wait_closed(), PACKET_TIMEOUT_S)
            code = raw.close_code if raw.state is State.CLOSED else None
        note(book, "packet", case.name, str(code), started_s)
        if code not in case.expected:
            wrong[case.name] = f"{code} {raw.close_reason}"
    return wrong


@pytest.mark.timeout(240)
async def test_the_whole_corpus_harms_nobody(serve):
    server = serve("fakes")
    media()  # made now: making them takes seconds, in which nothing could be timed
    async with Worker(server.url) as worker:
        await worker.init("neighbour", timeout_ms=30_000)
        calm = asyncio.Event()
        asyncio.get_running_loop().call_later(4, calm.set)
        alone_ms = await neighbour(worker, 0, calm)
        before = processes(server.process.pid)
        done = asyncio.Event()
        beside = asyncio.create_task(neighbour(worker, len(alone_ms), done))
        book: Book = {}
        *of_media, of_messages, of_captions, of_packets = await asyncio.gather(
            *(send_media(server.url, part, book) for part in range(CONNECTIONS)),
            send_messages(server.url, messages("hostile-messages"), opens_stream, book),
            send_messages(server.url, captions(), opens_captions, book),
            send_packets(server.port, book),
        )
        done.set()
        beside_ms = await beside
        after = processes(server.process.pid)
    growth_bytes = sum(rss for _, rss in after.values()) - sum(rss for _, rss in before.values())
    slower = median(beside_ms) / median(alone_ms)
    figures = (
        f"{len(media())} media, {len(messages('')) + len(captions())} messages, {len(packets())} packets,"
        f" {len(before)} processes, {growth_bytes >> 20} MiB more;"
        f" neighbour {median(alone_ms):.0f} ms alone, {median(beside_ms):.0f} ms beside, {slower:.1f} times"
    )
    show(book)
    print(figures)  # noqa: T201 - `make hostile` shows it
    assert not {
        name: told for wrong in (*of_media, of_messages, of_captions, of_packets) for name, told in wrong.items()
    }
    assert len(before) >= 4
    assert set(after) == set(before)
    assert growth_bytes < MAX_GROWTH_BYTES
    assert slower < MAX_SLOWER


async def test_a_decoder_killed_at_work_costs_its_fragment_nothing(serve):
    server = serve("fakes")
    audio = clips.adts_fragments(1000)[0]
    async with Worker(server.url) as worker:
        await worker.init("killed-decoder", timeout_ms=30_000)
        await worker.send(0, audio, audio__duration_ms=1000)
        await worker.wait_results(1)
        before = processes(server.process.pid)
        died = server.logged().count("decoder_died")
        children = [pid for pid, (name, _) in before.items() if "deployments.audio.decode_worker" in name]
        for pid in children:
            os.kill(pid, signal.SIGSTOP)
        try:
            second = await worker.send(1, audio, audio__duration_ms=1000)
            await worker.wait(lambda: len(worker.of("fragment:ack")) == 2)
            with pytest.raises(TimeoutError):
                await worker.wait_results(2, HELD_S)
        finally:
            for pid in children:
                os.kill(pid, signal.SIGKILL)
        result = await worker.wait(lambda: worker.result(second))
        after = processes(server.process.pid)
    assert result["status"] == "success"
    assert children
    assert server.logged().count("decoder_died") == died + 1
    assert {pid for pid, (name, _) in after.items() if "ServeReplica" in name} == set(before) - set(children)
