"""Our own door for live transcription: a real Socket.IO client and server, in front of scripted models."""

import asyncio
import base64
from contextlib import suppress

import numpy as np
import pytest

from deployments.contracts.values import (
    AsrCapabilities,
    AudioFormat,
    ListenRequest,
    Recognition,
    Segment,
    Transcript,
    TranslateRequest,
    Translation,
    TranslationCapabilities,
    TtsCapabilities,
    VoiceActivity,
    Word,
)
from deployments.errors import ModelFailed, Stage
from serve_app.access import Access
from serve_app.protocol import MAX_CHUNK_BYTES, ErrorCode, WireError
from serve_app.protocol.transcription import ACK_BYTES
from serve_app.scheduling.fair_queue import Priority
from serve_app.stream.negotiation import ModelCapabilities
from serve_app.transcription import TranscriptionLimits
from serve_app.transport import captioning
from serve_app.transport.transcriber import Transcribers
from serve_app.transport.transcription_events import TranscriptionEvents
from tests.support.captions import RATE_HZ, contained, loud, quiet
from tests.unit.serve_app.transport.test_server import EVENTS, Server, Worker, within

ABILITIES = ModelCapabilities(
    AsrCapabilities("ears", frozenset({"en"})),
    TranslationCapabilities("tongue", frozenset({("en", "es"), ("en", "pt"), ("en", "fr")})),
    TtsCapabilities("mouth", {"maria": "es"}, {"es": "maria"}),
)
NEWS = ("audio:ready", "audio:ack", "audio:echo", "transcript:update", "transcript:final", "transcript:complete")


class Counts:
    """What metrics are told of."""

    def __init__(self) -> None:
        self.doors: set[str] = set()
        self.open = 0

    def refused(self, reason):
        raise AssertionError(reason)

    def sessions(self, door, count):
        self.doors.add(door)
        self.open = count

    def told(self, door, event):
        self.doors.add(door)


