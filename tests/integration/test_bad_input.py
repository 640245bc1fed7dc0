"""Bad input gets the protocol's error, the connection goes on working, and nobody else notices."""

import asyncio
import base64
import math

import httpx
import pytest

from tests.support import clips
from tests.support.series import series, strangers, total
from tests.support.speed import seconds
from tests.support.worker import CONFIG, Worker

TOO_LARGE = 11 * 1024 * 1024
RESULTS = "sts_fragment_processing_seconds_count"


@pytest.fixture(scope="module")
def server(serve):
    return serve("fakes")


@pytest.fixture
def audio():
    return clips.adts_fragments(1000)[0]


async def works_on(worker, number, audio):
    """The connection still takes a fragment and gives its result."""
    fragment = await worker.send(number, audio, fragment_id=f"after-{number}", audio__duration_ms=1000)
    result = await worker.wait(lambda: worker.result(fragment))
    assert result["status"] == "success"


async def test_an_unknown_event_is_named_beside_those_that_exist(server, audio):
    async with Worker(server.url) as worker:
        await worker.init("unknown-event")
        await worker.emit("fragment:date", {"a": 1})
        error = await worker.wait_error("MALFORMED_DATA")
        assert "fragment:date" in error["message"]
        assert "fragment:data" in error["message"]
        assert error["retryable"] is False
        await works_on(worker, 0, audio)


@pytest.mark.parametrize("payload", [None, "text", 5, [1, 2], b"bytes", {}])
async def test_a_payload_that_is_no_fragment_is_malformed(server, audio, payload):
    async with Worker(server.url) as worker:
        await worker.init("no-object")
        await worker.emit("fragment:data", payload)
        await worker.wait_error("MALFORMED_DATA")
        await works_on(worker, 0, audio)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"sequence_number": "5"}, "MALFORMED_DATA"),
        ({"sequence_number": True}, "MALFORMED_DATA"),
        ({"sequence_number": 1e30}, "MALFORMED_DATA"),
        ({"sequence_number": None}, "MALFORMED_DATA"),
        ({"sequence_number": -1}, "INVALID_SEQUENCE"),
        ({"sequence_number": 2**53}, "INVALID_SEQUENCE"),
        ({"sequence_number": 10**40}, "INVALID_SEQUENCE"),
        ({"fragment_id": ""}, "INVALID_FRAGMENT"),
        ({"fragment_id": "x" * 257}, "INVALID_FRAGMENT"),
        ({"timestamp": math.inf}, "MALFORMED_DATA"),
        ({"audio": None}, "MALFORMED_DATA"),
        ({"audio__format": "exe"}, "INVALID_FRAGMENT"),
        ({"audio__channels": 9}, "INVALID_FRAGMENT"),
        ({"audio__duration_ms": 60_001}, "INVALID_FRAGMENT"),
        ({"audio__data_base64": "not base64!"}, "MALFORMED_DATA"),
        ({"audio__data_base64": 7}, "MALFORMED_DATA"),
        ({"metadata": {"pts_ns": -1}}, "INVALID_FRAGMENT"),
    ],
)
async def test_a_wrong_field_is_named_and_holds_up_nothing(server, audio, change, code):
    async with Worker(server.url) as worker:
        await worker.init("wrong-field")
        fields = {"audio__duration_ms": 1000} | change
        fragment_id = fields.pop("fragment_id", None)
        if fragment_id is None:
            await worker.send(0, audio, **fields)
        else:
            await worker.send(0, audio, **fields, fragment_id=fragment_id)
        error = await worker.wait_error(code)
        field = next(iter(change)).replace("__", ".")
        assert field in error["message"]
        assert len(error["message"]) < 400
        if not {"sequence_number", "fragment_id"} & set(change):
            assert (error["fragment_id"], error["sequence_number"]) == ("wrong-field-0", 0)
        await works_on(worker, 1, audio)
        assert worker.results[0]["processing_time_ms"] < 8000


async def test_broken_media_fails_that_fragment_for_good_and_no_other(server, audio):
    async with Worker(server.url) as worker:
        await worker.init("broken-media")
        for number, junk in enumerate([b"", b"\x00" * 100, b"not audio at all" * 50, audio[:3]]):
            await worker.send(number, junk, audio__duration_ms=1000)
        await worker.wait_results(4)
        for result in worker.results:
            assert result["status"] == "failed"
            assert (result["error"]["stage"], result["error"]["code"]) == ("asr", "INVALID_AUDIO")
            assert result["error"]["retryable"] is False
        await works_on(worker, 4, audio)


