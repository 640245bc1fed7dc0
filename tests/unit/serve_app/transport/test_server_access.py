"""The access of the Socket.IO shell, on a real port with real clients."""

from contextlib import suppress

import jwt
import pytest
import socketio
from pydantic import SecretStr

from serve_app.access import Access, AccessOptions, AuthOptions, LimitsConfig, Rates
from serve_app.transport.registry import Opening
from tests.unit.serve_app.transport.test_server import Server, Worker, fragment, within

KEY, OTHER_KEY = "a key of sixteen characters", "another key of that length"
SECRET = "a secret of thirty-two bytes or more"  # noqa: S105
AUTH = AuthOptions(api_keys=(SecretStr(KEY), SecretStr(OTHER_KEY)), jwt_secret=SecretStr(SECRET), jwt_audience="us")


@pytest.fixture
def access() -> Access:
    return Access(AUTH, AccessOptions(origins=("https://studio.example",)))


@pytest.fixture
async def server(access):
    server = Server()
    await server.start(access=access)
    yield server
    await server.stop()


@pytest.fixture
async def enter(server):
    made = []

    async def entering(token: str | None = KEY, **headers: str) -> Worker:
        worker = Worker(server)
        made.append(worker)
        worker.refusals = []
        worker.sio.on("connect_error", worker.refusals.append)
        auth = {"token": token} if token else None
        await worker.sio.connect(server.url, headers=headers, auth=auth, transports=["websocket"])
        return worker

    entering.made = made
    yield entering
    for worker in made:
        with suppress(Exception):
            await within(worker.sio.shutdown())


async def refusal(enter, *args, **headers) -> dict:
    with pytest.raises(socketio.exceptions.ConnectionError):
        await within(enter(*args, **headers))
    [told] = enter.made[-1].refusals
    assert told["message"] == told["data"]["message"]
    return told["data"]


async def test_a_refused_connection_is_told_why_counted_and_closed(enter, server):
    told = await refusal(enter, None)
    assert (told["code"], told["retryable"]) == ("AUTH_FAILED", False)
    assert (await refusal(enter, "a key that nobody has given"))["code"] == "AUTH_FAILED"
    assert (await refusal(enter, Origin="https://elsewhere.example"))["code"] == "AUTH_FAILED"
    assert server.counts.refusals == ["token", "token", "origin"]
    await server.until(lambda: not server.sockets._sio.eio.sockets)
    assert not server.sockets._connections


async def test_a_good_key_and_a_page_of_ours_work(enter):
    worker = await enter(Origin="https://studio.example")
    await worker.open()
    await worker.works(0)


async def test_connections_are_counted_until_they_end(enter, server, access):
    access.limits = LimitsConfig(per_key=Rates(connections=1))
    first = await enter()
    told = await refusal(enter)
    assert (told["code"], told["retryable"], told["details"]["limit"]) == ("RATE_LIMITED", True, 1)
    assert server.counts.refusals == ["limit"]
    await first.sio.disconnect()
    await server.until(lambda: not server.sockets._connections)
    await enter()


async def test_a_token_opens_the_streams_that_it_names_alone(enter):
    claims = {"exp": 4_000_000_000, "aud": "us", "sub": "desk", "streams": ["radio"]}
    worker = await enter(jwt.encode(claims, SECRET))
    await worker.sio.emit("stream:init", {"stream_id": "jazz", "worker_id": "w", "config": {"target_language": "es"}})
    error = await worker.error()
    assert (error["code"], error["stream_id"]) == ("AUTH_FAILED", "jazz")
    await worker.open()
    await worker.works(0)


async def test_too_many_fragments_are_refused_by_name_and_hold_nothing_up(enter, access):
    access.limits = LimitsConfig(per_key=Rates(fragments_per_minute=1))
    worker = await enter()
    await worker.open()
    await worker.works(0)
    await worker.send(1)
    error = await worker.error()
    assert (error["code"], error["retryable"]) == ("RATE_LIMITED", True)
    assert (error["fragment_id"], error["sequence_number"]) == ("f-1", 1)
    assert error["details"]["retry_after_ms"] > 0
    access.limits = LimitsConfig()
    await worker.sio.emit("fragment:data", fragment(2))
    assert (await worker.expect("fragment:processed"))["fragment_id"] == "f-2"


async def test_a_stream_is_taken_over_with_the_same_key_alone(enter):
    first = await enter()
    await first.open()
    stranger = await enter(OTHER_KEY)
    await stranger.sio.emit(
        "stream:init", {"stream_id": "radio", "worker_id": "w", "config": {"target_language": "es"}}
    )
    assert (await stranger.error())["code"] == "AUTH_FAILED"
    await first.works(0)
    again = await enter()
    await again.open()
    assert (await first.error())["code"] == "SESSION_REPLACED"


async def test_an_older_stream_of_another_subject_stays_and_the_newer_one_ends(enter, server):
    worker = await enter()
    await worker.open()
    carrier = server.sockets._streams.carrier("radio")
    session_id = carrier.session.settings.session_id
    own = server.sockets.settle("radio", session_id, [])
    assert own.subject == carrier.principal.subject.digest
    assert server.sockets.let_go(Opening("radio", "newer", own.epoch + 1, "a stranger")) is False
    await worker.works(0)
    server.sockets.expel(Opening("radio", "not this one", own.epoch + 1, ""))
    await worker.works(1)
    server.sockets.expel(own)
    error = await worker.error()
    assert (error["code"], error["severity"]) == ("AUTH_FAILED", "fatal")
    assert await within(worker.disconnected.get()) == "server disconnect"
