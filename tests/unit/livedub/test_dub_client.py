"""DubClient against a scripted server over real sockets."""

import asyncio
import dataclasses
import pickle
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest.mock import AsyncMock

import pytest
import socketio.exceptions

from livedub import (
    ConnectFailed,
    DubClient,
    DubError,
    Fragment,
    FragmentResult,
    InitRefused,
    StreamConfig,
    StreamFailed,
    Timeouts,
)

from .conftest import StandIn, failed, processed, serving

SWIFT = Timeouts(
    connect_s=5.0,
    retry_delays_s=(0.01, 0.01, 0.01, 0.01, 0.01),
    reconnect_delays_s=(0.01, 0.05),
    reconnect_s=5.0,
    stall_s=5.0,
    complete_s=5.0,
)
CONFIG = StreamConfig(target_language="es", format="pcm_s16le", sample_rate_hz=16_000)


def a_client(server: StandIn, **options) -> DubClient:
    return DubClient(server.url, **{"config": CONFIG, "stream_id": "s1", "timeouts": SWIFT} | options)


def fragment(number: int, **options) -> Fragment:
    audio = bytes([number, 0]) * 1600
    return Fragment(
        audio, "pcm_s16le", 16_000, 1, 100, fragment_id=f"f{number}", pts_ns=number * 100_000_000, **options
    )


async def collect(client: DubClient) -> list[FragmentResult]:
    return [result async for result in client.results()]


async def dub(client: DubClient, count: int) -> list[FragmentResult]:
    """Send `count` fragments, end, and return the results."""
    async with asyncio.timeout(20), client:
        reading = asyncio.create_task(collect(client))
        for number in range(count):
            await client.send(fragment(number))
        await client.end()
        return await reading


@asynccontextmanager
async def client_closing(client: DubClient) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await client.close()


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("binary", [True, False])
async def test_results_come_in_order_with_their_audio_as_bytes(stand_in: StandIn, binary: bool) -> None:
    results = await dub(a_client(stand_in, binary=binary), 5)

    assert [result.sequence_number for result in results] == [0, 1, 2, 3, 4]
    assert {result.status for result in results} == {"success"}
    last = results[-1].processed
    assert last is not None
    assert last.dubbed_audio is not None
    assert last.dubbed_audio.data == fragment(4).audio
    assert isinstance(stand_in.fragments[0]["audio"].get("data"), bytes) is binary
    assert stand_in.fragments[3]["metadata"] == {"pts_ns": 300_000_000}
    assert stand_in.inits[0]["first_sequence_number"] == 0
    assert [data["stream_id"] for data in stand_in.of("stream:end")] == ["s1"]


async def test_every_result_is_acknowledged_when_it_comes_and_when_it_is_taken(stand_in: StandIn) -> None:
    await dub(a_client(stand_in), 2)
    await until(lambda: len(stand_in.of("fragment:ack")) == 4)

    acks = [(ack["fragment_id"], ack["status"]) for ack in stand_in.of("fragment:ack")]
    assert sorted(acks) == sorted((f"f{n}", status) for n in range(2) for status in ("applied", "received"))


async def test_never_more_in_flight_than_the_server_allows(stand_in: StandIn) -> None:
    stand_in.ready = {"max_inflight": 2}
    waiting: list[tuple[str, dict]] = []
    peak = 0

    async def hold(sid: str, data: dict) -> None:
        nonlocal peak
        waiting.append((sid, data))
        peak = max(peak, len(waiting))
        if len(waiting) == 2 or data["sequence_number"] == 5:
            while waiting:
                await stand_in.answer(*waiting.pop(0))

    stand_in.on_fragment = hold
    results = await dub(a_client(stand_in, max_inflight=3), 6)

    assert len(results) == 6
    assert peak == 2


async def test_a_pause_stops_sending_until_none(stand_in: StandIn) -> None:
    level = {
        "stream_id": "s1",
        "severity": "high",
        "action": "pause",
        "current_inflight": 7,
        "max_inflight": 3,
        "queue_depth": 7,
        "threshold_exceeded": "high",
        "recommended_delay_ms": 10,
    }
    async with a_client(stand_in) as client:
        await stand_in.emit("backpressure", level)
        await until(lambda: client.status == "the server's pause")
        sending = asyncio.create_task(client.send(fragment(0)))
        await stand_in.emit("backpressure", level | {"action": "slow_down", "severity": "medium"})
        await stand_in.emit("fragment:ack", {})
        assert not sending.done()
        assert stand_in.fragments == []

        await stand_in.emit("backpressure", level | {"action": "none", "severity": "low"})
        assert await asyncio.wait_for(sending, 5) == 0
        await client.end()