@pytest.mark.parametrize("binary", [False, True])
async def test_eleven_mebibytes_are_refused_and_the_connection_works_on(server, audio, binary):
    large = b"\x00" * TOO_LARGE
    async with Worker(server.url) as worker:
        await worker.init("too-large")
        if binary:
            await worker.send(0, b"", audio__data=large)
        else:
            await worker.send(0, large)
        error = await worker.wait_error("FRAGMENT_TOO_LARGE")
        assert (error["fragment_id"], error["sequence_number"]) == ("too-large-0", 0)
        assert str(10 * 1024 * 1024) in error["message"]
        assert error["retryable"] is False
        await works_on(worker, 1, audio)
        assert worker.disconnects == 0


async def test_a_message_above_sixteen_mebibytes_ends_the_connection_and_no_other(server, audio):
    async with Worker(server.url) as neighbour, Worker(server.url) as worker:
        await neighbour.init("beside-the-flood")
        await worker.init("flood")
        await worker.send(0, b"", audio__data=b"\x00" * (17 * 1024 * 1024))
        await worker.wait(lambda: worker.disconnects)
        await works_on(neighbour, 0, audio)


async def test_a_fragment_before_init_finds_no_stream(server, audio):
    async with Worker(server.url, stream_id="never-opened") as worker:
        await worker.send(7, audio)
        error = await worker.wait_error("STREAM_NOT_FOUND")
        assert (error["fragment_id"], error["sequence_number"]) == ("never-opened-7", 7)
        assert error["retryable"] is False
        await worker.init("opened-later")
        await works_on(worker, 0, audio)


async def test_a_fragment_of_another_stream_is_refused_and_reaches_nobody(server, audio):
    async with Worker(server.url) as mine, Worker(server.url) as other:
        await mine.init("mine")
        await other.init("theirs")
        await mine.send(0, audio, stream_id="theirs")
        error = await mine.wait_error("STREAM_NOT_FOUND")
        assert "theirs" in error["message"]
        await works_on(other, 0, audio)
        await works_on(mine, 0, audio)
        assert len(other.results) == 1


@pytest.mark.parametrize("event", ["stream:pause", "stream:resume", "stream:end"])
async def test_lifecycle_events_of_no_stream_are_refused(server, event):
    async with Worker(server.url) as worker:
        await worker.emit(event, {"stream_id": "nobody"})
        await worker.wait_error("STREAM_NOT_FOUND")


@pytest.mark.parametrize(
    ("change", "code", "allowed"),
    [
        ({"sample_rate_hz": 7999}, "INVALID_CONFIG", "8000"),
        ({"sample_rate_hz": 96_001}, "INVALID_CONFIG", "96000"),
        ({"channels": 3}, "INVALID_CONFIG", "2"),
        ({"chunk_duration_ms": 99}, "INVALID_CONFIG", "100"),
        ({"chunk_duration_ms": 30_001}, "INVALID_CONFIG", "30000"),
        ({"format": "midi"}, "INVALID_CONFIG", "m4a"),
        ({"target_language": 5}, "INVALID_CONFIG", "string"),
        ({"target_language": "x" * 50}, "INVALID_CONFIG", "pattern"),
        ({"voice_profile": "../../etc/passwd"}, "INVALID_VOICE_PROFILE", "spanish_male_1"),
    ],
)
async def test_a_wrong_stream_configuration_is_refused_with_what_is_allowed(server, audio, change, code, allowed):
    async with Worker(server.url) as worker:
        config = {**CONFIG, **change}
        await worker.emit("stream:init", {"stream_id": "config", "worker_id": "w", "config": config})
        error = await worker.wait_error(code)
        assert next(iter(change)) in error["message"]
        assert allowed in error["message"]
        await worker.init("config")
        await works_on(worker, 0, audio)


@pytest.mark.parametrize(
    "fields", [{"max_inflight": 0}, {"max_inflight": 11}, {"timeout_ms": 999}, {"timeout_ms": 30_001}]
)
async def test_limits_of_a_stream_out_of_bounds_are_refused(server, fields):
    async with Worker(server.url) as worker:
        await worker.emit("stream:init", {"stream_id": "s", "worker_id": "w", "config": CONFIG, **fields})
        error = await worker.wait_error("INVALID_CONFIG")
        assert next(iter(fields)) in error["message"]


async def test_a_missing_target_language_or_worker_is_refused(server):
    async with Worker(server.url) as worker:
        await worker.emit("stream:init", {"stream_id": "s", "worker_id": "w", "config": {}})
        assert "target_language" in (await worker.wait_error("INVALID_CONFIG"))["message"]
        await worker.emit("stream:init", {"stream_id": "s", "config": CONFIG})
        await worker.wait(lambda: any("worker_id" in e["message"] for e in worker.errors))


