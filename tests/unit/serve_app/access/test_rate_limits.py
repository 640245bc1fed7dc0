"""Buckets and the table of accounts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.access import Rates
from serve_app.access.rate_limits import Account, Bucket, RateLimiter

RATES = Rates(bytes_per_s=10)


def visit(accounts: RateLimiter, caller: str, size_bytes: int, now: float, rates: Rates = RATES) -> float:
    """Come, wait as long as one must, send, go; how long one would have had to wait."""
    accounts.enter(caller)
    account = accounts.account(caller)
    wait_s = account.wait_s(size_bytes, rates, now)
    account.pay(size_bytes, rates, now)
    accounts.leave(caller, rates, now)
    return wait_s


def test_a_bucket_takes_its_capacity_at_once_and_then_its_rate():
    bucket = Bucket()
    for _ in range(3):
        assert bucket.wait_s(1, 0.5, 3, 100.0) == 0
        bucket.pour(1, 0.5, 100.0)
    assert bucket.wait_s(1, 0.5, 3, 100.0) == pytest.approx(2.0)
    assert bucket.wait_s(1, 0.5, 3, 101.0) == pytest.approx(1.0)
    assert bucket.wait_s(1, 0.5, 3, 102.0) == 0


def test_what_is_larger_than_the_bucket_fits_once_it_is_empty_and_is_paid_off():
    bucket = Bucket()
    assert bucket.wait_s(50, 1, 10, 0.0) == 0
    bucket.pour(50, 1, 0.0)
    assert bucket.wait_s(1, 1, 10, 0.0) == pytest.approx(41.0)


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 20)), max_size=40), st.floats(0.5, 10), st.floats(1, 20))
def test_over_any_time_no_more_than_a_bucket_and_the_rate_comes_through(steps, rate, capacity):
    bucket, now, taken, largest = Bucket(), 0.0, 0.0, 0.0
    for passed, cost in steps:
        now += passed
        wait = bucket.wait_s(cost, rate, capacity, now)
        if not wait:
            bucket.pour(cost, rate, now)
            taken, largest = taken + cost, max(largest, cost)
        else:
            assert bucket.wait_s(cost, rate, capacity, now + wait) == 0
    assert taken <= capacity + rate * now + largest + 1e-3


def test_an_account_waits_for_the_slower_of_its_buckets():
    account = Account()
    rates = Rates(bytes_per_s=10, fragments_per_minute=1)
    assert account.wait_s(100, rates, 0.0) == 0
    account.pay(100, rates, 0.0)
    assert account.wait_s(10, rates, 0.0) == pytest.approx(60.0)
    assert account.wait_s(10, Rates(bytes_per_s=10), 0.0) == pytest.approx(1.0)
    assert account.wait_s(10, Rates(), 0.0) == 0
    account.pay(10, Rates(), 0.0)
    assert account.wait_s(10, Rates(bytes_per_s=10), 1.0) == 0


def test_what_was_used_is_remembered_over_a_reconnect():
    accounts = RateLimiter()
    visit(accounts, "a", 100, 0.0)
    accounts.enter("a")
    accounts.enter("a")
    assert accounts.account("a").wait_s(10, RATES, 0.0) == pytest.approx(1.0)
    assert accounts.connections("a") == 2
    assert accounts.connections("b") == 0
    accounts.leave("a", RATES, 1.0)
    assert accounts.connections("a") == 1


def test_a_debt_is_kept_until_it_is_paid_however_long_that_takes():
    """One fragment far larger than the bucket can't be followed by a second one over a new connection."""
    accounts = RateLimiter()
    assert visit(accounts, "greedy", 100_000, 0.0) == 0
    for now in (61.0, 600.0, 9_000.0):
        visit(accounts, "other", 1, now)
        assert len(accounts) == 2
    assert visit(accounts, "greedy", 1, 9_000.0) == pytest.approx(100_000 / 10 - 9_000 - 10 + 0.1)
    visit(accounts, "other", 1, 10_001.0)
    assert len(accounts) == 1


def test_who_owes_nothing_is_forgotten_at_once():
    """An empty bucket is the same as a new one."""
    accounts = RateLimiter()
    for caller in "abc":
        accounts.enter(caller)
        accounts.leave(caller, RATES, 0.0)
    assert len(accounts) == 0


@pytest.mark.parametrize("rates", [Rates(bytes_per_s=10, fragments_per_minute=60), Rates(fragments_per_minute=60)])
def test_fragments_are_a_debt_like_bytes(rates):
    """Either bucket keeps an account."""
    accounts = RateLimiter()
    for _ in range(60):
        visit(accounts, "a", 0, 0.0, rates)
    assert len(accounts) == 1
    assert visit(accounts, "a", 0, 59.0, rates) == 0
    visit(accounts, "b", 0, 61.0, rates)
    assert len(accounts) == 1


def test_a_limit_that_was_lowered_makes_debts_last_longer():
    """What is owed is judged by the limit in force, also for who has gone already."""
    accounts = RateLimiter()
    visit(accounts, "a", 1000, 0.0)
    slower = Rates(bytes_per_s=1)
    visit(accounts, "b", 1, 101.0, slower)
    assert visit(accounts, "a", 1, 101.0, slower) == pytest.approx(1000 - 101 - 9)


def test_new_callers_push_out_no_greater_debt_than_their_own():
    """Who wants a debt forgotten by the table's bound would have to pile up greater ones."""
    accounts = RateLimiter(max_quiet=5)
    visit(accounts, "greedy", 100_000, 0.0)
    for number in range(100):
        visit(accounts, str(number), 500, number / 100)
    assert len(accounts) == 5
    assert visit(accounts, "greedy", 1, 1.0) > 9_000


def test_the_table_stays_bounded_and_callers_with_a_connection_stay_in_it():
    accounts = RateLimiter(max_quiet=5)
    accounts.enter("here")
    for number in range(100):
        visit(accounts, str(number), 500, 0.0)
    assert len(accounts) == 6
    assert accounts.connections("here") == 1
    accounts.leave("here", RATES, 100.0)
    assert len(accounts) == 0


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 400), st.floats(0, 30)), max_size=60))
def test_a_caller_that_comes_and_goes_is_judged_like_one_that_stays(visits):
    """As long as the table has room, connections make no difference."""
    accounts, staying, now = RateLimiter(), {caller: Account() for caller in "abcdef"}, 0.0
    for caller, size_bytes, passed_s in visits:
        now += passed_s
        assert visit(accounts, caller, size_bytes, now) == pytest.approx(staying[caller].wait_s(size_bytes, RATES, now))
        staying[caller].pay(size_bytes, RATES, now)
