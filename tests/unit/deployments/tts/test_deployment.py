"""What the Tts deployment answers: with the fakes that ship, and with a few engines made to misbehave."""

import asyncio
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from deployments.audio import codec
from deployments.audio.timing import FitLimits
from deployments.contracts.engines import Spoken
from deployments.contracts.values import (
    SAID_RATE_HZ,
    AudioFormat,
    EncodedAudio,
    FillRequest,
    FragmentRef,
    Overhang,
    SayRequest,
    Span,
    SynthesizeRequest,
)
from deployments.errors import (
    DeadlineExceeded,
    DurationMismatch,
    GpuOutOfMemory,
    InvalidText,
    ModelFailed,
    SynthesisFailed,
)
from deployments.replica.health import FAILURES_IN_A_ROW
from deployments.replica.watchdog import WEDGED_AFTER_S
from deployments.tts import TtsOptions
from deployments.tts.deployment import Tts
from deployments.tts.voices import VoiceBook

BOOK = VoiceBook.parse(
    """{"voices": {"anna": {"model": "kokoro", "language": "es"}, "bob": {"model": "espeak", "language": "en"}},
    "default_voice_per_language": {"es": "anna"}}"""
)
REF = FragmentRef("stream", "fragment", 7)
PCM = AudioFormat("pcm_s16le", 48_000, 2)
M4A = AudioFormat("m4a", 44_100, 1)
UNSAID = "lo que nadie debe leer"


def tts(*, limits=FitLimits(), **options):  # noqa: B008 - frozen
    return Tts(TypeAdapter(TtsOptions).validate_python({"engine": "fake"} | options).build(), BOOK, limits)


def request(text=UNSAID, *, voice="anna", target_ms=1000, output=PCM, budget_ms=5000, original=None):
    return SynthesizeRequest(REF, text, voice, target_ms, output, budget_ms, original)


def original(duration_ms=1000, output=PCM):
    n_samples = duration_ms * 48
    samples = np.random.default_rng(1).uniform(-0.5, 0.5, (n_samples, 2)).astype(np.float32)
    return samples, codec.encode(samples, 48_000, output)


class Engine:
    """An engine whose `speak` is the test's."""

    model = "made_up"
    voice_models = None
    wants_original = False

    def __init__(self, speak):
        self.speak = speak

    def load(self, voices):
        self.voices = voices


async def test_speech_lasts_as_long_as_its_original_and_comes_in_the_streams_format():
    speech = await tts().synthesize(request())
    assert speech.audio.format == PCM
    assert len(speech.audio.data) == 48_000 * 2 * 2
    assert (speech.duration_ms, speech.variance_percent, speech.speed_ratio) == (1000, 0.0, 1.0)
    assert (speech.partial, speech.warnings, speech.model) == (False, (), "fake")
    assert speech.elapsed_ms >= 0


@pytest.mark.parametrize("output", [M4A, AudioFormat("wav", 16_000, 2), AudioFormat("aac", 48_000, 2)])
async def test_a_decoder_finds_the_duration_that_is_told(output):
    speech = await tts().synthesize(request(output=output, target_ms=2000))
    decoded = codec.decode(speech.audio)
    assert (decoded.sample_rate_hz, decoded.channels) == (output.sample_rate_hz, output.channels)
    assert decoded.duration_ms == pytest.approx(speech.duration_ms, abs=25)
    assert speech.variance_percent < 2


@pytest.mark.parametrize(
    ("factor", "speed", "variance", "partial"),
    [
        (0.25, 0.8, 0.0, False),
        (1.5, 1.5, 0.0, False),
        (2.2, 2.0, 10.0, False),
        (2.21, 2.0, 10.5, True),
        (2.4, 2.0, 20.0, True),
    ],
)
async def test_how_far_off_decides_between_success_and_partial(factor, speed, variance, partial):
    speech = await tts(duration_factor=factor).synthesize(request())
    assert speech.speed_ratio == speed
    assert speech.variance_percent == pytest.approx(variance, abs=0.11)
    assert speech.partial is partial
    assert speech.warnings == (("duration_variance_high",) if partial else ())
    assert speech.duration_ms == round(1000 * (1 + variance / 100))


async def test_a_dub_that_fits_by_no_stretch_fails_for_good():
    with pytest.raises(DurationMismatch) as caught:
        await tts(duration_factor=2.42).synthesize(request())
    assert not caught.value.retryable
    assert caught.value.details["original_duration_ms"] == 1000
    assert caught.value.details["actual_variance_percent"] == pytest.approx(21, abs=0.1)


