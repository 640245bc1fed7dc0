"""A connection's outbox, pipelines and timers."""

import asyncio
import gc
import weakref

import pytest
from structlog.testing import capture_logs

from serve_app.protocol import AudioEcho, ErrorCode, ErrorEvent, error_event
from serve_app.stream.values import Close
from serve_app.transport.connection import EVENT_BYTES, Connection
from serve_app.transport.engine_io import EngineCloser
from serve_app.transport.websocket import SocketLimits

TIMEOUT_S = 5.0
END = Close(0, 1000, "stream complete")
RESTART = Close(0, 1012, "server draining")


def told(number: int) -> ErrorEvent:
    return error_event(ErrorCode.INTERNAL, str(number))


class Line:
    """A connection with both ends written down."""

    def __init__(self, limits: SocketLimits | None = None) -> None:
        self.sent: list[tuple[str, bool]] = []
        self.news = asyncio.Event()
        self.dismissed = asyncio.Event()
        self.flushed = asyncio.Event()
        self.blocked = asyncio.Event()
        self.blocked.set()
        self.broken: set[str] = set()
        self.closer = EngineCloser(limits)
        self.retired = asyncio.Event()
        self.connection = Connection(
            "sid",
            None,
            None,
            closer=self.closer,
            send=self.send,
            flush=self.flush,
            dismiss=self.dismiss,
            retire=self.retired.set,
        )

    async def send(self, event: ErrorEvent, binary: bool) -> None:
        await self.blocked.wait()
        if event.message in self.broken:
            raise TypeError("not JSON")
        self.sent.append((event.message, binary))
        self.news.set()

    async def flush(self) -> None:
        self.closer.mark()
        self.flushed.set()

    async def dismiss(self) -> None:
        self.dismissed.set()

    async def until_sent(self, count: int) -> list[str]:
        async with asyncio.timeout(TIMEOUT_S):
            while len(self.sent) < count:
                self.news.clear()
                await self.news.wait()
        return [message for message, _ in self.sent]


@pytest.fixture
async def line():
    line = Line()
    yield line
    await line.connection.abandon()


async def within(awaitable):
    return await asyncio.wait_for(awaitable, TIMEOUT_S)


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_events_leave_in_the_order_in_which_they_were_posted(line):
    for number in range(20):
        line.connection.post(told(number))
    assert await line.until_sent(20) == [str(number) for number in range(20)]


async def test_the_binary_flag_goes_along(line):
    line.connection.binary = True
    line.connection.post(told(0))
    await line.until_sent(1)
    assert line.sent == [("0", True)]


async def test_an_event_that_cannot_be_sent_does_not_hold_up_the_next(line):
    line.broken.add("0")
    line.connection.post(told(0))
    line.connection.post(told(1))
    assert await line.until_sent(1) == ["1"]


async def test_the_end_comes_behind_everything_posted_before(line):
    line.blocked.clear()
    line.connection.post(told(0))
    line.connection.post(END)
    await turns()
    assert not line.dismissed.is_set()
    line.blocked.set()
    await within(line.dismissed.wait())
    assert line.sent == [("0", False)]


async def test_a_delayed_end_waits_on_the_event_loops_clock(line):
    line.connection.post(Close(60_000, 1000, "stream complete"))
    await turns()
    assert not line.dismissed.is_set()
    loop = asyncio.get_running_loop()
    assert 59 < line.connection._end.when() - loop.time() <= 60


async def test_a_restart_closes_the_socket_at_a_mark_and_does_not_dismiss(line):
    line.connection.post(RESTART)
    close = await within(line.closer.wait())
    assert (close["code"], close["reason"]) == (1012, "server draining")
    assert line.flushed.is_set()
    assert not line.dismissed.is_set()


async def test_a_new_stream_forgets_an_end_whose_time_is_running(line):
    line.connection.post(Close(60_000, 1000, "stream complete"))
    await turns()
    end = line.connection._end
    line.connection.stay()
    assert end.cancelled()


async def test_a_new_stream_forgets_an_end_that_is_still_in_the_outbox(line):
    line.connection.post(END)
    line.connection.stay()
    line.connection.post(told(0))
    await line.until_sent(1)
    await turns()
    assert not line.dismissed.is_set()


async def test_the_last_end_counts(line):
    line.connection.post(Close(60_000, 1000, "stream complete"))
    await turns()
    first = line.connection._end
    line.connection.post(RESTART)
    await within(line.closer.wait())
    assert first.cancelled()


