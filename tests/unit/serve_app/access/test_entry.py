"""Who is let in, what a principal may open and send, and which address counts."""

import ipaddress

import pytest
from pydantic import ValidationError

from serve_app.access import (
    Access,
    AccessDenied,
    AccessOptions,
    AuthOptions,
    Caller,
    LimitsConfig,
    Principal,
    Rates,
    Subject,
)
from serve_app.access.address import caller_address
from serve_app.protocol import ErrorCode, WireError

NOW = 1_800_000_000.0
KEYS = ("a" * 16, "b" * 16)
PROXIES = [ipaddress.ip_network("10.0.0.0/8")]


def limited(**limits) -> Access:
    made = Access(AuthOptions(api_keys=KEYS))
    made.limits = LimitsConfig(**limits)
    return made


def enter(access: Access, key: int = 0, peer: str = "192.0.2.1") -> Principal:
    return access.enter(Caller(peer), {"token": KEYS[key]}, NOW)


def test_without_options_everybody_comes_in_and_sends_what_they_like():
    access = Access()
    principals = [access.enter(Caller("", "https://anywhere.example"), None, NOW) for _ in range(50)]
    for principal in principals:
        access.check_stream(principal, "radio", principals, NOW)
        access.check_rate(principal, 10**9, NOW)


@pytest.mark.parametrize("origin", [None, "https://studio.example", "HTTPS://Studio.Example"])
def test_pages_on_the_list_and_callers_that_are_no_pages_come_in(origin):
    access = Access(access=AccessOptions(origins=("https://studio.example",)))
    assert access.enter(Caller("192.0.2.1", origin), None, NOW).address == "192.0.2.1"


@pytest.mark.parametrize("origin", ["", "null", "http://studio.example", "https://studio.example.evil.example"])
def test_other_pages_stay_out(origin):
    access = Access(access=AccessOptions(origins=("https://studio.example",)))
    with pytest.raises(AccessDenied) as refused:
        access.enter(Caller("192.0.2.1", origin), None, NOW)
    assert (refused.value.reason, refused.value.error.code) == ("origin", ErrorCode.AUTH_FAILED)


def test_networks_of_proxies_are_believed_and_no_others():
    access = Access(access=AccessOptions(trusted_proxies=("10.0.0.0/8",)))
    assert access.enter(Caller("10.0.0.1", None, "198.51.100.7"), None, NOW).address == "198.51.100.7"
    assert access.enter(Caller("192.0.2.1", None, "198.51.100.7"), None, NOW).address == "192.0.2.1"


@pytest.mark.parametrize("options", [{"origins": ["*"]}, {"origins": ["a.example/"]}, {"trusted_proxies": ["all"]}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ValidationError):
        AccessOptions.model_validate(options)


def test_a_wrong_token_is_refused_with_a_reason_that_can_be_shown():
    with pytest.raises(AccessDenied) as refused:
        limited().enter(Caller("192.0.2.1"), None, NOW)
    assert refused.value.reason == "token"
    told = refused.value.wire()
    assert (told["code"], told["retryable"]) == ("AUTH_FAILED", False)
    assert "wants a token" in told["message"]


@pytest.mark.parametrize(
    ("limits", "other"),
    [({"per_key": Rates(connections=2)}, (1, "192.0.2.1")), ({"per_address": Rates(connections=2)}, (0, "192.0.2.2"))],
)
def test_connections_are_limited_by_key_and_by_address(limits, other):
    access = limited(**limits)
    first = enter(access)
    enter(access)
    with pytest.raises(AccessDenied) as refused:
        enter(access)
    assert (refused.value.reason, refused.value.wire()["code"]) == ("limit", "RATE_LIMITED")
    assert refused.value.wire()["retryable"] is True
    assert refused.value.wire()["details"]["limit"] == 2
    enter(access, *other)
    access.leave(first, NOW)
    enter(access)


def test_a_refused_connection_counts_for_nothing():
    access = limited(per_key=Rates(connections=1), per_address=Rates(connections=2))
    enter(access, 0)
    for _ in range(5):
        with pytest.raises(AccessDenied):
            enter(access, 0)
    enter(access, 1)


@pytest.mark.parametrize("whose", ["per_key", "per_address"])
def test_streams_are_limited(whose):
    access = limited(**{whose: Rates(streams=2)})
    here, elsewhere = enter(access), enter(access, 1, "192.0.2.2")
    access.check_stream(here, "c", [here, elsewhere, elsewhere], NOW)
    with pytest.raises(WireError, match="2 streams") as refused:
        access.check_stream(here, "c", [here, here], NOW)
    assert refused.value.code is ErrorCode.RATE_LIMITED


def test_a_stream_that_the_token_does_not_name_and_one_after_its_end_are_refused():
    access = Access()
    principal = Principal(Subject("digest", ("radio-*",), NOW + 1), "192.0.2.1")
    access.check_stream(principal, "radio-1", [], NOW)
    for stream_id, now, told in (("jazz", NOW, "does not allow"), ("radio-1", NOW + 1, "expired")):
        with pytest.raises(WireError, match=told) as refused:
            access.check_stream(principal, stream_id, [], now)
        assert refused.value.code is ErrorCode.AUTH_FAILED


@pytest.mark.parametrize("rates", [Rates(fragments_per_minute=2), Rates(bytes_per_s=20)])
def test_too_much_is_refused_until_it_is_told_to_come_again(rates):
    access = limited(per_key=rates)
    one, same, other = enter(access), enter(access, peer="192.0.2.2"), enter(access, 1)
    access.check_rate(one, 100, NOW)
    access.check_rate(same, 100, NOW)
    with pytest.raises(WireError) as refused:
        access.check_rate(one, 100, NOW)
    assert refused.value.code is ErrorCode.RATE_LIMITED
    wait_ms = refused.value.details["retry_after_ms"]
    assert wait_ms > 0
    access.check_rate(other, 100, NOW)
    access.check_rate(one, 100, NOW + wait_ms / 1000)


def test_what_the_address_refuses_is_not_charged_to_the_key():
    access = limited(per_key=Rates(fragments_per_minute=2), per_address=Rates(fragments_per_minute=1))
    here = enter(access)
    access.check_rate(here, 1, NOW)
    with pytest.raises(WireError, match="address"):
        access.check_rate(here, 1, NOW)
    access.check_rate(enter(access, 0, "192.0.2.2"), 1, NOW)


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", None, "192.0.2.1"),
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.7, 10.0.0.2", "198.51.100.7"),
        ("10.0.0.1", "10.0.0.3", "10.0.0.3"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", None, "2001:db8:1:2::/64"),
        ("", "198.51.100.7", ""),
    ],
)
def test_the_address_is_that_of_the_first_whom_no_trusted_proxy_speaks_for(peer, forwarded, address):
    assert caller_address(peer, forwarded, PROXIES) == address