async def test_the_limits_are_the_deployments():
    speech = await tts(duration_factor=2.9, limits=FitLimits(max_speed=3.0)).synthesize(request())
    assert (speech.speed_ratio, speech.variance_percent) == (2.9, 0.0)


async def test_an_unknown_voice_is_no_reason_to_speak_with_another():
    with pytest.raises(SynthesisFailed, match="'carl'"):
        await tts().synthesize(request(voice="carl"))


def said(text="lo que se dice", *, voice="anna", rate=1.0):
    return SayRequest(REF, text, voice, 5000, rate)


@pytest.mark.parametrize("rate", [0.25, 1.0, 4.0])
async def test_what_has_no_original_is_said_at_the_rate_asked_for_and_starts_and_ends_quietly(rate):
    """An engine that knows one rate only: the rest is stretched."""
    wave = 0.3 * np.sin(np.arange(48_000) * 2 * np.pi * 440 / 48_000).astype(np.float32)
    sound = await Tts(Engine(lambda _: Spoken(wave, 48_000)), BOOK, FitLimits()).say(said(rate=rate))
    heard = np.frombuffer(sound.data, "<i2")
    assert len(heard) / SAID_RATE_HZ == pytest.approx(1 / rate, rel=0.05)
    assert abs(int(heard[0])) < 200 > abs(int(heard[-1]))
    assert sound.model == "made_up"


async def test_an_engine_is_told_the_rate_and_what_it_did_is_not_stretched_again():
    asked = []

    def speak(line):
        asked.append(line.rate)
        wave = np.sin(np.arange(24_000, dtype=np.float32))
        return Spoken(0.3 * wave, 24_000, rate=line.rate)

    sound = await Tts(Engine(speak), BOOK, FitLimits()).say(said(rate=1.5))
    assert asked == [1.5]
    assert len(sound.data) == pytest.approx(48_000, abs=20)


@pytest.mark.parametrize(
    ("voice", "samples", "message"),
    [
        ("anna", [], "no sound"),
        ("anna", [0.0] * 100, "no sound"),
        ("anna", [np.nan], "not numbers"),
        ("eve", [1.0], "eve"),
    ],
)
async def test_what_can_not_be_said_fails_saying_so(voice, samples, message):
    engine = Engine(lambda _: Spoken(np.asarray(samples, np.float32), 24_000))
    with pytest.raises(SynthesisFailed, match=message):
        await Tts(engine, BOOK, FitLimits()).say(said(voice=voice))


async def test_text_that_nobody_can_say_is_invalid():
    with pytest.raises(InvalidText):
        await tts().synthesize(request("… 🎉 …"))


async def test_a_scripted_error_comes_through_with_its_code():
    step = {"error": "GPU_OOM", "fragments": [7], "times": 1}
    deployment = tts(script=[step])
    with pytest.raises(Exception, match="GPU_OOM"):
        await deployment.synthesize(request())
    assert (await deployment.synthesize(request())).duration_ms == 1000


async def test_nothing_starts_once_the_time_is_up():
    calls = []
    deployment = Tts(Engine(calls.append), BOOK, FitLimits())
    with pytest.raises(DeadlineExceeded):
        await deployment.synthesize(request(budget_ms=0))
    with pytest.raises(DeadlineExceeded):
        await deployment.fill(FillRequest(REF, 1000, PCM, budget_ms=0))
    assert calls == []


async def test_a_voice_that_took_all_the_time_is_not_fitted():
    now_s = [100.0]

    def speak(line):
        now_s[0] += 5.0
        return Spoken(np.full(24_000, 0.1, np.float32), 24_000)

    deployment = Tts(Engine(speak), BOOK, FitLimits(), clock=lambda: now_s[0])
    with pytest.raises(DeadlineExceeded):
        await deployment.synthesize(request(budget_ms=5000))
    assert (await deployment.synthesize(request(budget_ms=5001))).elapsed_ms == 5000


@pytest.mark.parametrize("samples", [np.zeros(0, np.float32), np.full(24_000, np.nan, np.float32)])
async def test_samples_that_are_no_sound_are_a_failure(samples):
    deployment = Tts(Engine(lambda _: Spoken(samples, 24_000)), BOOK, FitLimits())
    with pytest.raises(SynthesisFailed):
        await deployment.synthesize(request())


async def test_an_original_without_a_duration_is_not_spoken_over():
    with pytest.raises(SynthesisFailed):
        await tts().synthesize(request(target_ms=0))


async def test_a_model_that_keeps_failing_has_its_replica_replaced():
    def speak(line):
        raise OSError("the device is gone")

    deployment = Tts(Engine(speak), BOOK, FitLimits())
    for _ in range(FAILURES_IN_A_ROW):
        deployment.check_health()
        with pytest.raises(ModelFailed):
            await deployment.synthesize(request())
    with pytest.raises(RuntimeError):
        deployment.check_health()