class Place(Server):
    """A server that has the door, and models that say what the test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = Counts()
        self.transcription = TranscriptionLimits()
        self.error: BaseException | None = None
        self.untranslatable = ""
        self.translating = asyncio.Event()
        self.translating.set()
        self.contexts: list[str] = []
        self.hearing = asyncio.Event()
        self.hearing.set()
        self.models_error: WireError | None = None
        self.stages_asked: list[Stage] = []

    async def start(self, **options) -> None:
        access = options.setdefault("access", Access())
        await super().start(**options)
        limits = self.limits_of_sessions
        self.sessions = Transcribers(self.ask, self.hear, limits, self.seen, access, self.sockets.principals)
        self.sockets.serve(TranscriptionEvents(self.sessions, self.models, self.ask).handlers)

    def limits_of_sessions(self) -> TranscriptionLimits:
        return self.transcription

    async def models(self):
        if self.models_error is not None:
            raise self.models_error
        return ABILITIES

    async def hear(self):
        return ABILITIES.asr

    async def ask(self, request, priority=Priority.LIVE):
        self.stages_asked.append(request.STAGE)
        if isinstance(request, TranslateRequest):
            self.contexts.append(request.context)
            await self.translating.wait()
            if request.target_language == self.untranslatable:
                raise ModelFailed(Stage.TRANSLATION, "no tongue for it")
            return Translation(f"{request.target_language}: {request.text}", "en", request.target_language, "tongue", 1)
        data = np.frombuffer(request.audio.data, "<i2")
        if isinstance(request, ListenRequest):
            new = data[request.context_ms * RATE_HZ // 1000 :]
            await self.hearing.wait()
            return VoiceActivity(tuple(0.9 if new[at : at + 512].any() else 0.0 for at in range(0, len(new), 512)), 0)
        if self.error is not None:
            raise self.error
        duration_ms = len(data) * 1000 // RATE_HZ
        words = (Word("Hello,", 0, 200, 0.9), Word("World!", 200, min(500, duration_ms), 0.8))
        segment = Segment("Hello, World!", 0, duration_ms, 0.85, words)
        return Transcript(Recognition((segment,), "en"), duration_ms, AudioFormat("pcm_s16le", RATE_HZ, 1), "ears", 1)


class Speaker(Worker):
    """A client of the door."""

    def __init__(self, server: Server, **options) -> None:
        super().__init__(server, **options)
        for name in set(NEWS) - set(EVENTS):
            self.sio.on(name, self._keep(name))

    async def start(self, mode: str = "transcribe", stream_id: str | None = "mic", **config) -> dict:
        named = {} if stream_id is None else {"stream_id": stream_id}
        await self.sio.emit("audio:start", {**named, "mode": mode, "config": config})
        return await self.expect("audio:ready")

    async def say(self, event: str, **fields) -> None:
        await self.sio.emit(f"audio:{event}", fields)

    async def chunk(self, data: bytes) -> None:
        await self.say("chunk", data=data)

    async def end(self) -> tuple[list[dict], dict]:
        """End the session: its finals and its completion."""
        await self.say("end")
        complete = await self.expect("transcript:complete")
        return [payload for name, payload in self.got if name == "transcript:final"], complete

    async def refused(self, code: str) -> dict:
        error = await self.error()
        assert error["code"] == code, error
        return error


@pytest.fixture
async def server():
    place = Place()
    await place.start()
    yield place
    await place.stop()


@pytest.fixture
async def speakers(server):
    made = []

    async def make(**headers) -> Speaker:
        speaker = Speaker(server)
        made.append(speaker)
        return await speaker.connect(**headers)

    yield make
    for speaker in made:
        with suppress(Exception):
            await within(speaker.sio.shutdown())


@pytest.fixture
async def speaker(speakers) -> Speaker:
    return await speakers()


async def test_what_is_said_is_told_from_the_start_to_the_whole_transcript(server, speaker):
    ready = await speaker.start()
    assert (ready["stream_id"], ready["asr_model"], ready["translation_model"]) == ("mic", "ears", "tongue")
    assert (ready["idle_timeout_s"], ready["max_session_s"], ready["max_transcript_characters"]) == (300, 3600, 50_000)
    await speaker.chunk(quiet(640) + loud(1280) + quiet(3200))
    finals, complete = await speaker.end()
    said, silence = finals
    assert (said["text"], said["language"], said["utterance_over"]) == ("Hello, World!", "en", True)
    assert [word["text"] for word in said["words"]] == ["Hello,", "World!"]
    assert said["words"][0]["start_ms"] == pytest.approx(640, abs=300)
    assert (said["start_ms"], said["end_ms"], silence["end_ms"]) == (0, silence["start_ms"], 5120)
    assert (silence["text"], silence["words"]) == ("", [])
    assert (complete["transcript"], complete["reason"], complete["dropped_characters"]) == ("Hello, World!", "ended", 0)
    metrics = complete["metrics"]
    assert (metrics["chunks_received"], metrics["chunks_forwarded"], metrics["transcripts"]) == (1, 1, 1)
    assert (metrics["audio_ms"], metrics["errors"], metrics["reconnections"]) == (5120, 0, 0)
    assert complete["session_id"] == ready["session_id"]
    assert server.seen.doors == {"socket_io"}
    assert (server.seen.open, len(server.sessions)) == (0, 0)


async def test_words_are_shown_while_they_are_being_said(speaker):
    await speaker.start()
    await speaker.chunk(loud(1500))
    update = await speaker.expect("transcript:update")
    assert update["committed"] + update["tentative"] == "Hello, World!"
    assert (update["start_ms"], update["stream_id"]) == (0, "mic")


async def test_base64_does_as_well_as_bytes(speaker):
    await speaker.start()
    await speaker.say("chunk", data_base64=base64.b64encode(loud(1000)).decode())
    finals, complete = await speaker.end()
    assert finals[0]["text"] == "Hello, World!"
    assert complete["metrics"]["bytes_received"] == 32_000


async def test_a_session_without_a_name_gets_one_and_a_header_is_its_default(speakers):
    assert (await (await speakers()).start(stream_id=None))["stream_id"].startswith("captions-")
    named = await speakers(**{"X-Stream-ID": "studio"})
    assert (await named.start(stream_id=None))["stream_id"] == "studio"


async def test_each_final_is_translated_with_what_was_said_before_and_a_failure_costs_only_its_language(
    server, speaker
):
    server.untranslatable = "fr"
    await speaker.start(translate_to=["es", "fr"], interims=False)
    for _ in range(2):
        await speaker.chunk(loud(1000) + quiet(1200))
    finals, complete = await speaker.end()
    said = [final for final in finals if final["text"]]
    assert [final["translations"] for final in said] == [{"es": "es: Hello, World!"}] * 2
    assert [final["translation_errors"]["fr"]["code"] for final in said] == ["MODEL_ERROR"] * 2
    assert all("translations" not in final for final in finals if not final["text"])
    assert complete["translations"] == {"es": "es: Hello, World! es: Hello, World!", "fr": ""}
    assert (complete["metrics"]["translations"], complete["metrics"]["errors"]) == (2, 2)
    assert server.contexts == ["", "", "Hello, World!", "Hello, World!"]


async def test_no_word_is_shown_before_a_final_that_waits_for_its_translation(server, speaker):
    server.translating.clear()
    await speaker.start(translate_to="es")
    await speaker.chunk(loud(1000) + quiet(1000))
    await server.until(lambda: server.contexts)
    shown = [name for name, _ in speaker.got].count("transcript:update")
    heard = server.stages_asked.count(Stage.ASR)
    await speaker.chunk(loud(1500))
    await server.until(lambda: server.stages_asked.count(Stage.ASR) >= heard + 4)
    server.translating.set()
    finals, complete = await speaker.end()
    first = next(at for at, (name, _) in enumerate(speaker.got) if name == "transcript:final")
    assert [name for name, _ in speaker.got[:first]].count("transcript:update") == shown
    assert complete["metrics"]["updates_dropped"] >= 1
    assert finals[0]["translations"] == {"es": "es: Hello, World!"}


async def test_while_many_finals_wait_for_translations_no_more_audio_is_taken(server, speaker, monkeypatch):
    monkeypatch.setattr(captioning, "MAX_TRANSLATING", 1)
    server.translating.clear()
    await speaker.start(translate_to="es", interims=False)
    for _ in range(3):
        await speaker.chunk(loud(1000) + quiet(1000))
        await asyncio.sleep(0)
    await server.until(lambda: len(server.contexts) >= 2)
    await speaker.chunk(loud(1000) + quiet(1000))
    server.translating.set()
    finals, complete = await speaker.end()
    assert len([final for final in finals if final["text"]]) == 4
    assert complete["metrics"]["translations"] == 4


async def test_a_final_that_recognition_failed_on_says_why_and_the_session_goes_on(server, speaker):
    server.error = ModelFailed(Stage.ASR, "no ears")
    server.transcription = TranscriptionLimits(final_timeout_ms=1000)
    await speaker.start(interims=False)
    await speaker.chunk(loud(1000) + quiet(1000))
    failed = await speaker.expect("transcript:final")
    assert (failed["text"], failed["error"]["code"]) == ("", "MODEL_ERROR")
    server.error = None
    await speaker.chunk(loud(1000) + quiet(1000))
    finals, complete = await speaker.end()
    assert "Hello, World!" in [final["text"] for final in finals]
    assert complete["metrics"]["errors"] >= 1


@pytest.mark.parametrize(
    ("config", "code", "field"),
    [
        ({"source_language": "de"}, "UNSUPPORTED_LANGUAGE", "config.source_language"),
        ({"translate_to": ["es", "de"]}, "UNSUPPORTED_LANGUAGE_PAIR", "config.translate_to"),
        ({"format": "amr"}, "INVALID_CONFIG", "config.format"),
    ],
)
async def test_what_cannot_be_had_is_refused_at_the_start_and_another_start_is_welcome(speaker, config, code, field):
    await speaker.say("start", config=config)
    assert (await speaker.refused(code))["details"]["field"] == field
    await speaker.start()


async def test_while_models_are_loading_a_start_is_refused_for_now(server, speaker):
    server.models_error = WireError(ErrorCode.INTERNAL, "the models are still loading")
    await speaker.say("start")
    assert (await speaker.refused("INTERNAL"))["retryable"]


async def test_a_chunk_that_holds_no_whole_samples_is_refused_and_the_next_one_taken(speaker):
    await speaker.start(channels=2)
    await speaker.chunk(bytes(4 * RATE_HZ + 2))
    details = (await speaker.refused("INVALID_FRAGMENT"))["details"]
    assert (details["size_bytes"], details["frame_bytes"]) == (4 * RATE_HZ + 2, 4)
    await speaker.chunk(bytes(4 * RATE_HZ))
    _, complete = await speaker.end()
    assert complete["metrics"]["audio_ms"] == 1000
    assert (complete["metrics"]["chunks_received"], complete["metrics"]["errors"]) == (1, 1)


async def test_a_chunk_that_is_too_large_says_how_large_one_may_be(speaker):
    await speaker.start()
    await speaker.chunk(bytes(MAX_CHUNK_BYTES + 2))
    assert (await speaker.refused("FRAGMENT_TOO_LARGE"))["details"]["limit_bytes"] == MAX_CHUNK_BYTES


async def test_without_a_session_nothing_is_taken(speaker):
    for event in ("pause", "resume", "keepalive", "end"):
        await speaker.say(event)
        await speaker.refused("STREAM_NOT_FOUND")
    await speaker.chunk(loud(100))
    await speaker.refused("STREAM_NOT_FOUND")


async def test_after_its_end_a_connection_may_carry_another_session_or_a_stream(speaker):
    for _ in range(2):
        await speaker.start()
        await speaker.chunk(loud(1000))
        await speaker.end()
    await speaker.open()
    await speaker.works()


async def test_a_connection_carries_one_thing_at_a_time(speakers):
    dubbing, listening = await speakers(), await speakers()
    await dubbing.open()
    await dubbing.say("start")
    await dubbing.refused("INVALID_CONFIG")
    await listening.start()
    await listening.say("start")
    await listening.refused("INVALID_CONFIG")
    await listening.sio.emit("stream:init", {"stream_id": "s", "worker_id": "w", "config": {"target_language": "es"}})
    await listening.refused("INVALID_CONFIG")
    await listening.chunk(loud(500))
    await listening.end()
    await dubbing.works()


async def test_a_pause_flushes_refuses_chunks_and_takes_them_again_after_it(speaker):
    await speaker.start(endpointing_ms=10_000, interims=False)
    await speaker.chunk(loud(1000))
    await speaker.say("pause", reason="coffee")
    assert (await speaker.expect("transcript:final"))["text"] == "Hello, World!"
    await speaker.chunk(loud(1000))
    assert (await speaker.refused("STREAM_PAUSED"))["retryable"]
    await speaker.say("resume")
    await speaker.chunk(loud(1000))
    finals, complete = await speaker.end()
    assert [final["end_ms"] for final in finals] == [1000, 2000]
    assert complete["transcript"] == "Hello, World! Hello, World!"


async def test_a_client_that_says_nothing_gets_its_finals_and_an_end_that_says_so(server, speaker):
    server.transcription = TranscriptionLimits(idle_timeout_s=0.3)
    await speaker.start()
    await speaker.chunk(loud(1000))
    complete = await speaker.expect("transcript:complete")
    assert (complete["reason"], complete["transcript"]) == ("idle", "Hello, World!")
    await speaker.start()


async def test_one_that_says_it_is_there_stays(server, speaker):
    server.transcription = TranscriptionLimits(idle_timeout_s=0.4)
    await speaker.start()
    for number in range(12):
        await (speaker.say("keepalive") if number % 2 else speaker.chunk(b""))
        await asyncio.sleep(0.05)
    _, complete = await speaker.end()
    assert complete["reason"] == "ended"


async def test_a_session_that_has_lasted_as_long_as_one_may_ends(server, speaker):
    server.transcription = TranscriptionLimits(max_session_s=0.3)
    await speaker.start()
    assert (await speaker.expect("transcript:complete"))["reason"] == "lasted"


async def test_of_a_transcript_that_is_too_long_the_end_is_kept_and_it_is_said(server, speaker, monkeypatch):
    server.transcription = TranscriptionLimits.model_construct(
        **{**TranscriptionLimits().model_dump(), "max_transcript_characters": 30}
    )
    ready = await speaker.start(translate_to="es", interims=False)
    assert ready["max_transcript_characters"] == 30
    for _ in range(4):
        await speaker.chunk(loud(1000) + quiet(1000))
    _, complete = await speaker.end()
    assert complete["transcript"] == "Hello, World! Hello, World!"
    assert complete["dropped_characters"] == 2 * len("Hello, World! ")
    assert complete["translations"] == {"es": "es: Hello, World!"}


async def test_more_sessions_than_may_be_are_refused_for_now(server, speakers):
    server.transcription = TranscriptionLimits(max_sessions=1)
    first, second = await speakers(), await speakers()
    await first.start()
    await second.say("start")
    assert (await second.refused("QUEUE_FULL"))["retryable"]
    await first.end()
    await second.start()


async def test_taken_chunks_are_acknowledged_before_the_window_is_full(speaker):
    await speaker.start(interims=False)
    sent = 0
    while sent < 3 * ACK_BYTES:
        await speaker.chunk(quiet(1000))
        sent += 32_000
    acks = [await speaker.expect("audio:ack") for _ in range(2)]
    assert ACK_BYTES <= acks[0]["taken_bytes"] < acks[1]["taken_bytes"] <= sent
    await speaker.end()


async def test_who_sends_far_beyond_the_window_is_refused_and_loses_nothing_that_was_taken(server, speaker):
    server.hearing.clear()
    await speaker.start(interims=False)
    chunk = quiet(32_000)
    for _ in range(6):
        await speaker.chunk(chunk)
    refused = await speaker.refused("BACKPRESSURE_EXCEEDED")
    assert (refused["stream_id"], refused["retryable"]) == ("mic", True)
    server.hearing.set()
    await speaker.say("end")
    while (news := await speaker.next())[0] != "transcript:complete":
        pass
    finals = [payload for name, payload in speaker.got if name == "transcript:final"]
    metrics = news[1]["metrics"]
    assert metrics["chunks_forwarded"] == metrics["chunks_received"] < 6
    assert finals[-1]["end_ms"] == metrics["audio_ms"] == metrics["chunks_received"] * 32_000


async def test_chunks_that_wait_are_bounded_in_number_too(server, speaker, monkeypatch):
    monkeypatch.setattr(captioning, "MAX_INBOX_ITEMS", 3)
    server.hearing.clear()
    await speaker.start(format="mulaw", sample_rate_hz=8000)
    await speaker.chunk(bytes(8 * 31_000))
    for _ in range(5):
        await speaker.chunk(b"1")
    refused = await speaker.refused("BACKPRESSURE_EXCEEDED")
    assert refused["details"]["waiting_chunks"] == 3
    await speaker.say("pause")
    await speaker.say("keepalive")
    await speaker.refused("BACKPRESSURE_EXCEEDED")


async def test_echo_gives_back_the_callers_own_sound_in_its_way_and_asks_no_model(server, speaker):
    server.models_error = WireError(ErrorCode.INTERNAL, "nothing is loaded")
    ready = await speaker.start(mode="echo", format="mulaw", sample_rate_hz=8000)
    assert ready["asr_model"] == ""
    chunks = [bytes([number]) * 800 for number in range(20)]
    for chunk in chunks:
        await speaker.chunk(chunk)
    assert [(await speaker.expect("audio:echo"))["data"] for _ in chunks] == chunks
    await speaker.say("chunk", data_base64="AAAA")
    assert (await speaker.expect("audio:echo"))["data_base64"] == "AAAA"
    finals, complete = await speaker.end()
    assert not any(final["text"] or "error" in final for final in finals)
    assert (complete["transcript"], complete["metrics"]["audio_ms"]) == ("", 2000)
    assert server.stages_asked == []


async def test_a_container_is_heard_as_it_comes(speaker):
    await speaker.start(format="webm")
    data = contained(np.frombuffer(loud(2000), np.int16), RATE_HZ, "webm", "libopus")
    for at in range(0, len(data), 4000):
        await speaker.chunk(data[at : at + 4000])
    finals, complete = await speaker.end()
    assert finals[0]["text"] == "Hello, World!"
    assert complete["metrics"]["audio_ms"] == pytest.approx(2000, abs=50)


async def test_a_container_that_breaks_is_told_and_ends_the_session_not_the_connection(speaker):
    await speaker.start(format="ogg")
    await speaker.chunk(b"no container at all" * 1000)
    error = await speaker.refused("INVALID_AUDIO")
    assert (error["severity"], error["stream_id"]) == ("error", "mic")
    assert (await speaker.expect("transcript:complete"))["reason"] == "audio_failed"
    await speaker.start()
    await speaker.chunk(loud(1000))
    await speaker.end()


async def test_a_draining_server_gives_all_finals_and_sends_the_client_elsewhere(server, speaker):
    await speaker.start()
    await speaker.chunk(loud(1000))
    await server.until(lambda: server.stages_asked)
    server.sockets.drain()
    server.sessions.drain()
    warning = await speaker.error()
    assert (warning["code"], warning["severity"]) == ("SERVER_DRAINING", "warning")
    complete = await speaker.expect("transcript:complete")
    assert (complete["reason"], complete["transcript"]) == ("draining", "Hello, World!")
    await within(speaker.disconnected.get())


async def test_one_that_starts_while_the_server_drains_is_refused(server, speaker):
    await speaker.start()
    server.sessions.draining = True
    await speaker.end()
    await speaker.say("start")
    assert (await speaker.refused("SERVER_DRAINING"))["retryable"]


async def test_a_client_that_goes_away_stops_all_work_for_it(server, speaker):
    server.translating.clear()
    await speaker.start(translate_to="es")
    await speaker.chunk(loud(1000) + quiet(1000))
    await server.until(lambda: server.contexts)
    before = {task.get_name() for task in asyncio.all_tasks()}
    assert any(name.startswith("translation mic-") for name in before)
    await speaker.sio.disconnect()
    await server.until(lambda: not len(server.sessions))
    await server.until(lambda: not any(t.get_name().startswith("translation mic-") for t in asyncio.all_tasks()))
    assert server.seen.open == 0


async def test_a_bug_of_ours_ends_the_session_and_is_told_as_one(server, speaker, monkeypatch):
    async def broken(self, data):
        raise ZeroDivisionError

    await speaker.start()
    monkeypatch.setattr("serve_app.transport.transcriber.Transcriber.feed", broken)
    await speaker.chunk(loud(1000))
    await speaker.refused("INTERNAL")
    assert (await speaker.expect("transcript:complete"))["reason"] == "failed"
    assert len(server.sessions) == 0
