"""The Asr deployment decodes, recognises, measures, and tells every failure by its code."""

import io
import json
import logging
import pickle
import wave
from collections.abc import Iterator

import numpy as np
import pytest

from deployments.asr.deployment import Asr
from deployments.asr.fake import FakeAsrOptions
from deployments.contracts import AudioFormat, EncodedAudio, FragmentRef, Recognition, TranscribeRequest
from deployments.errors import (
    DeadlineExceeded,
    GpuOutOfMemory,
    InvalidAudio,
    ModelFailed,
    StageError,
    UnsupportedLanguage,
)
from deployments.health import FAILURES_IN_A_ROW
from deployments.script import Step

SPOKEN = "nobody may read this in a log"


def wav(duration_ms: int = 500, rate_hz: int = 22_050, channels: int = 2, level: float = 0.3) -> bytes:
    t = np.arange(rate_hz * duration_ms // 1000) / rate_hz
    samples = (np.sin(2 * np.pi * 220 * t) * level * 32_767).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(rate_hz)
        writer.writeframes(np.repeat(samples, channels).tobytes())
    return file.getvalue()


def request(data: bytes | None = None, *, language: str = "en", budget_ms: int = 5000) -> TranscribeRequest:
    audio = EncodedAudio(wav() if data is None else data, AudioFormat("wav", 48_000, 1))
    return TranscribeRequest(FragmentRef("radio", "f-7", 7), audio, language, (), budget_ms)


class OnlyEnglish:
    """An engine whose one language is English, wrapped around the fake."""

    model = "only-english"
    languages: frozenset[str] | None = frozenset({"en"})

    def __init__(self) -> None:
        self._fake = FakeAsrOptions().build()
        self.load = self._fake.load
        self.transcribe = self._fake.transcribe


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """The lines that the deployments log."""
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Lines()
    logging.getLogger("deployments").addHandler(handler)
    yield lines
    logging.getLogger("deployments").removeHandler(handler)


async def test_a_fragment_is_decoded_and_recognised() -> None:
    transcript = await Asr(FakeAsrOptions().build()).transcribe(request())

    assert transcript.recognition.text == "fragment 7"
    assert transcript.duration_ms == 500
    assert transcript.model == "fake"


async def test_the_true_rate_and_channels_are_told_under_the_container_of_the_request() -> None:
    transcript = await Asr(FakeAsrOptions().build()).transcribe(request())

    assert transcript.audio_format == AudioFormat("wav", 22_050, 2)


async def test_silence_is_a_transcript_without_segments() -> None:
    transcript = await Asr(FakeAsrOptions().build()).transcribe(request(wav(level=0.0)))

    assert transcript.recognition == Recognition((), "en")
    assert transcript.recognition.text == ""


async def test_requests_and_answers_cross_processes() -> None:
    transcript = await Asr(FakeAsrOptions().build()).transcribe(pickle.loads(pickle.dumps(request())))  # noqa: S301

    assert pickle.loads(pickle.dumps(transcript)) == transcript  # noqa: S301


async def test_elapsed_time_is_whole_milliseconds_of_work() -> None:
    ticks = iter([0.0, 0.25, 1.0, 1.1237])
    transcript = await Asr(FakeAsrOptions().build(), clock=lambda: next(ticks)).transcribe(request())

    assert transcript.elapsed_ms == 124
    assert isinstance(transcript.elapsed_ms, int)


async def test_bytes_that_are_no_audio_are_refused() -> None:
    with pytest.raises(InvalidAudio):
        await Asr(FakeAsrOptions().build()).transcribe(request(b"this is not a recording"))


async def test_a_language_the_engine_does_not_hear_is_refused() -> None:
    with pytest.raises(UnsupportedLanguage, match="only-english does not hear fr"):
        await Asr(OnlyEnglish()).transcribe(request(language="fr"))


async def test_an_engines_failure_of_one_item_is_raised() -> None:
    asr = Asr(FakeAsrOptions(script=(Step(fragments=(7,), times=1, error="GPU_OOM"),)).build())
    with pytest.raises(GpuOutOfMemory):
        await asr.transcribe(request())

    assert (await asr.transcribe(request())).recognition.text == "fragment 7"


async def test_with_no_time_left_nothing_starts() -> None:
    with pytest.raises(DeadlineExceeded):
        await Asr(FakeAsrOptions().build()).transcribe(request(budget_ms=0))


async def test_a_model_that_always_fails_makes_the_replica_unhealthy() -> None:
    asr = Asr(FakeAsrOptions(script=(Step(error="MODEL_ERROR"),)).build())
    asr.check_health()
    for _ in range(FAILURES_IN_A_ROW):
        with pytest.raises(ModelFailed):
            await asr.transcribe(request())

    with pytest.raises(RuntimeError):
        asr.check_health()


async def test_capabilities_tell_model_and_languages() -> None:
    told = await Asr(OnlyEnglish()).capabilities()

    assert (told.model, told.languages) == ("only-english", frozenset({"en"}))


@pytest.mark.parametrize(
    ("script", "event", "level"),
    [((), "transcribed", "info"), ((Step(error="GPU_OOM"),), "transcription_failed", "warning")],
)
async def test_each_fragment_logs_one_line_that_names_it_and_not_what_it_says(
    logged: list[str], script: tuple[Step, ...], event: str, level: str
) -> None:
    asr = Asr(FakeAsrOptions(text=SPOKEN, script=script).build())
    logged.clear()
    try:
        await asr.transcribe(request())
    except StageError as error:
        assert error.code == "GPU_OOM"  # noqa: PT017

    [line] = [json.loads(line) for line in logged]
    assert (line["event"], line["level"], line["stage"]) == (event, level, "asr")
    assert (line["stream_id"], line["fragment_id"], line["sequence_number"]) == ("radio", "f-7", 7)
    assert SPOKEN not in logged[0]
