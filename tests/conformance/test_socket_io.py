"""Socket.IO v5 over Engine.IO v4, WebSocket only: raw frames in, raw frames out.

The heartbeat is slower than every limit here, so that nothing passes because a ping went unanswered; the tests of the
heartbeat itself use a fast one. `server.py` tells how to run the public suite beside these.
"""

import asyncio
import json
import logging

import pytest
import websockets

from serve_app.transport.websocket import SocketLimits
from tests.conformance.server import conformance_app, serving

TIMEOUT_S = 10.0
SLOW = {"ping_interval_s": 60.0, "ping_timeout_s": 60.0}
FAST = {"ping_interval_s": 0.3, "ping_timeout_s": 0.2}
QUERY = "EIO=4&transport=websocket"


@pytest.fixture
async def port():
    sio, app = conformance_app(**SLOW, limits=SocketLimits())
    async with serving(app, sio) as port:
        yield port
        await asyncio.wait_for(_emptied(sio), TIMEOUT_S)


async def _emptied(sio) -> None:
    """Until the server holds nothing of the clients that have left."""
    while sio.environ or any(sio.manager.get_participants(name, None) for name in list(sio.manager.rooms)):
        await asyncio.sleep(0.01)


def connect(port: int, query: str = QUERY):
    return websockets.connect(f"ws://127.0.0.1:{port}/socket.io/?{query}", proxy=None, ping_interval=None)


async def read(socket) -> str | bytes:
    """The next frame, heartbeats aside."""
    while True:
        frame = await asyncio.wait_for(socket.recv(), TIMEOUT_S)
        if frame != "2":
            return frame


async def joined(socket, namespace: str = "") -> None:
    await read(socket)
    await socket.send(f"40{namespace}")
    assert str(await read(socket)).startswith("40")
    assert "auth" in str(await read(socket))


async def _drained(socket) -> None:
    while True:
        await socket.recv()


async def closed(socket) -> tuple[int, str]:
    """How the server ends the connection; frames before that are skipped."""
    with pytest.raises(websockets.ConnectionClosed) as ended:
        await asyncio.wait_for(_drained(socket), TIMEOUT_S)
    assert ended.value.rcvd is not None, "the server closes with a close frame"
    return ended.value.rcvd.code, ended.value.rcvd.reason


async def test_the_handshake_tells_the_session_and_offers_no_upgrade(port):
    async with connect(port) as socket:
        frame = str(await read(socket))
        opened = json.loads(frame[1:])
        assert frame[0] == "0"
        assert opened.keys() == {"sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"}
        assert (opened["upgrades"], opened["pingInterval"], opened["pingTimeout"]) == ([], 60_000, 60_000)


@pytest.mark.parametrize(("interval_s", "told_ms"), [(0.3, 1000), (2.3, 3000), (25.0, 25_000)])
async def test_no_client_is_told_to_expect_pings_sooner_than_they_come(interval_s, told_ms):
    sio, app = conformance_app(ping_interval_s=interval_s, ping_timeout_s=0.2, limits=SocketLimits())
    async with serving(app, sio) as port, connect(port) as socket:
        opened = json.loads(str(await read(socket))[1:])
        assert (opened["pingInterval"], opened["pingTimeout"]) == (told_ms, 200)


@pytest.mark.parametrize(
    "query", ["transport=websocket", "EIO=abc&transport=websocket", "EIO=4", "EIO=4&transport=abc"]
)
async def test_a_wrong_query_is_refused(port, query):
    with pytest.raises((websockets.InvalidStatus, websockets.ConnectionClosed)):
        async with connect(port, query) as socket:
            await read(socket)


async def test_a_session_that_does_not_exist_can_not_be_taken_up(port):
    with pytest.raises((websockets.InvalidStatus, websockets.ConnectionClosed)):
        async with connect(port, f"{QUERY}&sid=unknown") as socket:
            await read(socket)


@pytest.mark.parametrize(("sent", "told"), [("40", {}), ('40{"token":"123"}', {"token": "123"})])
async def test_the_main_namespace_takes_connections(port, sent, told):
    async with connect(port) as socket:
        await read(socket)
        await socket.send(sent)
        answer = str(await read(socket))
        assert answer[:2] == "40"
        assert json.loads(answer[2:]).keys() == {"sid"}
        assert json.loads(str(await read(socket))[2:]) == ["auth", told]


@pytest.mark.parametrize(("sent", "told"), [("", {}), ('{"token":"abc"}', {"token": "abc"})])
async def test_a_namespace_of_its_own_takes_connections(port, sent, told):
    async with connect(port) as socket:
        await read(socket)
        await socket.send(f"40/custom,{sent}")
        assert str(await read(socket)).startswith('40/custom,{"sid":')
        assert json.loads(str(await read(socket)).removeprefix("42/custom,")) == ["auth", told]


