"""XTTS's real loading and inference code, on a checkpoint with random weights that is made here.

It speaks noise: shapes, lengths, identity and errors are looked at, and not what is heard.
"""

import hashlib
import importlib.util
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from deployments.audio.timing import FitLimits
from deployments.checksums import WeightsChanged
from deployments.contracts.engines import Line
from deployments.contracts.values import AudioFormat, FragmentRef, SynthesizeRequest, Voice
from deployments.errors import InvalidText
from deployments.tts.deployment import Tts
from deployments.tts.voices import VoiceBook
from deployments.tts.xtts import PUBLISHED, XttsOptions
from tests.support.trap import Trap

pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("TTS", "torch", "torchaudio", "torchcodec")),
    reason="coqui-tts, torch, torchaudio or torchcodec is not installed",
)

CLIP = Path(__file__).parents[1] / "data" / "speech" / "sense_and_sensibility-0870.wav"
ANA = Voice("ana", "xtts_v2", "es", speaker="Ana")
LUIS = Voice("luis", "xtts_v2", "es", speaker="Luis")
CLONED = Voice("cloned", "xtts_v2", "en", speaker_wav=str(CLIP))
VOICES = {voice.name: voice for voice in (ANA, LUIS, CLONED)}
TEXT = "El portero detiene el balón."


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    import torch

    from tests.support.xtts_checkpoint import write_tiny

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more of them spin and wait for each other where other tests run beside these
    yield write_tiny(tmp_path_factory.mktemp("xtts"), max_audio_tokens=16)
    torch.set_num_threads(threads)


def build(checkpoint, **options):
    options = {"model": str(checkpoint), "device": "cpu", "temperature": 0.0} | options
    return pickle.loads(pickle.dumps(XttsOptions(**options).build()))  # noqa: S301 - shipped to a replica like this


@pytest.fixture(scope="module")
def engine(checkpoint):
    built = build(checkpoint)
    built.load(VOICES)
    return built


def line(voice, text=TEXT, target_ms=3000):
    return Line(FragmentRef("stream", "fragment", 0), text, voice, target_ms)


@pytest.mark.parametrize("voice", VOICES.values(), ids=VOICES)
def test_every_kind_of_voice_speaks(engine, voice):
    spoken = engine.speak(line(voice))
    assert spoken.sample_rate_hz == 24_000
    assert spoken.samples.dtype == np.float32
    assert spoken.samples.ndim == 1
    assert np.isfinite(spoken.samples).all()
    assert 0 < np.abs(spoken.samples).max() <= 1.0
    assert 0.3 < len(spoken.samples) / 24_000 < 3


def test_a_voices_latents_are_computed_once_for_twenty_fragments(checkpoint, monkeypatch):
    from TTS.tts.models.xtts import Xtts

    calls = []
    computed = Xtts.get_gpt_cond_latents
    monkeypatch.setattr(
        Xtts, "get_gpt_cond_latents", lambda *given, **named: calls.append(1) or computed(*given, **named)
    )
    engine = build(checkpoint)
    engine.load({"cloned": CLONED})
    for _ in range(20):
        assert engine.speak(line(CLONED, "Sí.")).samples.size
    assert len(calls) == 1


def test_a_second_voice_doesnt_disturb_the_first(engine):
    before = engine.speak(line(ANA)).samples
    other = engine.speak(line(LUIS)).samples
    again = engine.speak(line(ANA)).samples
    np.testing.assert_array_equal(before, again)
    assert before.shape != other.shape or not np.allclose(before, other)


def test_streams_that_speak_at_once_get_what_they_would_get_alone(engine):
    """Other voices, languages and lengths in the same batch change nothing."""
    lines = [line(ANA), line(LUIS, "Sí."), line(CLONED, "A rather long sentence, longer than all others."), line(LUIS)]
    alone = [engine.speak(each).samples for each in lines]
    engine._gatherer._turn.acquire()  # so that all of them wait, and become one batch
    with ThreadPoolExecutor(len(lines)) as threads:
        together = [threads.submit(engine.speak, each) for each in lines]
        while len(engine._gatherer._waiting) < len(lines):
            threading.Event().wait(0.001)
        engine._gatherer._turn.release()
    for expected, found in zip(alone, together, strict=True):
        np.testing.assert_allclose(found.result().samples, expected, atol=1e-4)


def test_a_sentence_sounds_as_the_librarys_own_inference_makes_it(engine):
    model, latents = engine._model, engine._latents["ana"]
    expected = model._model.inference(
        TEXT, "es", latents.conditioning, latents.embedding, do_sample=False, repetition_penalty=5.0
    )["wav"]
    (speech,) = model.generate([model.sentence(TEXT, "es", latents, max_s=60)])
    np.testing.assert_allclose(model.vocode(speech, latents, 1.0), expected, atol=1e-5)