async def test_a_pipeline_runs_until_it_is_done(line):
    done = asyncio.Event()

    async def pipeline():
        done.set()

    line.connection.start(1, pipeline())
    await within(done.wait())
    await turns()
    assert line.connection._pipelines == {}


async def test_cancel_stops_one_pipeline_and_no_other(line):
    stopped = {1: asyncio.Event(), 2: asyncio.Event()}

    async def pipeline(ticket: int):
        try:
            await asyncio.Event().wait()
        finally:
            stopped[ticket].set()

    for ticket in stopped:
        line.connection.start(ticket, pipeline(ticket))
    await turns()
    line.connection.cancel(1)
    line.connection.cancel(7)
    await within(stopped[1].wait())
    assert not stopped[2].is_set()
    assert set(line.connection._pipelines) == {2}


async def test_a_ticket_of_a_new_stream_is_not_confused_with_the_old_one(line):
    """Tickets start again with each stream, while a cancelled pipeline may still be on its way out."""
    leaving, left = asyncio.Event(), asyncio.Event()

    async def slow_to_leave():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await leaving.wait()
            left.set()

    line.connection.start(1, slow_to_leave())
    await turns()
    line.connection.cancel(1)
    line.connection.start(1, asyncio.Event().wait())
    leaving.set()
    await within(left.wait())
    await turns()
    assert set(line.connection._pipelines) == {1}


async def test_a_pipeline_that_breaks_is_logged_and_forgotten(line):
    async def pipeline():
        raise ZeroDivisionError("a bug")

    with capture_logs() as logged:
        line.connection.start(1, pipeline())
        await turns()
    assert line.connection._pipelines == {}
    assert [entry["event"] for entry in logged] == ["fragment_failed"]


async def test_a_new_tick_replaces_the_one_before(line):
    called = []
    fired = asyncio.Event()
    now = asyncio.get_running_loop().time()
    line.connection.tick_at(now, lambda: called.append("first"))
    line.connection.tick_at(now, lambda: (called.append("second"), fired.set()))
    await within(fired.wait())
    assert called == ["second"]


async def test_no_tick_takes_the_one_before_away(line):
    called = []
    line.connection.tick_at(asyncio.get_running_loop().time(), lambda: called.append("tick"))
    line.connection.tick_at(None, lambda: called.append("never"))
    await turns()
    assert called == []


async def test_abandon_stops_everything():
    before = asyncio.all_tasks()
    line = Line()
    ticks = []
    line.connection.start(1, asyncio.Event().wait())
    line.connection.tick_at(asyncio.get_running_loop().time(), lambda: ticks.append(1))
    line.connection.post(Close(0, 1000, "x"))
    await line.connection.abandon()
    await turns()
    assert asyncio.all_tasks() == before
    assert ticks == []
    assert not line.dismissed.is_set()


async def test_a_writer_that_finds_the_client_gone_can_abandon_its_own_connection():
    """Engine.IO notices a missing pong while it sends, and tells of the disconnect from in there."""
    line = Line()
    writer = line.connection._writer
    outcome = asyncio.get_running_loop().create_future()

    async def send(event, binary):
        try:
            await line.connection.abandon()
        except BaseException as error:
            outcome.set_result(error)
            raise
        outcome.set_result(None)

    line.connection._send = send
    line.connection.post(told(0))
    assert await within(outcome) is None
    await asyncio.wait([writer], timeout=TIMEOUT_S)
    assert writer.cancelled()


class Held:
    """Stands for the session that a connection holds."""

    in_flight = 0

    def __init__(self) -> None:
        self.room_bytes: list[int] = []

    def make_room(self, max_bytes: int) -> None:
        self.room_bytes.append(max_bytes)


async def test_what_waits_to_be_read_takes_room_from_what_is_kept(limited):
    line = limited(max_unread_bytes=3 * EVENT_BYTES)
    line.blocked.clear()
    line.connection.session = held = Held()
    for number in range(4):
        line.connection.post(told(number))
    assert held.room_bytes == [2 * EVENT_BYTES, EVENT_BYTES, 0, 0]


async def test_what_an_abandoned_connection_held_is_free_without_the_collector():
    gc.disable()
    try:
        line = Line()
        line.connection.session = Held()
        session = weakref.ref(line.connection.session)
        line.connection.post(told(0))
        await turns()
        await line.connection.abandon()
        assert session() is None
    finally:
        gc.enable()


