import dataclasses

from deployments.contracts.values import Outcome
from deployments.errors import ModelFailed
from serve_app.stream.result_builder import present
from serve_app.stream.result_cache import MAX_UNDONE, Done, ResultCache, Undone
from tests.unit.serve_app.stream.recorder import failed, make_fragment, make_outcome, make_settings


def keep(history: ResultCache, name: str, size: int = 10, results: int = 64, max_bytes: int = 10_000) -> None:
    store(history, name, make_outcome(audio=b"x" * size), results, max_bytes)


def store(history: ResultCache, name: str, outcome: Outcome, results: int = 64, max_bytes: int = 10_000) -> None:
    fragment = make_fragment(0, name)
    result = present(make_settings(), fragment, outcome, ticket=1, start_ms=0, processing_ms=1)
    history.keep(fragment.digest, result, results, max_bytes)


def test_the_last_64_results_are_kept() -> None:
    history = ResultCache()
    for number in range(65):
        keep(history, f"f{number}")
    assert len(history) == 64
    assert history.find("f0") is None
    assert isinstance(history.find("f1"), Done)


def test_the_oldest_go_when_they_hold_too_many_bytes() -> None:
    history = ResultCache()
    for name in ("a", "b", "c"):
        keep(history, name, size=40, max_bytes=100)
    assert history.find("a") is None
    assert history.kept_bytes == 80


def test_a_result_larger_than_the_limit_is_not_kept() -> None:
    history = ResultCache()
    keep(history, "a", size=101, max_bytes=100)
    assert history.find("a") is None
    assert history.kept_bytes == 0


def test_a_result_kept_twice_counts_once() -> None:
    history = ResultCache()
    keep(history, "a", size=10)
    keep(history, "a", size=30)
    assert history.kept_bytes == 30
    assert len(history) == 1


def test_a_result_without_audio_weighs_nothing() -> None:
    history = ResultCache()
    store(history, "a", dataclasses.replace(failed(ModelFailed), failure=None))
    assert history.kept_bytes == 0
    assert isinstance(history.find("a"), Done)


def test_success_takes_the_place_of_failure() -> None:
    history = ResultCache()
    history.note_undone("a", Undone(0, b"digest", 0))
    keep(history, "a")
    assert isinstance(history.find("a"), Done)
    assert len(history) == 1


def test_the_last_256_failures_are_remembered() -> None:
    history = ResultCache()
    for number in range(MAX_UNDONE + 1):
        history.note_undone(f"f{number}", Undone(number, None, None))
    assert len(history) == MAX_UNDONE == 256
    assert history.find("f0") is None


def test_rejected_fragments_get_their_place_once_they_are_passed() -> None:
    history = ResultCache()
    placed, settled, beyond = Undone(4, None, None), Undone(4, b"digest", 77), Undone(9, None, None)
    for name, undone in {"placed": placed, "settled": settled, "beyond": beyond}.items():
        history.note_undone(name, undone)
    history.place(3, 5, 1000, 600)
    assert history.find("placed") == Undone(4, None, 1600)
    assert history.find("settled") == settled
    assert history.find("beyond") == beyond


def test_a_result_larger_than_all_that_may_be_kept_costs_the_others_nothing() -> None:
    history = ResultCache()
    keep(history, "small", size=2, max_bytes=10)
    keep(history, "large", size=11, max_bytes=10)
    assert history.find("small") is not None
    assert history.find("large") is None
    assert history.kept_bytes == 2


def test_trimming_lets_the_oldest_go() -> None:
    history = ResultCache()
    for name in ("a", "b", "c"):
        keep(history, name, size=40)
    history.trim(80)
    assert history.find("a") is None
    assert history.kept_bytes == 80
    history.trim(0)
    assert history.kept_bytes == 0
