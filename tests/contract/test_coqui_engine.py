"""The real loading and inference code of any Coqui model, on a VITS with random weights that is made here.

It speaks noise: shapes, lengths, identity and errors are looked at, and not what is heard.
"""

import importlib.util
import json
import logging
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from deployments.checksums import WeightsChanged
from deployments.contracts.engines import Line
from deployments.contracts.values import FragmentRef, Voice
from deployments.errors import InvalidText
from deployments.tts.coqui import CoquiOptions
from tests.support.trap import Trap

pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("TTS", "torch", "torchaudio", "torchcodec")),
    reason="coqui-tts, torch, torchaudio or torchcodec is not installed",
)

ANA, LUIS = (Voice(name, "coqui", "es", speaker=name.title()) for name in ("ana", "luis"))
VOICES = {voice.name: voice for voice in (ANA, LUIS)}
TEXT = "El portero detiene el balón sin problemas."
SLOWEST_MS, FASTEST_MS = 60_000, 100


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    from tests.support.coqui_checkpoint import SPEAKERS, write_vits

    return write_vits(tmp_path_factory.mktemp("coqui") / "vits", speakers=SPEAKERS)


@pytest.fixture(scope="module")
def engine(checkpoint):
    built = build(checkpoint)
    built.load(VOICES)
    return built


def build(model, **options):
    options = {"model": str(model), "device": "cpu", "seed": 7} | options
    return pickle.loads(pickle.dumps(CoquiOptions(**options).build()))  # noqa: S301 - shipped to a replica like this


def line(voice, text=TEXT, target_ms=SLOWEST_MS):
    return Line(FragmentRef("stream", "fragment", 0), text, voice, target_ms)


def test_it_speaks_sound(engine):
    spoken = engine.speak(line(ANA))
    assert engine.model == "vits"
    assert spoken.sample_rate_hz == 22_050
    assert spoken.samples.dtype == np.float32
    assert spoken.samples.ndim == 1
    assert np.isfinite(spoken.samples).all()
    assert 0 < np.abs(spoken.samples).max() <= 1.0


def test_a_shorter_target_is_spoken_faster_by_the_model_itself(engine):
    slow, fast = (engine.speak(line(ANA, target_ms=target_ms)) for target_ms in (SLOWEST_MS, FASTEST_MS))
    assert (slow.rate, fast.rate) == (0.8, 1.25)
    assert len(fast.samples) < 0.8 * len(slow.samples)


def test_two_speakers_differ_and_dont_disturb_each_other(engine):
    before = engine.speak(line(ANA)).samples
    other = engine.speak(line(LUIS)).samples
    again = engine.speak(line(ANA)).samples
    np.testing.assert_array_equal(before, again)
    assert before.shape != other.shape or not np.allclose(before, other)


def test_streams_that_speak_at_once_get_what_they_would_get_alone(engine):
    lines = [line(voice, target_ms=target_ms) for voice in (ANA, LUIS) for target_ms in (SLOWEST_MS, FASTEST_MS)]
    alone = [engine.speak(each).samples for each in lines]
    with ThreadPoolExecutor(len(lines)) as threads:
        together = list(threads.map(engine.speak, lines * 3))
    for expected, found in zip(alone * 3, together, strict=True):
        np.testing.assert_array_equal(found.samples, expected)


def test_every_part_of_a_long_text_is_spoken(checkpoint):
    cut = build(checkpoint, max_text_chars=50)
    cut.load(VOICES)
    one, four = (cut.speak(line(ANA, text)) for text in (TEXT, " ".join([TEXT] * 4)))
    assert len(four.samples) > 3 * len(one.samples)


@pytest.mark.parametrize("text", ["...", "🎉", "Привет"])
def test_text_without_a_sound_that_the_model_knows_is_refused(engine, text):
    with pytest.raises(InvalidText):
        engine.speak(line(ANA, text))


