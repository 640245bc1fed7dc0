"""OpenAI's own clients, unchanged, pointed at the real server: recordings, speech, models, and what is refused."""

import asyncio
import base64
import io
from pathlib import Path

import av
import numpy as np
import openai
import pytest

from deployments.audio import codec, pcm
from deployments.contracts.values import SAID_RATE_HZ
from tests.integration.test_live_transcription import KEY, fakes  # noqa: F401 - the fixture
from tests.support import browser, clips
from tests.support.browser import with_node
from tests.support.captions import RATE_HZ, contained, loud, quiet
from tests.support.speed import seconds
from tests.support.words import word_error_rate


def client_of(server, key: str = KEY) -> openai.OpenAI:
    return openai.OpenAI(api_key=key, base_url=f"{server.url}/v1", max_retries=0, timeout=seconds(120))


@pytest.fixture
def recorded(tmp_path) -> Path:
    path = tmp_path / "recorded.webm"
    path.write_bytes(contained(np.frombuffer(loud(2000) + quiet(1000), "<i2"), RATE_HZ, "webm", "libopus"))
    return path


def test_every_form_of_a_transcription_is_read_by_the_python_sdk(fakes, recorded):  # noqa: F811
    transcriptions = client_of(fakes).audio.transcriptions
    plain = transcriptions.create(model="whisper-1", file=recorded)
    assert plain.text
    assert plain.usage.seconds == 3
    assert transcriptions.create(model="whisper-1", file=recorded, response_format="text").strip() == plain.text
    assert "-->" in transcriptions.create(model="whisper-1", file=recorded, response_format="srt")
    assert transcriptions.create(model="whisper-1", file=recorded, response_format="vtt").startswith("WEBVTT")
    verbose = transcriptions.create(
        model="gpt-transcribe",
        file=recorded,
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
        language="en",
        prompt="Norland",
    )
    assert (verbose.text, verbose.language) == (plain.text, "english")
    assert verbose.duration == pytest.approx(3.0, abs=0.05)
    assert verbose.segments[0].text
    assert all(0 <= word.start <= word.end <= 3.05 for word in verbose.words)
    *deltas, done = transcriptions.create(model="whisper-1", file=recorded, stream=True)
    assert "".join(event.delta for event in deltas) == done.text == plain.text


@pytest.mark.parametrize("container", ["mp3", "opus", "aac", "flac", "wav"])
def test_speech_in_every_format_is_a_file_that_plays(fakes, container):  # noqa: F811
    speech = client_of(fakes).audio.speech.create(
        model="tts-1", voice="alloy", input="Hello there, and welcome.", response_format=container
    )
    with av.open(io.BytesIO(speech.content)) as file:
        [stream] = file.streams.audio
        assert sum(frame.samples for frame in file.decode(stream)) > stream.codec_context.sample_rate / 2


def test_models_are_listed_and_refusals_are_read_as_errors(fakes, recorded):  # noqa: F811
    client = client_of(fakes)
    assert "whisper-1" in [model.id for model in client.models.list()]
    assert client.models.retrieve("tts-1").owned_by == "livedub"
    with pytest.raises(openai.BadRequestError, match="voices: "):
        client.audio.speech.create(model="tts-1", voice="nobody", input="Hello")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing")
    with pytest.raises(openai.AuthenticationError):
        client_of(fakes, "no-key-of-this-test").audio.transcriptions.create(model="whisper-1", file=recorded)


@with_node
async def test_the_javascript_sdk_reads_the_same(fakes, recorded):  # noqa: F811
    came = await browser.run("openai.mjs", fakes.url, KEY, str(recorded))
    *deltas, done = came["streamed"]
    assert "".join(event["delta"] for event in deltas) == done["text"] == came["text"]
    assert came["text"]
    assert came["speech_bytes"] > 1000
    assert "whisper-1" in came["models"]
    assert (came["refused"]["status"], came["refused"]["param"]) == (400, "response_format")


async def transcribed(server, sound: bytes, rate_hz: int, *, pace: float, **heard) -> list:
    """All that a realtime session tells of sound that is sent `pace` times as fast as it lasts, up to its last word."""
    told = []
    client = openai.AsyncOpenAI(api_key=KEY, base_url=f"{server.url}/v1")
    async with (
        asyncio.timeout(seconds(120)),
        client.realtime.connect(extra_query={"intent": "transcription"}) as connection,
    ):
        heard = {"format": {"type": "audio/pcm", "rate": rate_hz}, "transcription": {"model": "whisper-1"}, **heard}
        await connection.session.update(session={"type": "transcription", "audio": {"input": heard}})

        async def read() -> None:
            async for event in connection:
                told.append(event)
                if event.type.endswith("input_audio_transcription.completed") and sent.is_set() and not open_items():
                    return

        def open_items() -> set[str]:
            by_kind = [{one.item_id for one in told if one.type.endswith(end)} for end in ("committed", "completed")]
            return by_kind[0] - by_kind[1]

        sent = asyncio.Event()
        reading = asyncio.create_task(read())
        chunk_bytes = rate_hz // 10 * 2
        for at in range(0, len(sound), chunk_bytes):
            await connection.input_audio_buffer.append(audio=base64.b64encode(sound[at : at + chunk_bytes]).decode())
            await asyncio.sleep(0.1 / pace)
        sent.set()
        await connection.input_audio_buffer.commit()
        await reading
    return told


