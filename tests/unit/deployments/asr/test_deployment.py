"""The Asr deployment decodes, recognises, measures, and tells every failure by its code."""

import asyncio
import io
import json
import logging
import pickle
import threading
import wave
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from deployments.asr.deployment import Asr
from deployments.asr.fake import FakeAsrOptions
from deployments.audio.codec import Decoded
from deployments.contracts.engines import ASR_RATE_HZ, Utterance
from deployments.contracts.values import (
    ITSELF,
    AudioFormat,
    EncodedAudio,
    FragmentRef,
    ListenRequest,
    Recognition,
    TranscribeRequest,
)
from deployments.errors import (
    DeadlineExceeded,
    GpuOutOfMemory,
    InvalidAudio,
    ModelFailed,
    Stage,
    StageError,
    UnsupportedLanguage,
)
from deployments.fault_script import Step
from deployments.replica.health import FAILURES_IN_A_ROW
from deployments.replica.watchdog import WEDGED_AFTER_S

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


def request(
    data: bytes | None = None, *, language: str = "en", budget_ms: int = 5000, sequence_number: int = 7
) -> TranscribeRequest:
    audio = EncodedAudio(wav() if data is None else data, AudioFormat("wav", 48_000, 1))
    ref = FragmentRef("radio", f"f-{sequence_number}", sequence_number)
    return TranscribeRequest(ref, audio, language, (), budget_ms)


class OnlyEnglish:
    """An engine whose one language is English, wrapped around the fake."""

    model = "only-english"
    languages: frozenset[str] | None = frozenset({"en"})

    def __init__(self) -> None:
        self._fake = FakeAsrOptions().build()
        self.load = self._fake.load
        self.transcribe = self._fake.transcribe


class Held:
    """An engine that notes who shares its calls, each of which lasts until the test ends it."""

    model = "held"
    languages: frozenset[str] | None = None

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.windows: list[int] = []
        self.begun = threading.Semaphore(0)
        self.ended = threading.Semaphore(0)

    def load(self) -> None:
        """Nothing to load."""

    def use_window(self, frames: int) -> None:
        self.windows.append(frames)

    def transcribe(self, utterances: Sequence[Utterance]) -> list[Recognition | StageError]:
        self.calls.append([utterance.ref.sequence_number for utterance in utterances])
        self.begun.release()
        self.ended.acquire()
        errors: dict[int, StageError] = {13: ModelFailed(Stage.ASR, "unlucky")}
        return [
            errors.get(utterance.ref.sequence_number, Recognition((), utterance.language)) for utterance in utterances
        ]

    async def begin(self) -> None:
        """Wait for the next call to begin."""
        await asyncio.get_running_loop().run_in_executor(None, self.begun.acquire)


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


async def test_elapsed_time_is_whole_milliseconds_of_decoding_and_recognising_without_the_wait_between() -> None:
    now_s = 0.0

    def passing(seconds, call):
        """The same call, which takes so long."""

        def timed(*args):
            nonlocal now_s
            now_s += seconds
            return call(*args)

        return timed

    engine = FakeAsrOptions().build()
    engine.transcribe = passing(0.5, engine.transcribe)
    asr = Asr(engine, clock=lambda: now_s)
    asr._decoders.decode = passing(0.1237, asr._decoders.decode)
    asr._finals.threads.run = passing(5.0, asr._finals.threads.run)
    transcript = await asr.transcribe(request(budget_ms=10_000))

    assert transcript.elapsed_ms == 624
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


@pytest.mark.parametrize("decode_processes", [0, 2])
async def test_raw_audio_waits_behind_no_container(decode_processes: int) -> None:
    """However many containers are being decoded, and whatever they wait for."""
    asr = Asr(FakeAsrOptions().build(), 4, decode_processes=decode_processes)
    ended = threading.Event()
    decode = asr._decoders.decode

    def held(audio: EncodedAudio, budget_ms: int) -> Decoded:
        if audio.format.container != "pcm_s16le":
            assert ended.wait(60)
            raise InvalidAudio(Stage.ASR, "the test has ended")
        return decode(audio, budget_ms)

    asr._decoders.decode = held  # type: ignore[method-assign]
    containers = [asyncio.create_task(asr.transcribe(request(sequence_number=number))) for number in range(20)]
    raw = EncodedAudio(bytes(2 * 48_000), AudioFormat("pcm_s16le", 48_000, 1))
    try:
        transcript = await asyncio.wait_for(asr.transcribe(replace(request(), audio=raw)), 30)
    finally:
        ended.set()
        await asyncio.gather(*containers, return_exceptions=True)
        asr._decoders.close()

    assert transcript.duration_ms == 1000