def test_texts_are_not_logged(engine, caplog):
    caplog.set_level(logging.INFO)
    engine.speak(line(ANA))
    assert "portero" not in caplog.text


@pytest.mark.parametrize(
    ("voice", "named"),
    [
        (Voice("odd", "coqui", "es", speaker="nobody"), r"'odd'.*'nobody'.*Ana"),
        (Voice("odd", "coqui", "en", speaker="Ana"), r"'odd'.*'en'.*'es'"),
        (Voice("odd", "coqui", "es", speaker="Ana", speaker_wav="ana.wav"), r"'odd'.*speaker_wav"),
    ],
)
def test_a_voice_that_doesnt_fit_is_found_at_load(checkpoint, voice, named):
    with pytest.raises(ValueError, match=named):
        build(checkpoint).load({"odd": voice})


def test_a_language_that_nothing_tells_must_be_given(tmp_path):
    from tests.support.coqui_checkpoint import write_vits

    folder = write_vits(tmp_path / "vits", languages=())
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"phoneme_language": None}), encoding="utf-8")
    voice = Voice("eva", "coqui", "es")
    with pytest.raises(ValueError, match="language"):
        build(folder).load({"eva": voice})
    told = build(folder, language="es")
    told.load({"eva": voice})
    assert told.speak(line(voice)).samples.size


def test_a_model_of_several_languages_speaks_each(tmp_path):
    from tests.support.coqui_checkpoint import write_vits

    voices = {language: Voice(language, "coqui", language) for language in ("en", "fr")}
    both = build(write_vits(tmp_path / "vits", languages=("en", "fr-fr")))
    both.load(voices)
    english, french = (both.speak(line(voice)).samples for voice in voices.values())
    assert english.shape != french.shape or not np.allclose(english, french)


def test_a_published_model_is_taken_by_name_with_the_language_in_it(tmp_path, monkeypatch):
    """From where the library keeps what it has downloaded."""
    from tests.support.coqui_checkpoint import write_vits

    monkeypatch.setenv("TTS_HOME", str(tmp_path))
    write_vits(tmp_path / "tts" / "tts_models--es--css10--vits", languages=())
    voice = Voice("eva", "tts_models/es/css10/vits", "es")
    published = build("tts_models/es/css10/vits")
    assert voice.model in published.voice_models
    published.load({"eva": voice})
    assert published.speak(line(voice)).samples.size


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("tts_models/es/nowhere/vits", "tts_models/es/nowhere/vits"),
        ("tts_models/en/vctk/fast_pitch", "accept_noncommercial"),
        ("tts_models/spa/fairseq/vits", "accept_noncommercial"),
    ],
)
def test_what_may_not_or_cant_be_fetched_is_said(name, named, tmp_path, monkeypatch):
    monkeypatch.setenv("TTS_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=named):
        build(name).load({})


def test_the_pinned_hash_is_checked(checkpoint):
    with pytest.raises(WeightsChanged, match=r"model\.pth"):
        build(checkpoint, checkpoint_sha256="0" * 64).load(VOICES)


def test_code_in_a_checkpoint_is_not_run(checkpoint, tmp_path):
    import torch

    (tmp_path / "config.json").symlink_to(checkpoint / "config.json")
    torch.save({"model": Trap(tmp_path / "sprung")}, tmp_path / "model.pth")
    with pytest.raises(pickle.UnpicklingError):
        build(tmp_path).load(VOICES)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("config", "named"), [("[]", "config.json"), ('{"model": "xtts"}', "engine xtts"), ('{"model": "vits"}', "model")]
)
def test_a_folder_that_isnt_such_a_model_is_said(checkpoint, tmp_path, config, named):
    (tmp_path / "config.json").write_text(config, encoding="utf-8")
    (tmp_path / "model.pth").symlink_to(checkpoint / "model.pth")
    with pytest.raises(ValueError, match=named):
        build(tmp_path).load(VOICES)
