"""A wrong user_config ends a start; once the replica runs, it is refused and what is in force stays."""

import pytest
from structlog.testing import capture_logs

from deployments.replica.user_config import UserConfig


def read(given):
    if given["limit"] < 1:
        raise ValueError(f"limit: greater than 0; got {given['limit']}")
    return given["limit"]


@pytest.fixture
def user_config():
    return UserConfig(read, "limit_refused")


@pytest.mark.parametrize("first", [[], [{"limit": 3}]])
def test_a_wrong_value_ends_the_start(user_config, first):
    for given in first:
        user_config.take(given)
    with capture_logs() as logged, pytest.raises(ValueError, match="greater than 0"):
        user_config.take({"limit": 0})
    assert logged == []


@pytest.mark.parametrize("first", [[], [{"limit": 3}]])
def test_a_wrong_value_that_comes_live_is_logged_and_changes_nothing(user_config, first):
    for given in first:
        user_config.take(given)
    user_config.healthy()
    with capture_logs() as logged:
        assert user_config.take({"limit": 0}) is None
    assert logged == [{"event": "limit_refused", "log_level": "error", "error": "limit: greater than 0; got 0"}]
    assert user_config.take({"limit": 2}) == 2
