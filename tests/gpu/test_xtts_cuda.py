"""XTTS on CUDA: half precision, running out of memory, and two engines on one card.

The weights are random and tiny, so shapes, lengths and errors are looked at, and not what is heard.
"""

import gc
import importlib.util
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from deployments.contracts.engines import Line
from deployments.contracts.values import FragmentRef, Voice
from deployments.errors import GpuOutOfMemory
from deployments.tts.xtts import XttsOptions


def _no_cuda():
    if not all(importlib.util.find_spec(name) for name in ("TTS", "torch", "torchaudio", "torchcodec")):
        return "coqui-tts, torch, torchaudio or torchcodec is not installed"
    import torch

    return "" if torch.cuda.is_available() else "torch sees no CUDA device"


pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(_no_cuda()), reason=_no_cuda() or "there is one")]

ANA = Voice("ana", "xtts_v2", "es", speaker="Ana")
LUIS = Voice("luis", "xtts_v2", "es", speaker="Luis")
TEXT = "El portero detiene el balón sin problemas."


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    from tests.support.xtts_checkpoint import write_tiny

    return write_tiny(tmp_path_factory.mktemp("xtts"))


@pytest.fixture
def load(checkpoint):
    """Gives loaded engines; what they set on the card is undone."""
    import torch

    def loaded(**options):
        options = {"model": str(checkpoint), "device": "cuda", "temperature": 0.0} | options
        engine = XttsOptions(**options).build()
        engine.load({"ana": ANA, "luis": LUIS})
        return engine

    yield loaded
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def line(voice=ANA, text=TEXT):
    return Line(FragmentRef("stream", "fragment", 0), text, voice, 3000)


@pytest.mark.parametrize("half", [True, False])
def test_it_speaks_on_the_card(load, half):
    import torch

    engine = load(half=half)
    weights = next(engine._model._model.gpt.parameters())
    assert weights.is_cuda
    assert weights.dtype == (torch.float16 if half else torch.float32)
    spoken = engine.speak(line())
    assert np.isfinite(spoken.samples).all()
    assert 0.5 < len(spoken.samples) / spoken.sample_rate_hz < 6


def test_a_batch_in_half_precision_is_finite_for_every_stream(load):
    engine = load(temperature=None)
    lines = [line(ANA), line(LUIS, "Sí."), line(ANA, " ".join([TEXT] * 10)), line(LUIS)]
    with ThreadPoolExecutor(len(lines)) as threads:
        for spoken in threads.map(engine.speak, lines):
            assert spoken.samples.size
            assert np.isfinite(spoken.samples).all()


def test_a_card_that_is_full_fails_the_fragment_and_not_the_next_one(load):
    import torch

    engine = load()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-6)
    with pytest.raises(GpuOutOfMemory) as caught:
        engine.speak(line(text=" ".join([TEXT] * 10)))
    assert caught.value.retryable
    torch.cuda.set_per_process_memory_fraction(1.0)
    assert engine.speak(line()).samples.size


def test_the_memory_fraction_binds_the_engine(load):
    """Too little for the weights: found at load, not at the first fragment."""
    import torch

    gc.collect()  # engines of the tests before hold memory that another would otherwise be given
    torch.cuda.empty_cache()
    with pytest.raises(torch.cuda.OutOfMemoryError):
        load(gpu_memory_fraction=1e-6)


def test_two_engines_on_one_card_dont_disturb_each_other(load):
    first, second = load(gpu_memory_fraction=0.4), load(half=False)
    alone = first.speak(line()).samples, second.speak(line(LUIS)).samples
    with ThreadPoolExecutor(2) as threads:
        together = threads.submit(first.speak, line()), threads.submit(second.speak, line(LUIS))
    for expected, found in zip(alone, together, strict=True):
        assert found.result().samples.shape == expected.shape
