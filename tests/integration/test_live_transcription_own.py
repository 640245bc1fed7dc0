"""Our own door on the real server: a bare Socket.IO client, fakes for what goes wrong, real models for speech."""

import asyncio
import subprocess
import sys
import time
from itertools import pairwise
from typing import Any

import pytest
import srt

from deployments.audio import pcm
from livedub import TranscribeClient, TranscriptFinal, TranscriptionConfig
from tests.support import clips
from tests.support.captions import CHUNK_MS, RATE_HZ, loud, quiet
from tests.support.words import word_error_rate
from tests.support.worker import Worker

CLIP = "sense_and_sensibility-0870.wav"
FAKES: dict[str, Any] = {
    "args.asr.delay_ms": 1,
    "args.asr.text": "what is said in fragment {sequence_number}",
    "args.asr.script": [{"stream": "asr-fails-*", "error": "MODEL_ERROR"}],
    "args.translation.script": [{"stream": "half-translated-*", "error": "MODEL_ERROR", "times": 1}],
    "deployments.Ingress.user_config": {"transcription": {"max_transcript_characters": 1000, "final_timeout_ms": 2000}},
}


@pytest.fixture(scope="module")
def local(serve):
    return serve("local", {"args.asr_interim": {"engine": "moonshine"}})


@pytest.mark.timeout(300)
async def test_real_speech_is_captioned_in_two_languages_while_it_lasts(local):
    samples, text = clips.clip(CLIP, RATE_HZ)[:, 0], clips.transcripts()[CLIP]
    audio = pcm.to_bytes(samples, "pcm_s16le")
    async with Worker(local.url) as worker:
        await started(worker, "book", translate_to="es")
        await said(worker, audio, pace=1)
        complete = await ended(worker)
    finals = worker.of("transcript:final")
    assert word_error_rate([text], [complete["transcript"]]) <= 0.15
    check_contiguous(finals, len(audio) * 1000 // 2 // RATE_HZ)
    words = [word for final in finals for word in final["words"]]
    assert all(one["start_ms"] <= other["start_ms"] for one, other in pairwise(words))
    assert all(0 < word["confidence"] <= 1 for word in words)
    spoken = [final for final in finals if final["text"]]
    assert all(final["translations"]["es"] not in ("", final["text"]) for final in spoken)
    assert {"de", "que", "para", "ellos"} & set(complete["translations"]["es"].lower().split())
    told = [received.event for received in worker.events]
    assert told.index("transcript:update") < told.index("transcript:final")
    assert told[-1] == "transcript:complete"


@pytest.mark.timeout(300)
def test_the_command_writes_subtitles_of_a_file_in_both_languages(local, tmp_path):
    clip = clips.SPEECH / CLIP
    command = [sys.executable, "-m", "livedub", "transcribe", str(clip), "--to", "es", "-o", str(tmp_path / "book.srt")]
    done = subprocess.run([*command, "--server", local.url], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    english, spanish = ((tmp_path / f"book.{language}.srt").read_text(encoding="utf-8") for language in ("en", "es"))
    heard = " ".join(cue.content for cue in srt.parse(english))
    assert word_error_rate([clips.transcripts()[CLIP]], [heard]) <= 0.15
    assert {"de", "que", "para", "ellos"} & set(" ".join(cue.content for cue in srt.parse(spanish)).lower().split())


@pytest.mark.timeout(300)
async def test_our_client_loses_no_word_with_its_connection(local):
    samples = clips.clip(CLIP, RATE_HZ)[:, 0]
    audio = pcm.to_bytes(samples, "pcm_s16le")
    config = TranscriptionConfig(translate_to=["es"])
    async with TranscribeClient(local.url, config=config) as client:
        reading = asyncio.create_task(finals_of(client))
        await client.send(audio[: len(audio) // 2])
        await asyncio.sleep(1)
        client._link.drop("cut in the middle of a sentence")
        await client.send(audio[len(audio) // 2 :])
        complete = await client.end()
        finals = await reading
    assert client.reconnects == 1
    assert word_error_rate([clips.transcripts()[CLIP]], [complete.transcript]) <= 0.25
    assert [final.start_ms for final in finals] == [0, *(final.end_ms for final in finals[:-1])]
    assert finals[-1].end_ms == pytest.approx(len(audio) // 32, abs=2)


async def finals_of(client: TranscribeClient) -> list[TranscriptFinal]:
    return [event async for event in client.events() if isinstance(event, TranscriptFinal)]


@pytest.fixture(scope="module")
def fakes(serve):
    return serve("fakes", FAKES)


async def started(worker: Worker, stream_id: str, mode: str = "transcribe", **config: Any) -> dict[str, Any]:
    seen = len(worker.of("audio:ready"))
    await worker.emit("audio:start", {"stream_id": stream_id, "mode": mode, "config": config})
    return dict((await worker.wait(lambda: worker.of("audio:ready")[seen:]))[0])


async def said(worker: Worker, audio: bytes, *, pace: float = 0) -> None:
    """Send 16 kHz, 16 bit, mono in chunks, so many times as fast as it is spoken; 0: at once."""
    began_s, chunk_bytes = time.monotonic(), RATE_HZ * CHUNK_MS // 1000 * 2
    for at in range(0, len(audio), chunk_bytes):
        if pace:
            await asyncio.sleep(max(0.0, began_s + at / 2 / RATE_HZ / pace - time.monotonic()))
        await worker.emit("audio:chunk", {"data": audio[at : at + chunk_bytes]})


async def ended(worker: Worker) -> dict[str, Any]:
    seen = len(worker.of("transcript:complete"))
    await worker.emit("audio:end", {})
    return dict((await worker.wait(lambda: worker.of("transcript:complete")[seen:], 60))[0])


def check_contiguous(finals: list[dict[str, Any]], duration_ms: int) -> None:
    assert finals[0]["start_ms"] == 0
    assert all(one["end_ms"] == other["start_ms"] for one, other in pairwise(finals))
    assert finals[-1]["end_ms"] == duration_ms


async def test_utterances_pauses_and_echoes_one_after_the_other_on_one_connection(fakes):
    async with Worker(fakes.url) as worker:
        await started(worker, "mic", translate_to=["es", "pt"])
        await said(worker, (loud(1500) + quiet(1000)) * 2, pace=4)
        await worker.emit("audio:pause", {})
        await worker.wait(lambda: sum(bool(final["text"]) for final in worker.of("transcript:final")) == 2)
        await said(worker, loud(100))
        await worker.wait_error("STREAM_PAUSED")
        await worker.emit("audio:resume", {})
        await said(worker, loud(1000))
        complete = await ended(worker)
        finals = worker.of("transcript:final")
        check_contiguous(finals, 6000)
        with_words = [final for final in finals if final["text"]]
        assert len(with_words) == 3
        assert all(
            final["translations"] == {to: f"[{to}] {final['text']}" for to in ("es", "pt")} for final in with_words
        )
        assert complete["transcript"] == " ".join(final["text"] for final in with_words)
        assert complete["metrics"]["translations"] == 6
        assert worker.of("transcript:update")

        await started(worker, "mirror", "echo", format="pcm_f32le", sample_rate_hz=48_000)
        chunks = [bytes([number]) * 4800 for number in range(10)]
        for chunk in chunks:
            await worker.emit("audio:chunk", {"data": chunk})
        await worker.wait(lambda: len(worker.of("audio:echo")) == len(chunks))
        assert [echo["data"] for echo in worker.of("audio:echo")] == chunks
        assert (await ended(worker))["metrics"]["errors"] == 0


async def test_models_that_fail_cost_what_they_failed_on_and_nothing_else(fakes):
    async with Worker(fakes.url) as worker:
        await started(worker, "asr-fails", interims=False)
        await said(worker, loud(1000) + quiet(1000))
        complete = await ended(worker)
        finals = worker.of("transcript:final")
        check_contiguous(finals, 2000)
        assert [final["error"]["code"] for final in finals if "error" in final] in (["MODEL_ERROR"], ["TIMEOUT"])
        assert complete["metrics"]["errors"] >= 2, "it was not tried again"
        await started(worker, "half-translated", translate_to=["es", "pt"], interims=False)
        await said(worker, loud(1000))
        complete = await ended(worker)
        [final] = [final for final in worker.of("transcript:final") if final["text"]]
        assert len(final["translations"]) == len(final["translation_errors"]) == 1
        assert complete["transcript"] == final["text"]


async def test_of_a_long_transcript_the_end_is_kept_and_a_window_is_enough_for_audio_that_comes_at_once(fakes):
    async with Worker(fakes.url) as worker:
        ready = await started(worker, "x" * 200, interims=False)
        audio, sent = (loud(600) + quiet(800)) * 60, 0
        while sent < len(audio):
            acks = worker.of("audio:ack")
            if sent - (acks[-1]["taken_bytes"] if acks else 0) < ready["window_bytes"]:
                await worker.emit("audio:chunk", {"data": audio[sent : sent + 64_000]})
                sent += 64_000
            else:
                await worker.wait(lambda seen=acks: len(worker.of("audio:ack")) > len(seen))
        complete = await ended(worker)
        assert not worker.errors
        texts = " ".join(final["text"] for final in worker.of("transcript:final") if final["text"])
        assert complete["metrics"]["transcripts"] == 60
        assert len(complete["transcript"]) <= ready["max_transcript_characters"] == 1000
        assert complete["dropped_characters"] == len(texts) - len(complete["transcript"])
        assert texts.endswith(complete["transcript"])