async def test_a_voice_that_hangs_has_its_replica_replaced():
    now_s = 0.0
    started, release = threading.Event(), threading.Event()

    def speak(line):
        started.set()
        release.wait(10)
        raise OSError

    deployment = Tts(Engine(speak), BOOK, FitLimits(), clock=lambda: now_s)
    hanging = asyncio.create_task(deployment.synthesize(request()))
    await asyncio.to_thread(started.wait, 10)
    deployment.check_health()
    now_s = WEDGED_AFTER_S + 1
    with pytest.raises(RuntimeError):
        deployment.check_health()
    release.set()
    with pytest.raises(ModelFailed):
        await hanging


async def test_the_echo_gives_back_what_the_worker_sent():
    samples, encoded = original()
    deployment = tts(engine="echo")
    speech = await deployment.synthesize(request(original=encoded))
    heard = codec.decode(speech.audio).samples
    assert speech.model == "echo"
    np.testing.assert_allclose(heard[1000:-1000], samples[1000:-1000], atol=2e-4)
    with pytest.raises(SynthesisFailed):
        await deployment.synthesize(request())


async def test_the_echo_moves_and_stretches_no_phrase():
    samples, _ = original(3000)
    samples[: 48 * 200] = samples[48 * 1000 : 48 * 1800] = samples[48 * 2800 :] = 0
    sent = codec.encode(samples, 48_000, PCM)
    all_of_it = replace(request(target_ms=3000, original=sent), speech=(Span(0, 3000),))
    speech = await tts(engine="echo").synthesize(all_of_it)
    assert speech.speed_ratio == 1.0
    np.testing.assert_allclose(codec.decode(speech.audio).samples[1000:-1000], samples[1000:-1000], atol=2e-4)


@pytest.mark.parametrize("output", [PCM, M4A, AudioFormat("aac", 48_000, 2)])
async def test_silence_fills_a_fragment_that_nobody_speaks_in(output):
    speech = await tts().fill(FillRequest(REF, 1500, output, 5000))
    decoded = codec.decode(speech.audio)
    assert np.abs(decoded.samples).max() < 1e-4
    assert decoded.duration_ms == pytest.approx(1500, abs=25)
    assert speech.variance_percent < 2
    assert (speech.model, speech.speed_ratio, speech.partial) == ("none", 1.0, False)


@pytest.mark.parametrize("sent_as", [PCM, AudioFormat("aac", 48_000, 2)])
async def test_the_original_fills_a_fragment_in_the_streams_format(sent_as):
    _, encoded = original(output=sent_as)
    speech = await tts().fill(FillRequest(REF, 1000, AudioFormat("wav", 16_000, 1), 5000, encoded))
    decoded = codec.decode(speech.audio)
    assert (decoded.sample_rate_hz, decoded.channels, decoded.duration_ms) == (16_000, 1, 1000)
    assert np.abs(decoded.samples).mean() > 0.05
    assert speech.variance_percent == 0.0


async def test_an_original_that_cant_be_read_fails_its_fragment():
    broken = EncodedAudio(b"no audio at all", AudioFormat("m4a", 48_000, 2))
    with pytest.raises(Exception, match="INVALID_AUDIO"):
        await tts().fill(FillRequest(REF, 1000, PCM, 5000, broken))


async def test_a_fill_does_not_wait_behind_a_voice():
    speaking, go_on = threading.Event(), threading.Event()

    def speak(line):
        speaking.set()
        assert go_on.wait(20)
        return Spoken(np.full(24_000, 0.1, np.float32), 24_000)

    deployment = Tts(Engine(speak), BOOK, FitLimits(), concurrency=1)
    voice = asyncio.create_task(deployment.synthesize(request(budget_ms=60_000)))
    try:
        await asyncio.to_thread(speaking.wait, 20)
        assert (await deployment.fill(FillRequest(REF, 1000, PCM, 5000))).duration_ms == 1000
        assert not voice.done()
    finally:
        go_on.set()
    assert (await voice).duration_ms == 1000


