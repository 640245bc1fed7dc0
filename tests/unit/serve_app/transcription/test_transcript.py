from hypothesis import given
from hypothesis import strategies as st

from serve_app.transcription.transcript import BoundedText


def test_texts_follow_each_other_with_a_space_between_and_empty_ones_leave_none():
    text = BoundedText(100)
    for one in ("It was", "", "the best"):
        text.add(one)
    assert str(text) == "It was the best"
    assert text.dropped_characters == 0


def test_the_oldest_go_whole_once_there_are_too_many_characters():
    text = BoundedText(10)
    for one in ("one", "two", "three"):
        text.add(one)
    assert str(text) == "two three"
    assert text.dropped_characters == 4


def test_of_one_that_is_too_long_by_itself_the_end_stays():
    text = BoundedText(5)
    text.add("abc")
    text.add("0123456789")
    assert str(text) == "56789"
    assert text.dropped_characters == 5 + 4


@given(st.lists(st.text("ab ", max_size=12), max_size=30), st.integers(1, 20))
def test_what_is_kept_is_the_end_of_the_whole_and_the_rest_is_counted(texts, most):
    kept, all_of_it = BoundedText(most), " ".join(filter(None, texts))
    for one in texts:
        kept.add(one)
    assert len(str(kept)) <= most
    assert all_of_it.endswith(str(kept))
    assert len(str(kept)) + kept.dropped_characters == len(all_of_it)
