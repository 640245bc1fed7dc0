"""TranscribeClient against the real door, in front of scripted models."""

import asyncio

import numpy as np
import pytest

from livedub import (
    ConnectFailed,
    InitRefused,
    StreamFailed,
    Timeouts,
    TranscribeClient,
    TranscriptFinal,
    TranscriptionConfig,
    TranscriptUpdate,
)
from livedub.outgoing import CHUNK_BYTES
from livedub.transcribe_client import MAX_UNREAD
from serve_app.transcription import TranscriptionLimits
from tests.support.captions import RATE_HZ, contained, loud, quiet
from tests.unit.serve_app.transport.test_transcription_events import Place

SWIFT = Timeouts(connect_s=5.0, reconnect_delays_s=(0.01, 0.05), reconnect_s=5.0, stall_s=5.0, complete_s=5.0)
TIMEOUT_S = 20.0
SENTENCE = loud(1000) + quiet(1000)
SAID = "Hello, World!"


@pytest.fixture
async def server():
    place = Place()
    await place.start()
    yield place
    await place.stop()


def a_client(server: Place, *, timeouts: Timeouts = SWIFT, **config) -> TranscribeClient:
    return TranscribeClient(server.url, config=TranscriptionConfig(**config), stream_id="mic", timeouts=timeouts)


async def read(client: TranscribeClient) -> list[TranscriptUpdate | TranscriptFinal]:
    return [event async for event in client.events()]


def finals_of(events) -> list[TranscriptFinal]:
    return [event for event in events if isinstance(event, TranscriptFinal)]


def check_contiguous(finals: list[TranscriptFinal], duration_ms: int) -> None:
    assert [final.start_ms for final in finals] == [0, *(final.end_ms for final in finals[:-1])]
    assert finals[-1].end_ms == duration_ms


async def test_what_is_said_comes_as_updates_and_finals_and_ends_with_a_summary(server):
    async with asyncio.timeout(TIMEOUT_S), a_client(server, translate_to=["es"]) as client:
        reading = asyncio.create_task(read(client))
        for _ in range(3):
            await client.send(SENTENCE)
        complete = await client.end()
        events = await reading
    finals = finals_of(events)
    check_contiguous(finals, 6000)
    assert [final.text for final in finals if final.text] == [SAID] * 3
    assert finals[0].translations == {"es": f"es: {SAID}"}
    assert (complete.reason, complete.transcript) == ("ended", " ".join([SAID] * 3))
    assert complete.metrics.reconnections == 0


async def test_updates_come_while_somebody_speaks(server):
    async with asyncio.timeout(TIMEOUT_S), a_client(server) as client:
        await client.send(loud(2000))
        async for event in client.events():
            if isinstance(event, TranscriptUpdate):
                break
        assert event.committed + event.tentative == SAID


async def test_a_lost_connection_comes_back_and_loses_no_word_and_no_time(server):
    async with asyncio.timeout(TIMEOUT_S), a_client(server, interims=False) as client:
        reading = asyncio.create_task(read(client))
        await client.send(SENTENCE)
        await client.send(loud(700))
        await server.until(lambda: client._outgoing.offset_ms + client._outgoing._covered_ms > 0)
        for sid in list(server.sockets._connections):
            await server.sockets._sio.disconnect(sid)
        await client.send(loud(300) + quiet(1000))
        await client.send(SENTENCE)
        complete = await client.end()
        finals = finals_of(await reading)
    check_contiguous(finals, 6000)
    assert [final.text for final in finals if final.text] == [SAID] * 3
    assert complete.transcript == " ".join([SAID] * 3)
    assert (complete.metrics.reconnections, complete.metrics.audio_ms, client.reconnects) == (1, 6000, 1)
    words = [word for final in finals for word in final.words]
    assert [word.start_ms for word in words] == sorted(word.start_ms for word in words)


async def test_a_server_that_goes_is_left_for_another_opening(server):
    async with asyncio.timeout(TIMEOUT_S), a_client(server, interims=False) as client:
        reading = asyncio.create_task(read(client))
        await client.send(SENTENCE)
        await server.until(lambda: server.stages_asked)
        server.sockets.drain()
        server.sessions.drain()
        await server.until(lambda: client.reconnects)
        server.sockets.draining = server.sessions.draining = False
        await client.send(SENTENCE)
        complete = await client.end()
        finals = finals_of(await reading)
    check_contiguous(finals, 4000)
    assert complete.transcript == f"{SAID} {SAID}"