async def test_what_fails_for_now_is_sent_again_and_what_fails_for_good_is_not(stand_in: StandIn) -> None:
    tries: dict[str, int] = {}

    async def script(sid: str, data: dict) -> None:
        name = data["fragment_id"]
        tries[name] = tries.get(name, 0) + 1
        if name == "f0" and tries[name] == 1:
            await stand_in.emit("fragment:processed", failed(data))
        elif name == "f0" and tries[name] == 2:
            refusal = {"code": "BACKPRESSURE_EXCEEDED", "message": "full", "retryable": True}
            await stand_in.emit("error", refusal | {"fragment_id": name, "sequence_number": 0})
        elif name == "f1":
            await stand_in.emit("fragment:processed", failed(data, "INVALID_AUDIO", retryable=False))
        elif name == "f2":
            await stand_in.emit("fragment:processed", failed(data, "MODEL_ERROR"))
        else:
            await stand_in.answer(sid, data)

    stand_in.on_fragment = script
    results = await dub(a_client(stand_in), 4)

    assert [(r.status, r.attempts) for r in results] == [("success", 3), ("failed", 1), ("failed", 6), ("success", 1)]
    assert [r.failure.code for r in results if r.failure] == ["INVALID_AUDIO", "MODEL_ERROR"]
    assert {data["sequence_number"] for data in stand_in.fragments if data["fragment_id"] == "f0"} == {0}


async def test_a_lost_connection_comes_back_with_what_is_unfinished(stand_in: StandIn) -> None:
    async def crash_once(sid: str, data: dict) -> None:
        if data["sequence_number"] == 0 or len(stand_in.inits) > 1:
            await stand_in.answer(sid, data)
        elif data["sequence_number"] == 3:
            await stand_in.sio.disconnect(sid)

    stand_in.on_fragment = crash_once
    client = a_client(stand_in)
    results = await dub(client, 4)

    assert [result.status for result in results] == ["success"] * 4
    assert client.reconnects == 1
    assert [(init["stream_id"], init["first_sequence_number"]) for init in stand_in.inits] == [("s1", 0), ("s1", 1)]
    assert [data["sequence_number"] for data in stand_in.fragments[4:]] == [1, 2, 3]
    assert [data["fragment_id"] for data in stand_in.fragments[4:]] == ["f1", "f2", "f3"]


async def test_a_server_that_restarts_is_found_again() -> None:
    before, after = StandIn(), StandIn()

    async def never(sid: str, data: dict) -> None:
        return

    before.on_fragment = never
    async with serving(before):
        client = a_client(before)
        await client.connect()
        await client.send(fragment(0))
        await until(lambda: before.fragments)
    await until(lambda: client.status == "no connection")
    async with serving(after, int(before.url.rsplit(":", 1)[1])), client_closing(client):
        await client.send(fragment(1))
        await client.end()
        assert [(r.fragment_id, r.status) async for r in client.results()] == [("f0", "success"), ("f1", "success")]
    assert after.inits[0]["first_sequence_number"] == 0


async def test_a_server_that_never_comes_back_is_given_up() -> None:
    timeouts = dataclasses.replace(SWIFT, reconnect_s=0.1)
    async with serving(StandIn()) as gone:
        client = a_client(gone, timeouts=timeouts)
        await client.connect()
    async with client_closing(client):
        with pytest.raises(StreamFailed, match=r"didn't come back within 0\.1 s.*Is the server running"):
            await client.send(fragment(0))


async def test_a_server_that_refuses_for_now_is_asked_again(stand_in: StandIn) -> None:
    async with a_client(stand_in) as client:
        stand_in.refuse_init.append({"code": "SERVER_DRAINING", "message": "going", "retryable": True})
        await stand_in.emit(
            "error", {"code": "SERVER_DRAINING", "message": "going", "retryable": True, "severity": "fatal"}
        )
        await until(lambda: len(stand_in.inits) == 3)
        await client.send(fragment(0))
        await client.end()
        assert [result.status async for result in client.results()] == ["success"]


