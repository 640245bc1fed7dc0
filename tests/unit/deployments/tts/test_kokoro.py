"""What the Kokoro engine asks its model for; the model here is a stand-in that obeys to the sample."""

import numpy as np
import pytest
from pydantic import ValidationError

from deployments.contracts.engines import Line
from deployments.contracts.values import FragmentRef, Voice
from deployments.errors import DurationMismatch, InvalidText, SynthesisFailed
from deployments.tts import kokoro
from deployments.tts.kokoro import KokoroOptions
from deployments.tts.speech_rate import SpeechRate, estimate_s

RATE_HZ = 24_000
VOICE = Voice("spanish", "kokoro", "es", "jm_kumo")
TEXT = "el balon llega al area, i el portero lo detiene sin problemas."


class Model:
    """Phonemes are the letters, and speech takes `slowness` times the estimate."""

    def __init__(self, slowness=1.0, loudness=0.3):
        self.tokenizer = self
        self.slowness, self.loudness = slowness, loudness
        self.asked = []

    def phonemize(self, text, lang):
        return text.lower().replace("windows", "(en)windows(es)")

    def create(self, phonemes, style, speed, *, is_phonemes):
        assert is_phonemes
        self.asked.append((phonemes, speed))
        silence = np.zeros(RATE_HZ // 2, np.float32)
        n_samples = round(estimate_s(phonemes) * self.slowness / speed * RATE_HZ)
        return np.concatenate([silence, np.full(n_samples, self.loudness, np.float32), silence]), RATE_HZ


def engine(model, **options):
    built = KokoroOptions(**options).build()
    built._kokoro, built._styles, built._paces = model, {VOICE.name: np.zeros(1)}, {VOICE.name: SpeechRate()}
    return built


def line(target_ms, text=TEXT):
    return Line(FragmentRef("s", "f", 0), text, VOICE, target_ms)


@pytest.mark.parametrize("wanted", [0.85, 1.0, 1.15])
def test_the_rate_that_lands_on_the_target_is_asked_for_the_first_time(wanted):
    model = Model()
    target_ms = estimate_s(TEXT) * 1000 / wanted
    spoken = engine(model).speak(line(target_ms))
    assert len(model.asked) == 1
    assert spoken.rate == pytest.approx(wanted)
    assert len(spoken.samples) * 1000 / RATE_HZ == pytest.approx(target_ms, abs=50), "the silence around it is gone"


@pytest.mark.parametrize(("target_ms", "rate"), [(60_000, 0.8), (1500, 1.2)])
def test_the_rate_stays_natural(target_ms, rate):
    assert engine(Model()).speak(line(target_ms)).rate == rate


def test_a_voice_that_is_slower_than_most_is_known_after_a_few_texts():
    model = Model(slowness=1.25)
    voice = engine(model)
    for _ in range(10):
        spoken = voice.speak(line(5000))
    assert len(spoken.samples) * 1000 / RATE_HZ == pytest.approx(5000, rel=0.03)


def test_a_text_far_too_long_for_its_target_costs_no_synthesis():
    model = Model()
    with pytest.raises(DurationMismatch) as caught:
        engine(model).speak(line(500))
    assert model.asked == []
    assert caught.value.details["dubbed_duration_ms"] > 2000


@pytest.mark.parametrize("text", ["", "?!", "🎉"])
def test_nothing_to_say_is_invalid_text(text):
    with pytest.raises(InvalidText):
        engine(Model()).speak(line(1000, text))


def test_text_in_a_script_without_sounds_here_is_invalid_text(monkeypatch):
    model = Model()
    monkeypatch.setattr(model, "phonemize", lambda text, lang: ".")
    with pytest.raises(InvalidText):
        engine(model).speak(line(1000, "ᚠᚢᚦ."))
    assert model.asked == []


def test_marks_of_language_switches_are_not_read_out():
    model = Model()
    engine(model).speak(line(2000, "hola Windows hola"))
    assert model.asked[0][0] == "hola windows hola"


def test_a_silent_model_is_a_failure():
    with pytest.raises(SynthesisFailed):
        engine(Model(loudness=0.0)).speak(line(4000))


def test_loud_speech_is_turned_down_and_not_clipped():
    spoken = engine(Model(loudness=1.08)).speak(line(4000))
    assert np.abs(spoken.samples).max() == pytest.approx(1.0)


def test_a_missing_file_is_found_before_anything_loads(tmp_path):
    with pytest.raises(ValidationError, match="model_path: there is no file"):
        KokoroOptions(model_path=tmp_path / "kokoro.onnx")


def test_a_language_that_kokoro_lacks_is_found_before_anything_loads():
    with pytest.raises(ValueError, match="voice 'odd': no language 'ja'"):
        KokoroOptions().build().load({"odd": Voice("odd", "kokoro", "ja", "jf_alpha")})


def test_an_engine_that_was_not_loaded_says_so():
    with pytest.raises(RuntimeError, match="load"):
        KokoroOptions().build().speak(line(1000))


def test_one_thread_at_a_time_asks_for_phonemes(monkeypatch):
    """espeak-ng, behind the phonemizer, keeps its state in the process."""
    model = Model()
    voice = engine(model)
    locked = []
    monkeypatch.setattr(model, "phonemize", lambda text, lang: locked.append(kokoro._PHONEMIZING.locked()) or text)
    voice.speak(line(4000))
    assert locked == [True]
    assert not kokoro._PHONEMIZING.locked()