async def test_a_session_that_has_lasted_as_long_as_one_may_is_followed_by_another(server):
    server.transcription = TranscriptionLimits(max_session_s=0.2)
    async with asyncio.timeout(TIMEOUT_S), a_client(server, interims=False) as client:
        await client.send(SENTENCE)
        await server.until(lambda: client.reconnects)
        server.transcription = TranscriptionLimits()
        await client.send(SENTENCE)
        complete = await client.end()
        check_contiguous(finals_of(await read(client)), 4000)
    assert complete.transcript == f"{SAID} {SAID}"


async def test_a_silent_program_stays_known_to_the_server(server):
    server.transcription = TranscriptionLimits(idle_timeout_s=0.3)
    async with asyncio.timeout(TIMEOUT_S), a_client(server) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await read(client)
        assert (await client.end()).reason == "ended"
    assert client.reconnects == 0


async def test_a_container_is_sent_as_it_is_and_cannot_go_on_in_the_middle(server):
    data = contained(np.frombuffer(SENTENCE, np.int16), RATE_HZ, "webm", "libopus")
    async with asyncio.timeout(TIMEOUT_S), a_client(server, format="webm") as client:
        await client.send(data)
        complete = await client.end()
        assert complete.transcript == SAID
    async with asyncio.timeout(TIMEOUT_S), a_client(server, format="webm") as client:
        await client.send(data)
        await server.until(lambda: server.sockets._connections and not client._outgoing.unheard)
        for sid in list(server.sockets._connections):
            await server.sockets._sio.disconnect(sid)
        with pytest.raises(StreamFailed, match="webm can't go on in the middle; raw audio can"):
            await client.end()


async def test_what_cannot_be_decoded_fails_the_session(server):
    async with asyncio.timeout(TIMEOUT_S), a_client(server, format="container") as client:
        await client.send(b"no container at all" * 1000)
        with pytest.raises(StreamFailed) as failed:
            await read(client)
    assert failed.value.code == "INVALID_AUDIO"


async def test_a_pause_gives_a_final_and_holds_what_is_sent_until_it_is_over(server):
    async with asyncio.timeout(TIMEOUT_S), a_client(server, interims=False, endpointing_ms=10_000) as client:
        events = client.events()
        await client.send(loud(1000))
        await client.pause()
        assert (await anext(events)).text == SAID
        await client.send(loud(1000))
        await client.resume()
        complete = await client.end()
    assert complete.transcript == f"{SAID} {SAID}"
    assert (complete.metrics.errors, client.reconnects) == (0, 0)


async def test_one_that_ends_while_it_pauses_hears_what_it_sent_meanwhile(server):
    async with asyncio.timeout(TIMEOUT_S), a_client(server, interims=False) as client:
        await client.pause()
        await client.send(SENTENCE)
        complete = await client.end()
    assert (complete.transcript, complete.metrics.errors, client.reconnects) == (SAID, 0, 0)


async def test_a_program_that_does_not_read_is_stopped(server):
    async with asyncio.timeout(TIMEOUT_S), a_client(server, timeouts=Timeouts(stall_s=0.2)) as client:
        client._finals.extend([None] * MAX_UNREAD)
        with pytest.raises(StreamFailed, match="are the finals read"):
            await client.send(SENTENCE)


async def test_sending_waits_for_the_server(server):
    server.hearing.clear()
    async with asyncio.timeout(TIMEOUT_S), a_client(server, interims=False) as client:
        filling = asyncio.create_task(fill(client, 4_000_000))
        await server.until(lambda: client._outgoing._session.sent_bytes >= 1_000_000)
        assert not filling.done()
        assert client._outgoing.unsent_bytes <= 6 * CHUNK_BYTES
        server.hearing.set()
        await filling
        complete = await client.end()
    assert complete.metrics.audio_ms == 4_000_000 // 32
    assert complete.metrics.errors == 0


async def fill(client: TranscribeClient, n_bytes: int) -> None:
    for _ in range(n_bytes // 32_000):
        await client.send(quiet(1000))


async def test_it_refuses_what_the_server_refuses(server):
    with pytest.raises(InitRefused) as refused:
        await a_client(server, source_language="de").connect()
    assert (refused.value.code, refused.value.retryable) == ("UNSUPPORTED_LANGUAGE", False)
    with pytest.raises(ConnectFailed):
        await TranscribeClient("http://127.0.0.1:1", timeouts=SWIFT).connect()
    with pytest.raises(ValueError, match="needs the URL"):
        TranscribeClient([])


async def test_samples_are_sent_whole_and_none_after_the_end(server):
    async with asyncio.timeout(TIMEOUT_S), a_client(server) as client:
        with pytest.raises(ValueError, match="no whole number of samples"):
            await client.send(b"123")
        await client.end()
        with pytest.raises(StreamFailed, match="has been ended"):
            await client.send(b"1234")
    with pytest.raises(StreamFailed, match="not open"):
        await client.send(b"1234")