async def test_a_server_that_goes_finishes_what_is_in_flight_and_the_next_one_gets_the_rest(stand_in: StandIn) -> None:
    held: list[tuple[str, dict]] = []

    async def going(sid: str, data: dict) -> None:
        refused = {"code": "SERVER_DRAINING", "message": "going", "retryable": True}
        if len(stand_in.inits) > 1:
            await stand_in.answer(sid, data)
        elif data["sequence_number"] == 0:
            held.append((sid, data))
            await stand_in.emit("error", refused | {"severity": "warning", "stream_id": "s1"})
        else:
            await stand_in.emit("error", refused | {"fragment_id": data["fragment_id"], "sequence_number": 1})

    stand_in.on_fragment = going
    async with asyncio.timeout(20), a_client(stand_in) as client:
        await client.send(fragment(0))
        await client.send(fragment(1))
        await until(lambda: client.status == "another server")
        sending = asyncio.create_task(client.send(fragment(2)))
        await until(lambda: held)
        sid, data = held.pop()
        await stand_in.answer(sid, data)
        await until(
            lambda: ("f0", "received") in [(a["fragment_id"], a["status"]) for a in stand_in.of("fragment:ack")]
        )
        assert not sending.done()
        assert len(stand_in.inits) == 1
        await stand_in.sio.disconnect(sid)
        await sending
        summary = await client.end()
        results = await collect(client)

    assert [(r.fragment_id, r.status) for r in results] == [("f0", "success"), ("f1", "success"), ("f2", "success")]
    assert [data["fragment_id"] for data in stand_in.fragments].count("f0") == 1
    assert summary.total_fragments == 3


async def test_a_server_that_says_it_goes_and_does_not_is_left(stand_in: StandIn) -> None:
    timeouts = dataclasses.replace(SWIFT, answer_margin_s=-0.9)
    async with asyncio.timeout(10), a_client(stand_in, timeouts=timeouts, timeout_ms=1000) as client:
        await stand_in.emit(
            "error", {"code": "SERVER_DRAINING", "message": "going", "retryable": True, "severity": "warning"}
        )
        await until(lambda: client.status == "another server")
        await client.send(fragment(0))
        await client.end()
    assert len(stand_in.inits) == 2


async def test_what_was_finished_before_a_reconnect_leaves_no_gap_and_is_in_the_summary(stand_in: StandIn) -> None:
    """A server waits for a number that is missing, so the new connection's run through."""

    async def crash(sid: str, data: dict) -> None:
        if len(stand_in.inits) > 1 or data["fragment_id"] == "f1":
            await stand_in.answer(sid, data)
        elif data["fragment_id"] == "f2":
            await stand_in.sio.disconnect(sid)

    stand_in.on_fragment = crash
    async with asyncio.timeout(20), a_client(stand_in) as client:
        for number in range(4):
            await client.send(fragment(number))
        summary = await client.end()
        results = await collect(client)

    assert [(data["fragment_id"], data["sequence_number"]) for data in stand_in.fragments[3:]] == [
        ("f0", 0),
        ("f2", 1),
        ("f3", 2),
    ]
    assert [(r.fragment_id, r.sequence_number) for r in results] == [(f"f{n}", n) for n in range(4)]
    assert [r.processed.sequence_number for r in results if r.processed] == [0, 1, 2, 3]
    assert (summary.total_fragments, summary.success_count, summary.total_duration_ms) == (4, 4, 400)


async def test_out_of_memory_reopens_the_stream_with_a_smaller_window(stand_in: StandIn) -> None:
    async with a_client(stand_in, max_inflight=4) as client:
        body = {"code": "GPU_OOM", "message": "full", "retryable": True, "severity": "fatal"}
        await stand_in.emit("error", body)
        await until(lambda: len(stand_in.inits) == 2)
        assert stand_in.inits[1]["max_inflight"] == 2
        assert client.stream_id == "s1"


async def test_a_stream_that_another_worker_took_over_fails_and_stays_away(stand_in: StandIn) -> None:
    async with a_client(stand_in) as client:
        body = {"code": "SESSION_REPLACED", "message": "taken over", "retryable": False, "severity": "fatal"}
        await stand_in.emit("error", body)

        with pytest.raises(StreamFailed, match="SESSION_REPLACED") as failure:
            await collect(client)
        assert failure.value.code == "SESSION_REPLACED"
        with pytest.raises(StreamFailed):
            await client.send(fragment(0))
    assert len(stand_in.inits) == 1
    assert stand_in.of("stream:end") == []


