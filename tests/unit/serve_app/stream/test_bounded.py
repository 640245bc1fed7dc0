"""A stream that runs for weeks takes no more memory than one that has run for minutes."""

import pickle

import pytest

from deployments.errors import ModelFailed, Stage
from serve_app.protocol import ErrorCode
from serve_app.stream.session import Session
from serve_app.stream.values import StreamLimits, Submit
from tests.unit.serve_app.stream.mutants import GROWING
from tests.unit.serve_app.stream.recorder import failed, make_fragment, make_outcome, make_settings

WARM, LONG = 2_000, 8_000
"""Fragments: 3 hours and 13 hours of a live stream."""
GROWN = 1.1
FAR_BYTES = 20_000
"""A good thousand numbers, at 9 bytes each."""
LIMITS = StreamLimits(kept_results=64, kept_bytes=1_000_000)


def size_bytes(session: Session) -> int:
    """All that the session holds on to, as one pickle: whatever grows, wherever it hides, is in there."""
    return len(pickle.dumps(session))


def live(session: Session, first: int, last: int, kind: str) -> None:
    """Fragments first … last - 1, one every 6 s, each answered after a second or so."""
    for number in range(first, last):
        now = 6.0 * number
        if kind == "gaps" and number % 3 == 1:
            continue
        if kind == "refused" and number % 3 == 1:
            session.refuse(
                ErrorCode.MALFORMED_DATA, "not base64", now, fragment_id=f"bad{number}", sequence_number=number
            )
            continue
        effects = [*session.tick(now), *session.accept(make_fragment(number, f"fragment-{number:012d}"), now)]
        outcome = failed(ModelFailed) if kind == "failing" and number % 2 else make_outcome(audio=b"d" * 64)
        later = now + 1 + 0.001 * (number % 997)
        for effect in effects:
            if isinstance(effect, Submit):
                spoken = make_outcome(f"what was said in fragment {number:012d}", audio=b"d" * 64)
                session.running(effect.ticket, Stage.TTS, spoken, now)
                session.complete(effect.ticket, outcome, later)
        if kind == "resent":
            session.accept(make_fragment(number, f"fragment-{number:012d}"), later + 1)


def growth(kind: str) -> float:
    """The size of a session that has run for long over that of one that is warm."""
    session = Session(make_settings(), LIMITS)
    live(session, 0, WARM, kind)
    warm = size_bytes(session)
    live(session, WARM, LONG, kind)
    assert session.in_flight <= 2  # the last ones may wait for a number that never came
    return size_bytes(session) / warm


def cost_of_numbers_far_ahead() -> int:
    """Bytes that thousands of them add, each refused."""
    session = Session(make_settings(first_sequence_number=0), LIMITS)
    empty = size_bytes(session)
    for step in range(5_000):
        session.refuse(
            ErrorCode.INVALID_FRAGMENT, "no", 0.0, fragment_id=f"far{step}", sequence_number=2**53 - 1 - step * 7
        )
    return size_bytes(session) - empty


@pytest.mark.parametrize("kind", ["good", "failing", "gaps", "refused", "resent"])
def test_what_a_session_holds_stops_growing(kind):
    assert growth(kind) < GROWN


def test_the_measure_sees_what_grows():
    """Without the limit on kept results the same stream would be caught."""
    session = Session(make_settings(), StreamLimits.model_construct(kept_results=1_000_000, kept_bytes=1_000_000_000))
    live(session, 0, 500, "good")
    early = size_bytes(session)
    live(session, 500, 2_000, "good")
    assert size_bytes(session) > early * 2


def test_numbers_from_far_ahead_cost_little():
    assert cost_of_numbers_far_ahead() < FAR_BYTES


@pytest.mark.parametrize("name", GROWING)
def test_the_measure_catches(name, monkeypatch):
    GROWING[name](monkeypatch)
    assert growth("refused") > GROWN or cost_of_numbers_far_ahead() > FAR_BYTES