async def test_silence_and_raw_originals_wait_behind_no_container():
    """Whatever a decoder waits for, these need none."""
    deployment = tts()
    waiting, go_on = threading.Event(), threading.Event()
    decode = deployment._decoders.decode

    def held(audio, budget_ms):
        if audio.format.container == "aac":
            waiting.set()
            assert go_on.wait(60)
        return decode(audio, budget_ms)

    deployment._decoders.decode = held
    contained = [FillRequest(REF, 1000, PCM, 60_000, original(output=AudioFormat("aac", 48_000, 2))[1])] * 3
    fills = [asyncio.create_task(deployment.fill(request)) for request in contained]
    try:
        await asyncio.to_thread(waiting.wait, 20)
        for sent in (None, original()[1]):
            filled = await asyncio.wait_for(deployment.fill(FillRequest(REF, 1000, PCM, 60_000, sent)), 30)
            assert filled.duration_ms == 1000
    finally:
        go_on.set()
    assert [(await fill).duration_ms for fill in fills] == [1000] * 3


@pytest.mark.parametrize("engine", ["fake", "echo"])
async def test_an_original_is_decoded_in_what_is_left_of_the_fragments_time(engine):
    """For a fill, and for an engine that speaks with the worker's own voice."""
    now_s, budgets_ms = 0.0, []
    options = TypeAdapter(TtsOptions).validate_python({"engine": engine})
    deployment = Tts(options.build(), BOOK, FitLimits(), clock=lambda: now_s)
    decode = deployment._decoders.decode

    def noted(audio, budget_ms):
        budgets_ms.append(budget_ms)
        return decode(audio, budget_ms)

    async def late(work, budget_ms, **_):
        nonlocal now_s
        now_s += 1.5
        return work()

    deployment._decoders.decode = noted
    deployment._first.threads.run = deployment._filling.run = late
    _, encoded = original()
    if engine == "echo":
        await deployment.synthesize(request(original=encoded))
    else:
        await deployment.fill(FillRequest(REF, 1000, PCM, 5000, encoded))
    assert budgets_ms == [3500]


async def test_engines_without_voices_of_their_own_offer_the_whole_book_in_any_language():
    capabilities = await tts().capabilities()
    assert capabilities.voices == {"anna": "*", "bob": "*"}
    assert capabilities.default_voices == {"*": "anna"}
    assert not capabilities.wants_original
    assert (await tts(engine="echo").capabilities()).wants_original


async def test_logs_name_the_fragment_and_never_the_text():
    deployment = tts(script=[{"fragments": [8], "error": "MODEL_ERROR"}])
    failing = SynthesizeRequest(FragmentRef("stream", "next", 8), UNSAID, "anna", 1000, PCM, 5000)
    with capture_logs(processors=[merge_contextvars]) as lines:
        await deployment.synthesize(request())
        with pytest.raises(ModelFailed):
            await deployment.synthesize(failing)
        await deployment.fill(FillRequest(REF, 1000, PCM, 5000))
    told = [line for line in lines if line["log_level"] != "debug"]
    assert [line["event"] for line in told] == ["synthesized", "synthesis_failed", "filled"]
    assert [line["fragment_id"] for line in told] == ["fragment", "next", "fragment"]
    assert {line["stage"] for line in told} == {"tts"}
    assert told[0]["duration_ms"] == 1000
    assert told[1]["code"] == "MODEL_ERROR"
    assert UNSAID not in str(lines)


MONO = AudioFormat("pcm_s16le", 24_000, 1)
TONE = Overhang((np.full(4800, 0.25) * 2**15).astype("<i2").tobytes(), 24_000)
"""200 ms."""


def dub_of(speech):
    return np.frombuffer(speech.audio.data, dtype="<i2").astype(np.float32) / 2**15


def long_one(target_ms=2000, output=MONO, **more):
    """Of a voice that takes 1.4 times as long as its original."""
    speech = (Span(0, target_ms),)
    return SynthesizeRequest(REF, UNSAID, "anna", target_ms, output, 5000, speech=speech, **more)


async def test_what_runs_over_is_carried_and_opens_the_next_dub():
    deployment = tts(duration_factor=1.375)
    one = await deployment.synthesize(long_one(may_run_over=True))
    assert (one.duration_ms, one.variance_percent, one.speed_ratio) == (2000, 0.0, 1.25)
    assert one.overhang.duration_ms == 200
    other = await deployment.synthesize(long_one(overhang=one.overhang))
    assert other.duration_ms == 2000
    overhang = np.frombuffer(one.overhang.data, dtype="<i2").astype(np.float32) / 2**15
    np.testing.assert_allclose(dub_of(other)[: overhang.shape[0]], overhang, atol=1e-4)
    assert np.abs(dub_of(other)[overhang.shape[0] : 6720]).max() == 0, "80 ms of quiet before its own words"


async def test_without_leave_nothing_is_carried():
    assert (await tts(duration_factor=1.375).synthesize(long_one())).overhang is None