async def test_a_result_that_breaks_the_protocol_ends_the_stream_naming_the_field(stand_in: StandIn) -> None:
    async def lie(sid: str, data: dict) -> None:
        await stand_in.emit("fragment:processed", processed(data, status="great"))

    stand_in.on_fragment = lie
    async with a_client(stand_in) as client:
        await client.send(fragment(0))
        with pytest.raises(StreamFailed, match=r"fragment:processed .* status"):
            await client.end()


async def test_a_refused_configuration_is_told_with_code_and_words(stand_in: StandIn) -> None:
    stand_in.refuse_init.append(
        {"code": "UNSUPPORTED_LANGUAGE_PAIR", "message": "en to xx: use es", "retryable": False}
    )
    with pytest.raises(InitRefused, match="en to xx: use es") as refusal:
        await a_client(stand_in).connect()
    assert refusal.value.code == "UNSUPPORTED_LANGUAGE_PAIR"
    assert not refusal.value.retryable


async def test_a_bad_token_is_told_as_the_server_said_it(stand_in: StandIn) -> None:
    stand_in.refuse_connect = socketio.exceptions.ConnectionRefusedError(
        "AUTH_FAILED", {"code": "AUTH_FAILED", "message": "unknown API key"}
    )
    with pytest.raises(ConnectFailed, match="AUTH_FAILED: unknown API key") as failure:
        await a_client(stand_in, token="wrong").connect()  # noqa: S106
    assert failure.value.code == "AUTH_FAILED"


async def test_auth_that_fails_on_reconnect_is_final(stand_in: StandIn) -> None:
    async with a_client(stand_in) as client:
        stand_in.refuse_connect = socketio.exceptions.ConnectionRefusedError("AUTH_FAILED")
        await stand_in.sio.disconnect(stand_in.sids[-1])
        with pytest.raises(ConnectFailed, match="AUTH_FAILED"):
            await collect(client)


async def test_nobody_there_is_told_with_the_url_and_what_to_check() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(ConnectFailed, match=rf"{url}.*Is the server running"):
        await DubClient(url, config=CONFIG).connect()
    with pytest.raises(ConnectFailed, match="write it like"):
        await DubClient("localhost:8000", config=CONFIG).connect()


async def test_a_server_that_says_nothing_is_not_waited_for_for_ever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        timeouts = dataclasses.replace(SWIFT, connect_s=0.2)
        with pytest.raises(ConnectFailed, match=r"did not answer within 0\.2 s"):
            await DubClient(url, config=CONFIG, timeouts=timeouts).connect()


async def test_another_web_server_is_recognised(stand_in: StandIn) -> None:
    with pytest.raises(ConnectFailed, match=r"instead of opening a WebSocket.*/elsewhere/"):
        await DubClient(f"{stand_in.url}/elsewhere", config=CONFIG).connect()


async def test_a_worker_pauses_and_resumes(stand_in: StandIn) -> None:
    async with a_client(stand_in) as client:
        await client.pause("advertisement")
        sending = asyncio.create_task(client.send(fragment(0)))
        await until(lambda: stand_in.of("stream:pause"))
        assert stand_in.of("stream:pause") == [{"stream_id": "s1", "reason": "advertisement"}]
        assert not sending.done()
        await client.resume()
        await asyncio.wait_for(sending, 5)
        await client.end()
        assert stand_in.of("stream:resume") == [{"stream_id": "s1"}]


async def test_a_stream_without_room_fails_saying_what_it_waits_for(stand_in: StandIn) -> None:
    async def silence(sid: str, data: dict) -> None:
        return

    stand_in.on_fragment = silence
    timeouts = dataclasses.replace(SWIFT, stall_s=0.2)
    async with a_client(stand_in, max_inflight=1, timeouts=timeouts) as client:
        await client.send(fragment(0))
        with pytest.raises(StreamFailed, match="full window"):
            await client.send(fragment(1))


