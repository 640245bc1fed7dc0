"""Where clients of HTTP doors carry their keys."""

import pytest

from serve_app.access import credentials


@pytest.mark.parametrize("scheme", ["Token", "token", "Bearer", "bearer", "BEARER"])
def test_a_header_of_either_scheme_in_any_case(scheme):
    found = credentials({"authorization": f"{scheme} a-key"})
    assert (found.token, found.auth, found.subprotocol) == ("a-key", {"token": "a-key"}, None)


@pytest.mark.parametrize(
    "offered", [["token", "a-key"], ["bearer", "a-key", "x-deepgram-session-id", "5f1c"], ["Token", "a-key"]]
)
def test_a_pair_of_subprotocols_of_which_the_first_is_answered(offered):
    found = credentials({}, offered)
    assert (found.token, found.subprotocol) == ("a-key", offered[0])


def test_a_header_counts_before_subprotocols_of_which_one_is_answered_all_the_same():
    found = credentials({"authorization": "Token a-key"}, ["chat"])
    assert (found.token, found.subprotocol) == ("a-key", "chat")


@pytest.mark.parametrize("header", ["", "Token", "Token ", "Basic YTpi", "a-key"])
def test_nothing_that_can_be_used_is_no_token(header):
    found = credentials({"authorization": header}, ["token"])
    assert (found.token, found.auth) == (None, None)


def test_a_pair_behind_other_subprotocols_is_found_and_its_scheme_answered():
    found = credentials({}, ["chat", "bearer", "a-key"])
    assert (found.token, found.subprotocol) == ("a-key", "bearer")


def test_a_header_that_is_no_scheme_gives_way_to_subprotocols():
    found = credentials({"authorization": "Basic YTpi"}, ["token", "a-key"])
    assert (found.token, found.subprotocol) == ("a-key", "token")


def test_without_any_there_is_no_token_and_nothing_to_answer_with():
    found = credentials({})
    assert (found.token, found.auth, found.subprotocol) == (None, None, None)
