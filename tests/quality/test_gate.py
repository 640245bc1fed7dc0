"""The quality of a dub of real speech, in this process: a short form of `make quality` against the same bounds."""

from dataclasses import replace

import numpy as np
import pytest

from bench.dubbing import FITS, Dubs, Ears, Listener, Mouth, recording, streams
from bench.gate import GATE
from bench.quality import measure, scored, words
from deployments.tts.espeak import EspeakOptions
from tests.support import whisper

PLACING = "placing overlaps more than length alone"
CLICKS = "no click at a border"


def missed(found):
    return [name for name, holds in GATE.items() if not holds(found)]


@pytest.mark.timeout(900)
def test_the_neural_voice_passes(tmp_path):
    """Where no multilingual Whisper is installed, nobody listens, and that one bound isn't looked at."""
    weights = whisper.multilingual(tmp_path / "whisper")
    found = measure(Listener(weights) if weights else None, quick=True, cuts=("hard",))
    assert missed(found) == []


@pytest.fixture(scope="module")
def espeak() -> dict[str, Dubs]:
    """The same words in all ways of fitting, in a voice that takes no time."""
    ears, mouth = Ears(), Mouth(EspeakOptions(engine="espeak").build())
    heard = [ears.pieces(name, recording(clips), "hard") for name, clips in streams(quick=True).items()]
    ears.close()
    assert words(heard, ["a"], ["a"])["fragment_ms"]["n"] == 5
    return {fit: mouth.dub(heard, fit) for fit in FITS}


def judged(dubs):
    return {"hard": {"wer_percent": 0, "translation": {"chrf": 100}} | scored(dubs, None, {})}


def test_phrases_that_are_not_placed_any_more_are_noticed(espeak):
    assert PLACING not in missed(judged(espeak))
    assert PLACING in missed(judged(espeak | {"placed": espeak["total"]}))


def test_clicks_between_fragments_are_noticed(espeak):
    assert CLICKS not in missed(judged(espeak))
    (stream,) = espeak["carried"].made
    shifted = [replace(dub, audio=dub.audio + np.float32(1.5 * (at % 2))) for at, dub in enumerate(stream)]
    assert CLICKS in missed(judged(espeak | {"carried": Dubs([shifted])}))


def test_words_that_nobody_understands_are_noticed():
    counted = {"n": 100, "median": 8.0, "low": 3.5, "high": 12.0}
    assert missed({"misheard_more_than_total_points": {"placed": counted}}) == [
        "no less understood, chance aside, by more than 3 points"
    ]
    assert missed({"misheard_more_than_total_points": {"placed": counted | {"low": 2.5}}}) == []
