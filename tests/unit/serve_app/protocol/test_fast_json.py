"""What goes over the wire is JSON that any client reads, whoever writes it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.protocol import fast_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_what_is_written_is_read_as_it_was(value):
    assert json.loads(fast_json.dumps(value, separators=(",", ":"))) == value


@pytest.mark.parametrize("value", [2**70, "\ud800", {1: 2}, ["\u2028", 2**64]])
def test_what_the_fast_writer_refuses_is_written_too(value):
    assert json.loads(fast_json.dumps(value)) == json.loads(json.dumps(value))


def test_no_number_leaves_that_is_no_json():
    assert fast_json.dumps([float("nan"), float("inf")]) == "[null,null]"


def test_large_integers_are_read_as_what_they_are():
    assert fast_json.loads("[1208925819614629174706176]") == [2**80]


def test_an_integer_of_hundreds_of_digits_is_refused():
    with pytest.raises(ValueError, match="101 digits"):
        fast_json.loads(f"[{10**100}]")