async def test_a_decode_gets_what_is_left_of_the_fragments_time() -> None:
    """The wait for a thread counts."""
    now_s = 0.0
    budgets_ms: list[int] = []
    asr = Asr(FakeAsrOptions().build(), clock=lambda: now_s)
    decode = asr._decoders.decode

    def noted(audio: EncodedAudio, budget_ms: int) -> Decoded:
        budgets_ms.append(budget_ms)
        return decode(audio, budget_ms)

    async def late(work: Callable[[], object], budget_ms: int) -> object:
        nonlocal now_s
        now_s += 1.5
        return work()

    asr._decoders.decode = noted  # type: ignore[method-assign]
    asr._unpacking.run = late  # type: ignore[method-assign,assignment]
    await asr.transcribe(request(budget_ms=5000))

    assert budgets_ms == [3500]


async def test_a_model_that_always_fails_makes_the_replica_unhealthy() -> None:
    asr = Asr(FakeAsrOptions(script=(Step(error="MODEL_ERROR"),)).build())
    asr.check_health()
    for _ in range(FAILURES_IN_A_ROW):
        with pytest.raises(ModelFailed):
            await asr.transcribe(request())

    with pytest.raises(RuntimeError):
        asr.check_health()


async def test_a_call_that_hangs_makes_the_replica_unhealthy() -> None:
    now_s = 0.0
    engine = Held()
    asr = Asr(engine, clock=lambda: now_s)
    call = asyncio.create_task(asr.transcribe(request()))
    await engine.begin()
    asr.check_health()
    now_s = WEDGED_AFTER_S + 1
    with pytest.raises(RuntimeError, match="has been running for 61 s"):
        asr.check_health()
    engine.ended.release()
    await call

    asr.check_health()


async def test_fragments_that_wait_share_one_call_in_which_each_has_its_own_fate() -> None:
    engine = Held()
    asr = Asr(engine)
    await asr.reconfigure({"max_batch_size": 8})
    first = asyncio.create_task(asr.transcribe(request(sequence_number=1, budget_ms=60_000)))
    await engine.begin()
    bad = asyncio.create_task(asr.transcribe(request(b"this is not a recording", sequence_number=2, budget_ms=60_000)))
    others = [
        asyncio.create_task(asr.transcribe(request(sequence_number=number, budget_ms=60_000)))
        for number in (12, 13, 14)
    ]
    with pytest.raises(InvalidAudio):
        await bad
    while asr._finals.n_waiting < 3:
        await asyncio.sleep(0)
    engine.ended.release(2)
    answers = await asyncio.gather(first, *others, return_exceptions=True)

    assert [sorted(call) for call in engine.calls] == [[1], [12, 13, 14]]
    assert [type(answer).__name__ for answer in answers] == ["Transcript", "Transcript", "ModelFailed", "Transcript"]
    asr.check_health()


async def test_one_at_a_time_is_the_default() -> None:
    engine = Held()
    asr = Asr(engine)
    calls = [asyncio.create_task(asr.transcribe(request(sequence_number=number))) for number in range(3)]
    engine.ended.release(3)
    await asyncio.gather(*calls)

    assert [len(call) for call in engine.calls] == [1, 1, 1]


async def test_a_changed_user_config_reaches_the_engine_and_what_is_left_out_goes_back_to_its_default() -> None:
    engine = Held()
    asr = Asr(engine)
    await asr.reconfigure({"max_batch_size": 8, "window_frames": 2000})
    await asr.reconfigure({"max_batch_size": 8})

    assert engine.windows == [1500, 2000, 1500]


