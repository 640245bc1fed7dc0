"""Why a replica did not start is one sentence, through all that Ray wraps around it."""

import traceback

import pytest

from deployments.tts.espeak import EspeakOptions
from serve_app.operations.failures import NotStarted, name_of, sentence, told_plainly


def failed(error: Exception) -> tuple[NotStarted, str]:
    """What is raised, and what Serve makes of it."""
    with pytest.raises(NotStarted) as told, told_plainly("Asr", "faster_whisper base"):
        raise error
    inner = "".join(traceback.format_exception(told.value))
    wrapped = "".join(traceback.format_exception(RuntimeError(inner)))
    return told.value, f"Failed to update the deployments ['Asr'].\n\x1b[36mray::ServeReplica()\x1b[39m\n{wrapped}"


def test_the_sentence_of_a_replica_is_found_again_in_what_serve_says():
    _, message = failed(ValueError("Invalid model size 'basee',\n expected one of: tiny, base"))
    assert sentence(message) == (
        "could not start Asr with faster_whisper base: ValueError: Invalid model size 'basee', expected one of: tiny, "
        "base"
    )


class LocalEntryNotFoundError(Exception):
    """As the hub's client names it."""


def test_a_model_that_cannot_be_fetched_is_told_with_what_to_do():
    _, message = failed(LocalEntryNotFoundError("Cannot find an appropriate cached snapshot folder"))
    told = sentence(message)
    assert told.startswith("could not start Asr with faster_whisper base; it is neither on this machine")
    assert "livedub fetch" in told


def test_the_traceback_stays_with_the_error_for_the_log():
    error, message = failed(KeyError("x"))
    assert isinstance(error.__cause__, KeyError)
    assert "KeyError" in message


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("no GPU here", "no GPU here"),
        ("two\n lines ", "two lines"),
        (
            "Failed 3 times.\nTraceback (most recent call last):\n  File x\nray.Other: y\nservice.Refused: no key\n",
            "service.Refused: no key",
        ),
        ("Traceback (most recent call last):\n  File x\nKeyboardInterrupt\n", "KeyboardInterrupt"),
    ],
)
def test_of_any_other_failure_the_last_error_is_told(message, told):
    assert sentence(message) == told


def test_a_model_is_named_as_the_configuration_does():
    assert name_of(EspeakOptions(engine="espeak")).startswith("espeak")