def test_half_precision_says_nearly_the_same(checkpoint, engine):
    """The path that CUDA takes, on a CPU."""
    halved = build(checkpoint)
    halved.load({"ana": ANA})
    halved._model.halve()
    speeches = [
        each._model.generate([each._model.sentence(TEXT, "es", each._latents["ana"], 0.4)])[0]
        for each in (engine, halved)
    ]
    np.testing.assert_allclose(speeches[1], speeches[0], atol=0.05)


def test_a_seed_repeats_what_is_drawn(checkpoint):
    engine = build(checkpoint, temperature=0.75, seed=7, max_batch=1)
    engine.load({"ana": ANA})
    first, second = (engine.speak(line(ANA)).samples for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_long_texts_are_spoken_to_their_end(engine):
    text = " ".join([TEXT] * 20)
    one, all_of_them = (engine.speak(line(ANA, said, 60_000)) for said in (TEXT, text))
    assert len(all_of_them.samples) > 2 * len(one.samples)
    assert one.rate == all_of_them.rate == 0.8


def test_a_number_that_nobody_can_say_is_refused(engine):
    with pytest.raises(InvalidText):
        engine.speak(line(ANA, "9" * 100))
    assert engine.speak(line(ANA, "12345678901234567890 " * 8)).samples.size, "too many tokens: spoken in parts"


def test_the_pinned_hash_is_checked(checkpoint):
    sha256 = hashlib.sha256((checkpoint / "model.pth").read_bytes()).hexdigest()
    build(checkpoint, checkpoint_sha256=sha256).load({"ana": ANA})
    with pytest.raises(WeightsChanged, match=r"model\.pth"):
        build(checkpoint, checkpoint_sha256="0" * 64).load({"ana": ANA})


def test_code_in_a_checkpoint_is_not_run(checkpoint, tmp_path):
    import torch

    for file in checkpoint.iterdir():
        if file.name != "model.pth":
            (tmp_path / file.name).symlink_to(file)
    torch.save({"model": Trap(tmp_path / "sprung")}, tmp_path / "model.pth")
    with pytest.raises(pickle.UnpicklingError):
        build(tmp_path).load({"ana": ANA})
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("voice", "named"),
    [
        (Voice("odd", "xtts_v2", "es", speaker="nobody"), r"'odd'.*'nobody'.*Ana"),
        (Voice("odd", "xtts_v2", "es"), r"'odd'.*speaker_wav"),
        (Voice("odd", "xtts_v2", "eo", speaker="Ana"), r"'odd'.*'eo'.*'es'"),
        (Voice("odd", "xtts_v2", "es", speaker_wav="/nowhere/ana.wav"), r"'odd'.*/nowhere/ana\.wav"),
        (Voice("odd", "xtts_v2", "ja", speaker="Ana"), r"'odd'.*'ja'.*package"),
    ],
)
def test_a_voice_that_cant_be_made_is_found_at_load(checkpoint, voice, named):
    with pytest.raises(ValueError, match=named):
        build(checkpoint).load({"ana": ANA, "odd": voice})


def test_a_recording_that_is_too_short_is_found_at_load(checkpoint, tmp_path):
    from deployments.audio import codec

    clip = codec.encode(np.full((2400, 1), 0.1, np.float32), 24_000, AudioFormat("wav", 24_000, 1)).data
    (tmp_path / "short.wav").write_bytes(clip)
    voice = Voice("odd", "xtts_v2", "es", speaker_wav=str(tmp_path / "short.wav"))
    with pytest.raises(ValueError, match=r"'odd'.*shorter"):
        build(checkpoint).load({"odd": voice})


def test_cuda_that_isnt_there_is_said(checkpoint):
    import torch

    if torch.cuda.is_available():
        pytest.skip("CUDA is there")
    with pytest.raises(ValueError, match="device"):
        build(checkpoint, device="cuda").load({"ana": ANA})


def test_the_published_weights_are_not_fetched_before_their_licence_is_accepted(monkeypatch, tmp_path):
    monkeypatch.setenv("TTS_HOME", str(tmp_path))
    monkeypatch.delenv("COQUI_TOS_AGREED", raising=False)
    with pytest.raises(ValueError, match="accept_cpml"):
        build(PUBLISHED).load({"ana": ANA})


async def test_a_dub_fits_its_original(checkpoint):
    """Through the deployment: rate, stretch and AAC."""
    book = VoiceBook.parse('{"voices": {"ana": {"model": "xtts_v2", "language": "es", "speaker": "Ana"}}}')
    tts = Tts(build(checkpoint), book, FitLimits())
    request = SynthesizeRequest(
        FragmentRef("stream", "fragment", 0), TEXT, "ana", 700, AudioFormat("m4a", 48_000, 2), budget_ms=60_000
    )
    speech = await tts.synthesize(request)
    assert abs(speech.duration_ms - 700) <= 1
    assert speech.model == "xtts_v2"
