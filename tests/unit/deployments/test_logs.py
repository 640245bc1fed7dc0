"""What Serve logs of a fragment that failed as it may is left out; bugs keep their tracebacks."""

import logging

import pytest

from deployments.errors import DeadlineExceeded, InvalidAudio, ModelFailed, QueueFull, Stage
from deployments.logs import SERVE_LOGGER, configure_logs


def logged(error: Exception, caplog) -> int:
    configure_logs()
    configure_logs()
    logger = logging.getLogger(SERVE_LOGGER)
    logger.propagate = True
    caplog.clear()
    logger.error("Request failed.", exc_info=error)
    return len(caplog.records)


@pytest.mark.parametrize("kind", [QueueFull, DeadlineExceeded, InvalidAudio, ModelFailed])
def test_a_refusal_is_no_entry_of_serve(kind, caplog):
    assert logged(kind(Stage.ASR, "as it may"), caplog) == 0


def unexpected() -> ModelFailed:
    failed = ModelFailed(Stage.ASR, "KeyError: 3")
    failed.__cause__ = KeyError(3)
    return failed


@pytest.mark.parametrize("error", [KeyError(3), unexpected()])
def test_a_bug_keeps_its_entry(error, caplog):
    assert logged(error, caplog) == 1