async def test_a_realtime_session_is_read_by_the_python_sdk(fakes):  # noqa: F811
    sound = (loud(1500) + quiet(1000)) * 2 + loud(500)
    told = await transcribed(fakes, sound, RATE_HZ, pace=4, turn_detection={"type": "server_vad"})
    kinds = [event.type for event in told]
    assert kinds[:2] == ["session.created", "session.updated"]
    assert kinds.count("input_audio_buffer.speech_started") == 3
    assert kinds.count("conversation.item.input_audio_transcription.completed") == 3
    assert "error" not in kinds


@pytest.mark.timeout(300)
async def test_real_speech_is_transcribed_while_it_lasts_by_deltas_that_no_one_takes_back(serve):
    server = serve("local", {"args.asr_interim": {"engine": "moonshine"}})
    name = "sense_and_sensibility-0870.wav"
    sound = pcm.to_bytes(clips.clip(name, SAID_RATE_HZ)[:, 0], "pcm_s16le") + bytes(SAID_RATE_HZ * 2)
    told = await transcribed(server, sound, SAID_RATE_HZ, pace=1)
    done = [event for event in told if event.type.endswith("completed")]
    deltas = [event for event in told if event.type.endswith("delta")]
    assert word_error_rate([clips.transcripts()[name]], [" ".join(event.transcript for event in done)]) <= 0.15
    assert deltas
    assert told.index(deltas[0]) < told.index(done[0])
    assert {event.item_id for event in deltas} <= {event.item_id for event in done}


@pytest.mark.timeout(300)
def test_real_speech_is_written_down_translated_and_said_again(serve):
    """By the real models: what is said in Spanish and in English is understood by the recogniser or is no silence."""
    server = serve("local", {"args.asr_interim": {"engine": "moonshine"}})
    client = client_of(server)
    name = "sense_and_sensibility-0870.wav"
    text = clips.transcripts()[name]
    heard = client.audio.transcriptions.create(model="whisper-1", file=clips.SPEECH / name)
    assert word_error_rate([text], [heard.text]) <= 0.15
    with pytest.warns(DeprecationWarning, match="deprecated"):
        translated = client.audio.translations.create(
            model="whisper-1",
            file=clips.SPEECH / name,
            extra_body={"to_language": "es"},
            response_format="verbose_json",
        )
    assert translated.language == "spanish"
    assert len(translated.text.split()) > len(text.split()) / 2
    assert translated.text != heard.text
    with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input=text, response_format="pcm"
    ) as speech:
        sound = b"".join(speech.iter_bytes())
    samples = pcm.from_bytes(sound, "pcm_s16le", 1)[:, 0]
    wav = io.BytesIO()
    wav.name = "said.wav"
    wav.write(clips.encoded(codec.resample(samples, SAID_RATE_HZ, RATE_HZ)[:, None], "wav", RATE_HZ, 1))
    wav.seek(0)
    again = client.audio.transcriptions.create(model="whisper-1", file=wav)
    assert word_error_rate([text], [again.text]) <= 0.25


@pytest.mark.timeout(300)
async def test_real_speech_is_dubbed_while_it_lasts_by_a_voice_that_is_whole(serve):
    """The Spanish that comes back begins before the English ends, is no silence, and has no jump at a seam."""
    server = serve("local", {"args.asr_interim": {"engine": "moonshine"}})
    name = "sense_and_sensibility-0870.wav"
    sound = pcm.to_bytes(clips.clip(name, SAID_RATE_HZ)[:, 0], "pcm_s16le")
    client = openai.AsyncOpenAI(api_key=KEY, base_url=f"{server.url}/v1")
    dubbed, words, came_at = b"", {"input": "", "output": ""}, []
    async with asyncio.timeout(seconds(150)), client.realtime.translations.connect(model="any") as connection:
        heard = {"transcription": {"model": "any", "language": "en"}}
        await connection.session.update(session={"audio": {"output": {"language": "es"}, "input": heard}})

        async def speak() -> float:
            for at in range(0, len(sound), 9600):
                await connection.session.input_audio_buffer.append(
                    audio=base64.b64encode(sound[at : at + 9600]).decode()
                )
                await asyncio.sleep(0.2)
            await connection.session.close()
            return asyncio.get_running_loop().time()

        speaking = asyncio.create_task(speak())
        async for event in connection:
            assert event.type != "error", event
            if event.type == "session.output_audio.delta":
                came_at.append(asyncio.get_running_loop().time())
                dubbed += base64.b64decode(event.delta)
            elif event.type.endswith("transcript.delta"):
                words[event.type.split(".")[1].removesuffix("_transcript")] += event.delta
            elif event.type == "session.closed":
                break
        ended_at = await speaking
    assert word_error_rate([clips.transcripts()[name]], [words["input"]]) <= 0.25
    assert len(words["output"].split()) > len(words["input"].split()) / 2
    samples = pcm.from_bytes(dubbed, "pcm_s16le", 1)[:, 0]
    assert len(samples) / SAID_RATE_HZ > len(sound) / 2 / SAID_RATE_HZ / 3
    assert np.sqrt(np.mean(samples**2)) > 0.01
    assert np.abs(np.diff(samples)).max() < 0.5
    assert came_at[0] < ended_at + seconds(40)