async def test_a_stream_that_never_completes_is_not_waited_for_for_ever(stand_in: StandIn) -> None:
    async def silence(sid: str, data: dict) -> None:
        return

    stand_in.sio.on("stream:end", silence)
    timeouts = dataclasses.replace(SWIFT, complete_s=0.1)
    async with a_client(stand_in, timeouts=timeouts) as client:
        with pytest.raises(StreamFailed, match=r"no stream:complete within 0\.1 s"):
            await client.end()
        with pytest.raises(StreamFailed, match="has been ended"):
            await client.send(fragment(0))


@pytest.mark.parametrize("code", ["STREAM_NOT_FOUND", "RATE_LIMITED"])
async def test_errors_about_the_stream(stand_in: StandIn, code: str) -> None:
    """A stream that the server forgot is opened again; other errors that aren't fatal change nothing."""
    async with a_client(stand_in) as client:
        await stand_in.emit("error", {"code": code, "message": "scripted", "retryable": False})
        await until(lambda: len(stand_in.inits) == (2 if code == "STREAM_NOT_FOUND" else 1))
        await client.send(fragment(0))
        await client.end()
        assert [result.status async for result in client.results()] == ["success"]


async def test_leaving_without_end_tells_the_server(stand_in: StandIn) -> None:
    async with a_client(stand_in) as client:
        await client.send(fragment(0))
    await until(lambda: stand_in.of("stream:end"))
    assert stand_in.of("stream:end")[0]["reason"] == "closed"
    await client.close()
    with pytest.raises(StreamFailed, match="not open"):
        await client.send(fragment(1))


async def test_a_dub_of_more_than_4_mib_arrives(stand_in: StandIn) -> None:
    big = Fragment(bytes(6 * 2**20), "pcm_s16le", 48_000, 2, 30_000)
    async with asyncio.timeout(20), a_client(stand_in, binary=False) as client:
        await client.send(big)
        await client.end()
        results = await collect(client)
    assert results[0].status == "success"


async def test_a_fragment_beyond_the_protocol_is_refused_before_it_is_sent(stand_in: StandIn) -> None:
    async with a_client(stand_in) as client:
        with pytest.raises(ValueError, match="cut shorter"):
            await client.send(Fragment(bytes(11 * 2**20), "pcm_s16le", 48_000, 2, 60_000))
        with pytest.raises(ValueError, match="duration_ms"):
            await client.send(Fragment(b"", "pcm_s16le", 48_000, 2, 61_000))


@pytest.mark.parametrize(
    "error",
    [ConnectFailed("no", "AUTH_FAILED"), InitRefused("no", "INVALID_CONFIG", retryable=True), StreamFailed("no")],
)
def test_errors_survive_pickling(error: DubError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


async def test_the_next_address_is_tried_where_nobody_listens(stand_in: StandIn) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with DubClient([nobody, stand_in.url], config=CONFIG, timeouts=SWIFT) as client:
        await client.send(fragment(0))
        await client.end()
    assert len(stand_in.fragments) == 1


async def test_a_stream_goes_on_at_another_address_when_its_own_is_gone(stand_in: StandIn) -> None:
    first = StandIn()
    first.on_fragment = AsyncMock()
    async with serving(first):
        client = DubClient([first.url, stand_in.url], config=CONFIG, stream_id="s1", timeouts=SWIFT)
        await client.connect()
        await client.send(fragment(0))
        await until(lambda: first.fragments)
    await client.end()
    await client.close()
    assert client.reconnects == 1
    assert [data["fragment_id"] for data in stand_in.fragments] == [first.fragments[0]["fragment_id"]]


async def test_no_address_is_asked_again_what_it_refused_for_good(stand_in: StandIn) -> None:
    other = StandIn()
    refusal = {"code": "INVALID_CONFIG", "message": "no", "severity": "error", "retryable": False}
    stand_in.refuse_init = [refusal]
    async with serving(other):
        with pytest.raises(InitRefused):
            await DubClient([stand_in.url, other.url], config=CONFIG, timeouts=SWIFT).connect()
    assert not other.inits


async def test_the_last_address_says_why_none_was_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        urls = [f"http://127.0.0.1:{listener.getsockname()[1]}" for listener in (one, two)]
    with pytest.raises(ConnectFailed, match=urls[1]):
        await DubClient(urls, config=CONFIG, timeouts=SWIFT).connect()
    with pytest.raises(ValueError, match="needs the URL"):
        DubClient([], config=CONFIG)