@pytest.mark.parametrize(
    "wrong", [{"max_batch_size": 0}, {"batch_wait_ms": -1}, {"window_frames": 1000}, {"window_frames": 1501}, {"a": 1}]
)
async def test_a_wrong_user_config_ends_the_start_naming_the_field(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        await Asr(FakeAsrOptions().build()).reconfigure(wrong)


@pytest.mark.parametrize(("given", "windows"), [([{"window_frames": 2000}], [1500, 2000]), ([], [1500])])
async def test_a_wrong_user_config_that_comes_live_changes_nothing(
    logged: list[str], given: list[dict[str, int]], windows: list[int]
) -> None:
    """Serve calls reconfigure at the start only where the file gives a user_config, then checks the health."""
    engine = Held()
    asr = Asr(engine)
    for user_config in given:
        await asr.reconfigure(user_config)
    asr.check_health()
    await asr.reconfigure({"window_frames": 1501})

    assert engine.windows == windows
    assert any("asr_user_config_refused" in line and "window_frames" in line for line in logged)


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


async def test_a_sentence_is_heard_at_the_start_and_measured_where_that_is_wanted() -> None:
    heard: list[Utterance] = []

    engine = OnlyEnglish()
    transcribe = engine.transcribe
    engine.transcribe = lambda utterances: heard.extend(utterances) or transcribe(utterances)
    told = await Asr(engine, 2, measure=True).capabilities()
    assert told.measured is not None
    assert told.measured.slots == 2
    assert {(one.ref, one.language) for one in heard} == {(ITSELF, "en")}
    assert len(heard[0].samples) == pytest.approx(6 * ASR_RATE_HZ, rel=0.01)
    assert np.abs(heard[0].samples).max() > 0.1


class Quick(OnlyEnglish):
    """A second engine."""

    model = "quick"


def raw(*levels_ms: tuple[float, int]) -> EncodedAudio:
    """A tone of each level (0 to 1) for so long, 16 kHz, mono."""
    parts = [
        level * np.sin(np.arange(ASR_RATE_HZ * duration_ms // 1000) * 0.3, dtype=np.float64)
        for level, duration_ms in levels_ms
    ]
    samples = (np.concatenate(parts) * 32_767).astype("<i2")
    return EncodedAudio(samples.tobytes(), AudioFormat("pcm_s16le", ASR_RATE_HZ, 1))


async def test_interims_are_heard_by_their_own_engine_where_it_knows_the_language():
    asr = Asr(FakeAsrOptions().build(), interim=Quick())
    asked = request()
    assert (await asr.transcribe(asked)).model == "fake"
    assert (await asr.transcribe(replace(asked, interim=True))).model == "quick"
    assert (await asr.transcribe(replace(asked, interim=True, language="es"))).model == "fake"


async def test_an_interim_is_not_measured_for_a_dub_that_will_not_be():
    asr = Asr(FakeAsrOptions().build())
    assert (await asr.transcribe(request())).acoustics is not None
    assert (await asr.transcribe(replace(request(), interim=True))).acoustics is None


async def test_a_voice_is_told_frame_by_frame_behind_what_was_heard_before():
    asr = Asr(FakeAsrOptions().build())
    audio = raw((0.3, 64), (0.0, 64), (0.3, 96), (0.001, 40))
    heard = await asr.listen(ListenRequest(ITSELF, audio, context_ms=64, budget_ms=5000))
    assert heard.probabilities == (0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0)


async def test_a_voice_is_told_by_the_engine_where_it_can_and_never_in_what_is_too_quiet():
    class Sure(OnlyEnglish):
        def voice(self, samples):
            assert len(samples) % 512 == 0
            return np.full(len(samples) // 512, 0.7, np.float32)

    asr = Asr(Sure())
    heard = await asr.listen(ListenRequest(ITSELF, raw((0.0, 64), (0.3, 64)), context_ms=0, budget_ms=5000))
    assert heard.probabilities == pytest.approx((0.0, 0.0, 0.7, 0.7))


async def test_what_cannot_be_decoded_cannot_be_listened_to():
    asr = Asr(FakeAsrOptions().build())
    odd = EncodedAudio(b"\0" * 333, AudioFormat("pcm_s16le", ASR_RATE_HZ, 1))
    with pytest.raises(InvalidAudio):
        await asr.listen(ListenRequest(ITSELF, odd, context_ms=0, budget_ms=5000))
