"""Buckets and the table of accounts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.doors import Rates
from serve_app.doors.accounts import FORGET_S, Account, Accounts, Bucket


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
    accounts = Accounts()
    accounts.enter("a")
    before = accounts.account("a")
    accounts.leave("a", 0.0)
    accounts.enter("a")
    accounts.enter("a")
    assert accounts.account("a") is before
    assert accounts.connections("a") == 2
    assert accounts.connections("b") == 0
    accounts.leave("a", 1.0)
    assert accounts.connections("a") == 1


def test_the_table_stays_bounded_and_callers_with_a_connection_stay_in_it():
    accounts = Accounts(max_quiet=5)
    accounts.enter("here")
    for number in range(100):
        accounts.enter(str(number))
        accounts.leave(str(number), 0.0)
    assert len(accounts) == 6
    assert accounts.connections("here") == 1
    accounts.leave("here", FORGET_S)
    assert len(accounts) == 1