@pytest.fixture
async def limited():
    """Makes connections with limits of their own."""
    lines = []

    def make(**limits) -> Line:
        lines.append(Line(SocketLimits.model_construct(**limits)))
        return lines[-1]

    yield make
    for line in lines:
        await line.connection.abandon()


async def test_too_much_that_waits_ends_the_connection_and_nothing_more_is_kept(limited):
    line = limited(max_unread_bytes=10 * EVENT_BYTES)
    line.blocked.clear()
    for number in range(10):
        line.connection.post(told(number))
    assert not line.closer.asked
    for number in range(1000):
        line.connection.post(told(number))
    assert (await within(line.closer.wait()))["code"] == 1008
    assert line.closer.delivery.unread_bytes == 11 * EVENT_BYTES


async def test_what_has_been_handed_over_waits_no_longer(limited):
    line = limited(max_unread_bytes=10 * EVENT_BYTES)
    for number in range(100):
        line.connection.post(told(number))
        await line.until_sent(number + 1)
        await turns()
    assert not line.closer.asked
    assert line.closer.delivery.waiting_bytes == 0


async def test_one_event_at_a_time_is_in_engine_ios_queue(limited):
    line = limited()
    line.connection._flush = line.dismiss
    line.connection.post(told(0))
    line.connection.post(told(1))
    await line.until_sent(1)
    await turns()
    assert len(line.sent) == 1, "the first has not come out at the socket"
    line.closer.mark()
    await line.until_sent(2)


async def test_an_idle_connection_is_closed(limited):
    line = limited(idle_timeout_s=0.01)
    assert await within(line.closer.wait()) == {"type": "websocket.close", "code": 1008, "reason": "idle for 0.01 s"}


async def test_work_in_flight_keeps_a_connection(limited):
    line = limited(idle_timeout_s=0.01)
    done = asyncio.Event()

    async def work():
        await done.wait()

    line.connection.start(1, work())
    looked = asyncio.get_running_loop().time() + 0.05
    asyncio.get_running_loop().call_at(looked, done.set)
    await within(line.closer.wait())
    assert done.is_set()


async def test_a_connection_that_has_lasted_long_enough_is_retired(limited):
    line = limited(max_session_s=0.01)
    await within(line.retired.wait())


async def test_a_connection_lasts_for_ever_by_default(line):
    assert line.connection._retirement is None


async def test_an_end_that_is_under_way_goes_on_though_another_one_follows(line):
    """The event loop holds its tasks weakly: what nobody else holds may be collected half way."""
    given_up, done, go_on = [], [], []

    async def flush():
        waiting = asyncio.get_running_loop().create_future()
        go_on.append(weakref.ref(waiting))
        try:
            await waiting
        except GeneratorExit:
            given_up.append(len(go_on))
            raise
        done.append(len(done))

    line.connection._flush = flush
    for _ in range(2):
        line.connection._close(RESTART)
        await turns()
    gc.collect()
    assert given_up == []
    for waiting in go_on:
        waiting().set_result(None)
    await turns()
    assert done == [0, 1]
    assert not line.connection._ending


class Guest:
    """Something else that a connection carries."""

    stream_id = "mic"

    def __init__(self) -> None:
        self.left = 0

    def send_away(self, reason: str) -> None:
        raise AssertionError(reason)

    def leave(self) -> None:
        self.left += 1


async def test_what_else_a_connection_carries_is_told_once_that_it_is_gone():
    line = Line()
    line.connection.guest = guest = Guest()
    assert not line.connection.gone
    await line.connection.abandon()
    await line.connection.abandon()
    assert (guest.left, line.connection.guest, line.connection.gone) == (1, None, True)


async def test_with_it_a_connection_may_be_silent_as_long_as_with_a_stream(limited):
    line = limited(idle_timeout_s=0.02, stream_idle_timeout_s=60)
    line.connection.guest = Guest()
    await asyncio.sleep(0.1)
    assert not line.closer.asked
    line.connection.guest = None
    async with asyncio.timeout(TIMEOUT_S):
        while not line.closer.asked:
            await asyncio.sleep(0.01)


async def test_sound_that_comes_back_counts_as_unread_with_all_its_bytes(limited):
    line = limited(max_unread_bytes=3 * EVENT_BYTES)
    line.blocked.clear()
    line.connection.post(AudioEcho(stream_id="mic", data=bytes(EVENT_BYTES)))
    assert not line.closer.asked
    line.connection.post(AudioEcho(stream_id="mic", data=bytes(EVENT_BYTES)))
    assert line.closer.asked