async def test_an_unknown_namespace_is_refused_and_the_connection_still_works(port):
    async with connect(port) as socket:
        await read(socket)
        await socket.send("40/random")
        assert await read(socket) == '44/random,{"message":"Invalid namespace"}'
        await socket.send("40")
        assert str(await read(socket)).startswith("40")


async def test_text_comes_back(port):
    async with connect(port) as socket:
        await joined(socket)
        await socket.send('42["message",1,"2",{"3":[true]}]')
        assert await read(socket) == '42["message-back",1,"2",{"3":[true]}]'


async def test_binary_comes_back(port):
    places = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}'
    async with connect(port) as socket:
        await joined(socket)
        await socket.send(f'452-["message",{places}]')
        await socket.send(bytes([1, 2, 3]))
        await socket.send(bytes([4, 5, 6]))
        assert await read(socket) == f'452-["message-back",{places}]'
        assert [await read(socket), await read(socket)] == [bytes([1, 2, 3]), bytes([4, 5, 6])]


async def test_an_event_with_an_id_is_acknowledged(port):
    async with connect(port) as socket:
        await joined(socket)
        await socket.send('42456["message-with-ack",1,"2",{"3":[false]}]')
        assert await read(socket) == '43456[1,"2",{"3":[false]}]'


async def test_a_binary_event_with_an_id_is_acknowledged_in_binary(port):
    places = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}'
    async with connect(port) as socket:
        await joined(socket)
        await socket.send(f'452-789["message-with-ack",{places}]')
        await socket.send(b"\x01\x02\x03")
        await socket.send(b"\x04\x05\x06")
        assert await read(socket) == f"462-789[{places}]"
        assert [await read(socket), await read(socket)] == [b"\x01\x02\x03", b"\x04\x05\x06"]


async def test_a_connection_without_a_namespace_stays_open_for_the_next_one():
    sio, app = conformance_app(**FAST, limits=SocketLimits())
    async with serving(app, sio) as port, connect(port) as socket:
        await joined(socket)
        await socket.send("41")
        assert await asyncio.wait_for(socket.recv(), TIMEOUT_S) == "2"
        await socket.send("3")
        await socket.send("40")
        assert str(await read(socket)).startswith('40{"sid"')
        assert await read(socket) == '42["auth",{}]'
        await socket.send('42["message"]')
        assert await read(socket) == '42["message-back"]'


async def test_a_connection_that_stays_without_a_namespace_is_closed():
    sio, app = conformance_app(**SLOW, limits=SocketLimits(connect_timeout_s=0.2))
    async with serving(app, sio) as port, connect(port) as socket:
        await joined(socket)
        await socket.send("41")
        assert await closed(socket) == (1008, "no CONNECT within 0.2 s")


async def test_a_disconnect_from_one_namespace_leaves_the_others(port):
    async with connect(port) as socket:
        await joined(socket)
        await socket.send("40/custom")
        assert str(await read(socket)).startswith("40/custom,")
        assert "auth" in str(await read(socket))
        await socket.send("41/custom")
        await socket.send('42["message","to main"]')
        assert await read(socket) == '42["message-back","to main"]'


async def test_an_engine_io_close_ends_the_connection(port):
    async with connect(port) as socket:
        await read(socket)
        await socket.send("1")
        assert (await closed(socket))[0] == 1000


@pytest.mark.parametrize(
    "frame", ["", "abc", "2", "2probe", "5", "6", "9", "b4AAE", "4", "4abc", "47", '4{"a":1}', "4[1]"]
)
async def test_what_is_no_packet_ends_the_connection_at_once(port, frame, caplog):
    async with connect(port) as socket:
        await joined(socket)
        await socket.send(frame)
        assert (await closed(socket))[0] == 1002
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    "frame",
    [
        '42["message"',
        '42{"a":1}',
        "42[]",
        "42",
        '42[["message"]]',
        "42" + "[" * 100_000,
        f'42["message",1{"0" * 300}]',
        '42/custom,["message"]',
        '42/random,["message"]',
        "40",
        "43",
        "43999",
        "43[]",
        "44{}",
        '421-["message"]',
        '45["message"]',
        '450-["message"]',
        '4517-["message"]',
        '459999999999-["message"]',
        '4599999999999-["message"]',
        "42" + "9" * 200 + '["message"]',
        b"an attachment without an event",
        b'2["message"]',
    ],
    ids=lambda frame: frame[:24] if isinstance(frame, str) else "binary",
)
async def test_what_socket_io_does_not_allow_ends_the_connection_at_once(port, frame, caplog):
    async with connect(port) as socket:
        await joined(socket)
        await socket.send(frame)
        assert (await closed(socket))[0] == 1002
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