async def test_a_hundred_bad_messages_leave_a_neighbour_on_time(server, audio):
    async with Worker(server.url) as neighbour, Worker(server.url) as hostile:
        await neighbour.init("neighbour")
        await hostile.init("hostile")
        for number in range(100):
            await hostile.emit(
                "fragment:data", {"stream_id": "hostile", "sequence_number": number, "audio": "x" * 1000}
            )
        for number in range(3):
            await works_on(neighbour, number, audio)
        await hostile.wait(lambda: len(hostile.errors) == 100)
        await works_on(hostile, 200, audio)
        assert [r["sequence_number"] for r in neighbour.results] == [0, 1, 2]


async def test_headers_are_the_defaults_of_an_init_that_leaves_the_names_out(server, audio):
    headers = {"X-Stream-ID": "from-header", "X-Worker-ID": "worker-from-header"}
    async with Worker(server.url, headers=headers) as worker:
        await worker.emit("stream:init", {"config": {"target_language": "es"}})
        ready = (await worker.wait(lambda: worker.of("stream:ready")))[0]
        assert ready["stream_id"] == "from-header"
        worker.stream_id = "from-header"
        await works_on(worker, 0, audio)


async def test_polling_is_refused(server):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert answer.split()[1] == b"400"


async def test_both_paths_speak_the_protocol(server, audio):
    for path in ("/socket.io", "/ws/sts"):
        async with Worker(server.url, path=path) as worker:
            await worker.init(f"path{path.replace('/', '-')}")
            await works_on(worker, 0, audio)


async def test_binary_fragments_get_binary_audio_and_base64_gets_base64(server, audio):
    async with Worker(server.url) as worker:
        await worker.init("binary")
        await worker.send(0, b"", audio__data=audio, audio__duration_ms=1000)
        first = (await worker.wait_results(1))[0]
        await worker.send(1, audio, audio__duration_ms=1000)
        second = (await worker.wait_results(2))[1]
        assert first["dubbed_audio"]["data"][4:8] == b"ftyp"
    assert base64.b64decode(second["dubbed_audio"]["data_base64"])[4:8] == b"ftyp"


HOSTILE = ('"', "\\", "\n", "},x=1{", 'a",error_code="b', "名前", "x" * 200)
"""What would end a label or a line of /metrics if it came that far."""
ROUNDS = 3


async def speak_of(server, audio, name, number):
    """One worker's messages, under names that nobody else uses; each draws an answer. Returns how many results."""
    async with Worker(server.url, headers={"X-Worker-ID": f"worker-{number}"}) as worker:
        language, voice = f"x{chr(97 + number % 26)}", f"voice-{name[:50]}"
        for change in ({"target_language": language}, {"voice_profile": voice}, {"format": name}, {"channels": name}):
            config = {**CONFIG, **change}
            await worker.emit("stream:init", {"stream_id": name, "worker_id": name, "config": config})
        await worker.wait(lambda: len(worker.errors) + len(worker.of("stream:ready")) >= 4)
        refused = len(worker.errors)
        assert refused >= 3, "fakes may speak any language"
        await worker.init(name)
        await worker.emit(f"event:{name}", {})
        await worker.emit(name, {"stream_id": name})
        await worker.send(0, audio, stream_id=f"other {name}"[:256])
        await worker.send(0, b"not audio", audio__duration_ms=1000)
        await worker.send(1, audio, fragment_id=f"{name} again", audio__duration_ms=1000)
        await worker.wait_results(2)
        await worker.wait(lambda: len(worker.errors) >= refused + 3)
    async with Worker(server.url) as worker:
        await worker.init(f"asr-error-{name}")
        await worker.send(0, audio, audio__duration_ms=1000)
        await worker.wait_results(1)
    return 3


async def test_nothing_that_clients_choose_becomes_a_series(server, audio):
    """Other streams, languages, voices, events and ids make no more series than the first ones did."""
    found = []
    async with httpx.AsyncClient(base_url=server.url, timeout=10) as http:

        async def scraped(results):
            """The scrape that counts so many results."""
            async with asyncio.timeout(seconds(30)):
                while total(text := (await http.get("/metrics")).text, RESULTS) < results:
                    await asyncio.sleep(0.3)
            return text

        expected = total((await http.get("/metrics")).text, RESULTS)
        for turn in range(ROUNDS):
            names = [f"{turn} {text} {number}" for number, text in enumerate(HOSTILE)]
            done = await asyncio.gather(*(speak_of(server, audio, name, n + turn) for n, name in enumerate(names)))
            expected += sum(done)
            found.append(series(await scraped(expected)))
    assert found[1] == found[-1]
    assert strangers(found[-1]) == []
    assert {dict(labels).get("error_code") for _, labels in found[-1]} >= {"MODEL_ERROR", "INVALID_VOICE_PROFILE"}