@pytest.mark.parametrize("limits", [FitLimits(overhang_ms=0), FitLimits(overhang_ms=100)])
async def test_no_more_is_carried_than_the_limit(limits):
    speech = await tts(duration_factor=1.375, limits=limits).synthesize(long_one(may_run_over=True))
    assert (speech.overhang.duration_ms if speech.overhang else 0) == limits.overhang_ms


async def test_formats_whose_pieces_dont_join_carry_nothing():
    deployment = tts(duration_factor=1.375)
    assert (
        await deployment.synthesize(long_one(output=AudioFormat("aac", 48_000, 1), may_run_over=True))
    ).overhang is None
    assert (await deployment.synthesize(long_one(output=M4A, may_run_over=True))).overhang is not None


async def test_silence_opens_with_what_was_carried():
    heard = dub_of(await tts().fill(FillRequest(REF, 1000, MONO, 5000, overhang=TONE)))
    np.testing.assert_allclose(heard[:4800], 0.25, atol=1e-4)
    assert np.abs(heard[4800:]).max() == 0


async def test_it_is_heard_over_an_original_that_is_sent_back():
    samples, encoded = original()
    speech = await tts().fill(FillRequest(REF, 1000, PCM, 5000, original=encoded, overhang=TONE))
    heard = codec.decode(speech.audio).samples
    np.testing.assert_allclose(heard[1000:8600] - samples[1000:8600], 0.25, atol=1e-3)
    np.testing.assert_allclose(heard[10_600:], samples[10_600:], atol=1e-3)


async def test_silence_shorter_than_what_was_carried_ends_without_a_click():
    heard = dub_of(await tts().fill(FillRequest(REF, 100, MONO, 5000, overhang=TONE)))
    assert heard.shape == (2400,)
    assert heard[-1] == 0
    assert heard[1200] == pytest.approx(0.25, abs=1e-4)


async def test_the_voice_is_asked_to_take_the_time_that_it_has():
    lines = []

    def speak(line):
        lines.append(line)
        return Spoken(np.full(24_000, 0.1, np.float32), 24_000)

    deployment = Tts(Engine(speak), BOOK, FitLimits())
    for more in ({}, {"may_run_over": True}, {"overhang": TONE}):
        await deployment.synthesize(long_one(**more))
    assert [line.room_ms for line in lines] == [2000, 2400, 1720]
    assert [line.speech_ms for line in lines] == [2000, 2000, 1720]


@pytest.mark.parametrize("engine", ["fake", "echo"])
async def test_a_sentence_is_said_at_the_start_and_measured_where_that_is_wanted(engine):
    options = TypeAdapter(TtsOptions).validate_python({"engine": engine, "delay_ms": 20})
    measured = (
        await Tts(options.build(), BOOK, FitLimits(), 2, measured_ms=options.measured_ms).capabilities()
    ).measured
    assert measured.slots == 2
    assert measured.fragment_ms >= 20
    assert (await tts(engine=engine).capabilities()).measured is None


async def test_a_sentence_at_the_start_plays_no_script():
    options = TypeAdapter(TtsOptions).validate_python({"engine": "fake", "script": [{"times": 1, "error": "GPU_OOM"}]})
    deployment = Tts(options.build(), BOOK, FitLimits(), measured_ms=2000)
    assert (await deployment.capabilities()).measured is not None
    with pytest.raises(GpuOutOfMemory):
        await deployment.synthesize(request())


async def test_what_is_measured_with_a_part_of_a_fragment_counts_in_proportion():
    class Slow(Engine):
        def __init__(self):
            super().__init__(lambda line: time.sleep(0.02) or Spoken(np.full(48_000, 0.1, np.float32), 24_000))

    measured = (await Tts(Slow(), BOOK, FitLimits(), measured_ms=2000).capabilities()).measured
    assert measured.fragment_ms >= 60


@pytest.mark.parametrize("container", ["aac", "m4a", "mp3", "ogg", "flac", "wav", "pcm_s16le", "webm"])
@pytest.mark.parametrize("target_ms", [10, 20, 50, 100, 200, 500])
async def test_the_shortest_fragments_keep_the_rule_of_duration_in_every_format(container, target_ms):
    try:
        speech = await tts().fill(FillRequest(REF, target_ms, AudioFormat(container, 16_000, 1), 5000))
    except DurationMismatch:
        assert container == "aac" or target_ms < 20
        return
    found_ms = codec.decode(speech.audio).duration_ms
    off_percent = abs(found_ms - target_ms) * 100 / target_ms
    assert speech.variance_percent == pytest.approx(off_percent, abs=0.01)
    assert off_percent <= (20 if speech.partial else 10)
