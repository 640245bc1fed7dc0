"""Tokens: what lets a caller in, and what does not."""

import base64
import json

import jwt
import pytest
from pydantic import ValidationError

from serve_app.access import ANYONE, Authenticator, AuthOptions
from serve_app.protocol import ErrorCode, WireError

NOW = 1_800_000_000.0
SECRET = "s" * 32
KEY = "k" * 16
BOTH = AuthOptions(api_keys=(KEY, "another-key-of-ours"), jwt_secret=SECRET, jwt_audience="dubs")


def token(secret=SECRET, algorithm="HS256", leave_out="", **claims) -> str:
    whole = {"exp": NOW + 60, "aud": "dubs", "sub": "studio", "streams": ["radio-*", "news"]} | claims
    return jwt.encode({k: v for k, v in whole.items() if k != leave_out}, secret, algorithm)


def bare(header: dict, claims: dict) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims)]
    return ".".join([*parts, ""])


def refusal(sent: object, options: AuthOptions = BOTH, now: float = NOW) -> str:
    with pytest.raises(WireError) as refused:
        Authenticator(options).subject(sent, now)
    assert refused.value.code is ErrorCode.AUTH_FAILED
    assert SECRET not in refused.value.message
    return refused.value.message


@pytest.mark.parametrize("sent", [None, {}, {"token": "anything"}, "x", 3])
def test_anybody_is_let_in_while_it_is_off(sent):
    assert Authenticator(AuthOptions()).subject(sent, NOW) is ANYONE
    assert ANYONE.may_open("whatever")


@pytest.mark.parametrize("key", [KEY, "another-key-of-ours"])
def test_each_key_lets_in_and_opens_every_stream(key):
    subject = Authenticator(BOTH).subject({"token": key}, NOW)
    assert subject.may_open("whatever")
    assert subject.expires_unix_s is None
    assert key not in repr(subject)


def test_two_keys_are_two_subjects_and_no_key_is_a_sub():
    access = Authenticator(BOTH)
    sent = [KEY, "another-key-of-ours", token(sub=KEY)]
    assert len({access.subject({"token": each}, NOW).digest for each in sent}) == 3


@pytest.mark.parametrize("sent", [None, {}, [], "key", {"token": None}, {"token": ""}, {"token": 3}, {"key": KEY}])
def test_without_a_token_nobody_is_let_in(sent):
    assert "wants a token" in refusal(sent)


def test_a_good_token_opens_the_streams_that_it_names():
    subject = Authenticator(BOTH).subject({"token": token()}, NOW)
    assert [subject.may_open(name) for name in ("radio-1", "news", "radio", "News", "news-2")] == [
        True, True, False, False, False,
    ]  # fmt: skip
    assert subject.expires_unix_s == NOW + 60


def test_a_bracket_in_a_token_s_pattern_is_a_bracket():
    """Only * and ? are patterns: cam[1] opens cam[1] and not cam1."""
    subject = Authenticator(BOTH).subject({"token": token(streams=["cam[1]", "b[0-9]*"])}, NOW)
    assert [subject.may_open(name) for name in ("cam[1]", "cam1", "b[0-9]x", "b7")] == [True, False, True, False]


def test_a_renewed_token_is_the_same_subject():
    access = Authenticator(BOTH)
    first = access.subject({"token": token()}, NOW)
    assert access.subject({"token": token(exp=NOW + 900, streams=[])}, NOW).digest == first.digest


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (token(secret="x" * 32), "not valid"),
        (token(algorithm="HS512", secret="s" * 64), "not valid"),
        (bare({"alg": "none"}, {"exp": NOW + 60, "aud": "dubs", "sub": "a", "streams": ["*"]}), "not valid"),
        (token()[:-2], "not valid"),
        ("a.b", "not valid"),
        ("ключ", "not valid"),
        ("k" * 8193, "not valid"),
        (token(exp=NOW), "expired"),
        (token(exp=NOW - 3600), "expired"),
        (token(nbf=NOW + 1), "not valid yet"),
        (token(nbf=True), "not numbers"),
        (token(exp="soon"), "not numbers"),
        (token(aud="others"), "another audience"),
        (token(leave_out="exp"), "'exp'"),
        (token(leave_out="aud"), "'aud'"),
        (token(leave_out="sub"), "'sub'"),
        (token(leave_out="streams"), "'streams'"),
        (token(streams="*"), "not a list"),
        (token(streams=[1]), "not a list"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_token_is_told(sent, told):
    assert told in refusal({"token": sent})


def test_a_token_means_nothing_where_only_keys_are_configured():
    assert "not valid" in refusal({"token": token()}, AuthOptions(api_keys=(KEY,)))


@pytest.mark.parametrize(
    "options",
    [
        {"api_keys": []},
        {"api_keys": [""]},
        {"api_keys": ["short"]},
        {"api_keys": [" " * 20]},
        {"jwt_secret": SECRET},
        {"jwt_audience": "dubs"},
        {"jwt_secret": "short", "jwt_audience": "dubs"},
        {"jwt_secret": SECRET, "jwt_audience": ""},
        {"jwt_secret": SECRET, "jwt_audience": "dubs", "jwt_algorithm": "none"},
        {"jwt_secret": SECRET, "jwt_audience": "dubs", "jwt_algorithm": "RS256"},
    ],
)
def test_half_a_configuration_is_none(options):
    with pytest.raises(ValidationError):
        AuthOptions.model_validate(options)
