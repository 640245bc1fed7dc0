"""What the XTTS engine asks its model for; the model here is a stand-in, and torch isn't needed."""

import numpy as np
import pytest
from pydantic import ValidationError

from deployments.contracts.engines import Line
from deployments.contracts.values import FragmentRef, Voice
from deployments.errors import GpuOutOfMemory, InvalidText, Stage, SynthesisFailed
from deployments.tts.xtts import XttsOptions

RATE_HZ = 24_000
VOICE = Voice("spanish", "xtts_v2", "es", speaker="Ana")
TEXT = "El balón llega al área. El portero lo detiene sin problemas."


class Model:
    """A sentence is its text, and speech takes a tenth of a second a character."""

    sample_rate_hz = RATE_HZ

    def __init__(self, *, max_tokens=1000, error=None, loudness=0.3):
        self.max_tokens, self.error, self.loudness = max_tokens, error, loudness
        self.limits_s, self.batches, self.vocoded = [], [], []

    def max_chars(self, language):
        return 150

    def sentence(self, text, language, voice, max_s):
        self.limits_s.append(max_s)
        return (text, voice) if len(text) <= self.max_tokens else None

    def generate(self, sentences):
        self.batches.append([text for text, _ in sentences])
        if self.error:
            raise self.error
        return [text for text, _ in sentences]

    def seconds(self, speech):
        return len(speech) / 10

    def vocode(self, speech, voice, speed):
        self.vocoded.append((voice, speed))
        return np.full(round(len(speech) / 10 / speed * RATE_HZ), self.loudness, np.float32)


def engine(model, **options):
    built = XttsOptions(**options).build()
    built._use(model, {VOICE.name: "latents of Ana"})
    return built


def line(text=TEXT, target_ms=6000):
    return Line(FragmentRef("s", "f", 0), text, VOICE, target_ms)


@pytest.mark.parametrize("wanted", [0.85, 1.0, 1.2])
def test_speech_lands_on_its_target_within_the_natural_rates(wanted):
    model = Model()
    target_ms = round(len(TEXT) * 100 / wanted)
    spoken = engine(model).speak(line(target_ms=target_ms))
    assert spoken.rate == pytest.approx(wanted, rel=0.01)
    assert len(spoken.samples) * 1000 / RATE_HZ == pytest.approx(target_ms, abs=2)
    assert spoken.samples.dtype == np.float32


@pytest.mark.parametrize(("target_ms", "rate"), [(60_000, 0.8), (1500, 1.25)])
def test_the_rate_stays_natural(target_ms, rate):
    assert engine(Model()).speak(line(target_ms=target_ms)).rate == rate


def test_all_sentences_of_a_text_are_one_batch_at_one_rate():
    model = Model()
    engine(model, max_text_chars=40).speak(line())
    assert model.batches == [["El balón llega al área.", "El portero lo detiene sin problemas."]]
    assert len(set(model.vocoded)) == 1
    assert model.vocoded[0][0] == "latents of Ana"


def test_a_text_is_never_longer_than_the_model_takes_of_its_language():
    model = Model()
    engine(model, max_text_chars=1000).speak(line("palabra " * 60))
    assert all(len(text) <= 150 for batch in model.batches for text in batch)


def test_what_has_too_many_tokens_is_halved():
    model = Model(max_tokens=20)
    engine(model).speak(line())
    spoken = " ".join(text for batch in model.batches for text in batch)
    assert spoken == TEXT
    assert all(len(text) <= 20 for batch in model.batches for text in batch)


def test_a_character_that_is_too_long_is_refused():
    with pytest.raises(InvalidText):
        engine(Model(max_tokens=0)).speak(line())


@pytest.mark.parametrize(("text", "expected_s"), [("sí", 2.2), ("2024", 3.0), ("日本語", 2.5), ("a" * 100, 20.0)])
def test_how_long_the_model_may_go_on_follows_the_text(text, expected_s):
    model = Model()
    engine(model).speak(line(text))
    assert expected_s < model.limits_s[0] < 3 * expected_s


def test_text_without_sounds_is_refused_before_the_model():
    model = Model()
    with pytest.raises(InvalidText):
        engine(model).speak(line("🎉 ..."))
    assert not model.batches


def test_silence_is_an_error():
    with pytest.raises(SynthesisFailed):
        engine(Model(loudness=0.0)).speak(line())


def test_loud_speech_is_brought_into_range():
    assert np.abs(engine(Model(loudness=1.5)).speak(line()).samples).max() <= 1.0


def test_the_models_errors_pass():
    with pytest.raises(GpuOutOfMemory):
        engine(Model(error=GpuOutOfMemory(Stage.TTS, "no room"))).speak(line())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"model": "/nowhere"}, "model.pth"),
        ({"checkpoint_sha256": "abc"}, "checkpoint_sha256"),
        ({"gpu_memory_fraction": 0.0}, "gpu_memory_fraction"),
        ({"gpu_memory_fraction": 1.5}, "gpu_memory_fraction"),
        ({"device": "tpu"}, "device"),
        ({"max_batch": 0}, "max_batch"),
        ({"max_rate": 3.0}, "max_rate"),
        ({"speed": 1.0}, "speed"),
    ],
)
def test_wrong_options_are_named(options, named):
    with pytest.raises(ValidationError, match=named):
        XttsOptions(**options)


@pytest.mark.parametrize("content", [None, b"this is no audio"])
def test_a_recording_that_cant_be_read_is_named_before_anything_is_loaded(tmp_path, content):
    path = tmp_path / "ana.wav"
    if content is not None:
        path.write_bytes(content)
    voice = Voice("cloned", "xtts_v2", "es", speaker_wav=str(path))
    with pytest.raises(ValueError, match=r"'cloned'.*ana\.wav"):
        XttsOptions().build().load({"cloned": voice})
