"""Where the first voice would be late, the faster one speaks, in time."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from deployments.audio.timing import FitLimits
from deployments.contracts.engines import Spoken
from deployments.contracts.values import (
    FASTER_NEEDS_MS,
    FASTER_VOICE,
    AudioFormat,
    FragmentRef,
    Measured,
    SynthesizeRequest,
)
from deployments.errors import ModelFailed, QueueFull, Stage
from deployments.replica import measuring
from deployments.replica.health import FAILURES_IN_A_ROW
from deployments.tts import TtsOptions
from deployments.tts.deployment import Tts
from deployments.tts.voices import VoiceBook

BOOK = VoiceBook.parse(
    """{"voices": {"anna": {"model": "slow", "language": "es"}, "robot": {"model": "quick", "language": "es"}},
    "default_voice_per_language": {"es": ["anna", "robot"]}}"""
)
PCM = AudioFormat("pcm_s16le", 16_000, 1)


class Voice:
    """Speaks what it is asked, or waits until the test lets it."""

    wants_original = False

    def __init__(self, model: str) -> None:
        self.model, self.voice_models = model, frozenset({model})
        self.may_speak = threading.Event()
        self.may_speak.set()
        self.error: Exception | None = None
        self.spoken: list[str] = []

    def load(self, voices) -> None:
        self.voices = voices

    def speak(self, line) -> Spoken:
        self.spoken.append(line.voice.name)
        self.may_speak.wait(10)
        if self.error is not None:
            raise self.error
        return Spoken(np.full(16_000, 0.1, np.float32), 16_000)


@pytest.fixture
def voices():
    first, faster = Voice("slow"), Voice("quick")
    yield first, faster
    first.may_speak.set()


def deployed(voices) -> Tts:
    first, faster = voices
    return Tts(first, BOOK, FitLimits(), faster=faster)


def request(budget_ms: int = 5000, **changes) -> SynthesizeRequest:
    given = {"faster_voice": "robot"} | changes
    return SynthesizeRequest(FragmentRef("s", "f", 0), "hola", "anna", 1000, PCM, budget_ms, **given)


async def test_the_first_voice_speaks_what_it_can_in_time(voices):
    speech = await deployed(voices).synthesize(request())
    assert (speech.model, speech.warnings) == ("slow", ())


async def test_asked_to_hasten_the_faster_one_speaks_at_once(voices):
    speech = await deployed(voices).synthesize(request(hasten=True))
    assert (speech.model, speech.warnings) == ("quick", (FASTER_VOICE,))
    assert not voices[0].spoken


async def test_one_that_takes_too_long_is_not_waited_for(voices):
    voices[0].may_speak.clear()
    speech = await deployed(voices).synthesize(request(FASTER_NEEDS_MS + 50))
    assert (speech.model, speech.warnings) == ("quick", (FASTER_VOICE,))
    assert voices[0].spoken == ["anna"]


async def test_one_that_is_known_to_take_too_long_is_not_begun(voices):
    tts = deployed(voices)
    tts._first.threads._times._takes.learn(4, 20.0, tts._clock())
    speech = await tts.synthesize(request())
    assert speech.model == "quick"
    assert not voices[0].spoken


async def test_what_each_voice_took_at_its_start_is_what_it_is_trusted_with(voices, monkeypatch):
    first, faster = voices
    took_ms = iter((24_000, 1000))
    monkeypatch.setattr(measuring, "measured", lambda *_, **__: Measured(next(took_ms), 1, 1, 1))
    tts = Tts(first, BOOK, FitLimits(), faster=faster, measured_ms=1000)
    assert (await tts.capabilities()).faster_needs_ms == 1500
    assert (await tts.synthesize(request(1500))).model == "quick"
    assert (await tts.synthesize(replace(request(5000), text="hola, hola, hola, hola, hola"))).model == "quick"
    assert not first.spoken
    assert (await tts.synthesize(request(26_000))).model == "slow"


async def test_with_no_time_for_both_the_faster_one_speaks(voices):
    assert (await deployed(voices).synthesize(request(FASTER_NEEDS_MS))).model == "quick"


@pytest.mark.parametrize("faster_voice", ["", "robot"])
async def test_without_one_the_first_is_refused(voices, faster_voice):
    first, faster = voices
    tts = Tts(first, BOOK, FitLimits(), faster=None if faster_voice else faster)
    tts._first.threads._times._takes.learn(4, 20.0, tts._clock())
    with pytest.raises(QueueFull, match="20000 ms are needed"):
        await tts.synthesize(request(faster_voice=faster_voice))


async def test_a_voice_that_fails_is_not_covered_up(voices):
    voices[0].error = ModelFailed(Stage.TTS, "broken")
    with pytest.raises(ModelFailed):
        await deployed(voices).synthesize(request())


async def test_streams_are_told_which_voice_it_is(voices):
    assert (await deployed(voices).capabilities()).faster_voices == {"es": "robot"}
    assert (await Tts(voices[0], BOOK, FitLimits()).capabilities()).faster_voices == {}


@pytest.mark.parametrize("engine", ["kokoro", "fake"])
def test_an_engine_that_is_fast_can_stand_behind_a_slow_one(engine):
    options = TypeAdapter(TtsOptions).validate_python({"engine": engine, "faster": {"engine": "fake"}})
    assert options.faster is not None


@pytest.mark.parametrize(
    "given",
    [
        {"engine": "espeak", "faster": {"engine": "fake"}},
        {"engine": "kokoro", "faster": {"engine": "kokoro"}},
        {"engine": "fake", "faster": {"engine": "fake", "faster": {"engine": "fake"}}},
    ],
)
def test_a_slow_one_behind_it_is_refused(given):
    with pytest.raises(ValidationError):
        TypeAdapter(TtsOptions).validate_python(given)


async def test_the_faster_voice_does_not_hide_that_the_first_one_is_broken(voices):
    tts = deployed(voices)
    voices[0].error = ModelFailed(Stage.TTS, "broken")
    for _ in range(FAILURES_IN_A_ROW):
        with pytest.raises(ModelFailed):
            await tts.synthesize(request())
        await tts.synthesize(request(hasten=True))
    with pytest.raises(RuntimeError):
        tts.check_health()