async def test_text_where_an_attachment_was_announced_ends_the_connection(port):
    async with connect(port) as socket:
        await joined(socket)
        await socket.send('451-["message",{"_placeholder":true,"num":0}]')
        await socket.send('42["message"]')
        assert await closed(socket) == (1002, "a packet where a binary attachment was announced")


async def test_a_placeholder_without_attachment_ends_the_connection(port):
    async with connect(port) as socket:
        await joined(socket)
        await socket.send('451-["message",{"_placeholder":true,"num":7}]')
        await socket.send(b"x")
        assert (await closed(socket))[0] == 1002


@pytest.mark.parametrize("frame", ['42["message"]', '451-["message"]', "431[]", "41", "44{}"])
async def test_any_packet_before_the_connect_ends_the_connection(port, frame):
    async with connect(port) as socket:
        await read(socket)
        await socket.send(frame)
        assert (await closed(socket))[0] == 1002


async def test_an_acknowledgement_that_nobody_asked_for_is_ignored(port):
    async with connect(port) as socket:
        await joined(socket)
        await socket.send("43999[]")
        await socket.send('42["message"]')
        assert await read(socket) == '42["message-back"]'


async def test_a_connect_that_never_comes_ends_the_connection():
    sio, app = conformance_app(**SLOW, limits=SocketLimits(connect_timeout_s=0.2))
    async with serving(app, sio) as port, connect(port) as socket:
        assert await closed(socket) == (1008, "no CONNECT within 0.2 s")


async def test_only_unknown_namespaces_are_no_connect():
    sio, app = conformance_app(**SLOW, limits=SocketLimits(connect_timeout_s=0.2))
    async with serving(app, sio) as port, connect(port) as socket:
        await read(socket)
        await socket.send("40/random")
        assert str(await read(socket)).startswith("44")
        assert await closed(socket) == (1008, "no CONNECT within 0.2 s")


async def test_attachments_that_never_come_end_the_connection():
    sio, app = conformance_app(**SLOW, limits=SocketLimits(attachment_timeout_s=0.2))
    async with serving(app, sio) as port, connect(port) as socket:
        await joined(socket)
        await socket.send('451-["message",{"_placeholder":true,"num":0}]')
        assert await closed(socket) == (1008, "no attachment within 0.2 s")


async def test_each_attachment_has_its_own_time():
    sio, app = conformance_app(**SLOW, limits=SocketLimits(attachment_timeout_s=1.0))
    places = ",".join(f'{{"_placeholder":true,"num":{number}}}' for number in range(3))
    async with serving(app, sio) as port, connect(port) as socket:
        await joined(socket)
        await socket.send(f'453-["message",{places}]')
        for _ in range(3):
            await asyncio.sleep(0.6)
            await socket.send(b"abc")
        assert str(await read(socket)).startswith("453-")


async def test_an_answer_to_a_ping_may_come_behind_an_attachment():
    """On a slow uplink nothing overtakes it: the ping goes unanswered for longer than it may."""
    sio, app = conformance_app(ping_interval_s=1.0, ping_timeout_s=1.0, limits=SocketLimits())
    async with serving(app, sio) as port, connect(port) as socket:
        await joined(socket)
        await asyncio.sleep(0.6)
        await socket.send('451-["message",{"_placeholder":true,"num":0}]')
        await asyncio.sleep(1.7)
        await socket.send(b"abc")
        await socket.send("3")
        assert str(await read(socket)).startswith("451-")


async def test_a_client_that_ignores_a_disconnect_is_closed():
    sio, app = conformance_app(**SLOW, limits=SocketLimits(connect_timeout_s=0.2))
    async with serving(app, sio) as port, connect(port) as socket:
        await joined(socket)
        await sio.disconnect(next(iter(sio.manager.get_participants("/", None)))[0])
        assert await read(socket) == "41"
        assert await closed(socket) == (1008, "no close within 0.2 s")


async def test_pings_that_are_answered_keep_the_connection():
    sio, app = conformance_app(**FAST, limits=SocketLimits())
    async with serving(app, sio) as port, connect(port) as socket:
        await joined(socket)
        for _ in range(3):
            assert await asyncio.wait_for(socket.recv(), TIMEOUT_S) == "2"
            await socket.send("3")
        await socket.send('42["message"]')
        assert await read(socket) == '42["message-back"]'


async def test_pings_that_are_not_answered_end_the_connection():
    sio, app = conformance_app(**FAST, limits=SocketLimits())
    async with serving(app, sio) as port, connect(port) as socket:
        await joined(socket)
        await closed(socket)
