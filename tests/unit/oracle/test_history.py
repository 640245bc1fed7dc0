"""The judge of histories: what it lets pass and what it names."""

import base64

import pytest

from serve_app.protocol import ERROR_TABLE
from tests.oracle.history import Record, Rules, judge, load, record, save
from tests.oracle.verdict import RETRYABLE


class Story:
    """Tells a history, one record a line."""

    def __init__(self):
        self.history = []
        self.now = 0.0
        self.say("sent", "stream:init", stream_id="s", timeout_ms=2000)
        self.say("received", "stream:ready", stream_id="s", max_inflight=3)

    def say(self, direction, event, connection="c", **fields):
        self.history.append(Record(self.now, connection, direction, event, fields))

    def send(self, number, name=None, digest="d"):
        name = name or f"f{number}"
        self.say("sent", "fragment:data", fragment_id=name, sequence_number=number, digest=digest)

    def take(self, number, position, name=None, digest="d"):
        self.send(number, name, digest)
        self.say("received", "fragment:ack", fragment_id=name or f"f{number}", queue_position=position)

    def low(self, count=1):
        self.say("received", "backpressure", severity="low", current_inflight=count)

    def result(self, number, name=None, **changes):
        fields = {"fragment_id": name or f"f{number}", "sequence_number": number, "status": "success"}
        self.say("received", "fragment:processed", **{**fields, "audio_bytes": 3, **changes})

    def fail(self, number, code, retryable):
        self.result(number, status="failed", error={"code": code, "retryable": retryable})

    def error(self, code, **fields):
        fields = {"retryable": code in RETRYABLE, "severity": "error", **fields}
        self.say("received", "error", code=code, **fields)

    def give_up(self, first, last):
        details = {"first_missing": first, "last_missing": last}
        self.error("INVALID_SEQUENCE", severity="warning", sequence_number=first, details=details)

    def leave(self):
        self.say("sent", "disconnect")

    def checks(self, **rules):
        return [violation.check for violation in judge(self.history, Rules(**rules))]


@pytest.fixture
def story():
    told = Story()
    told.take(0, 0)
    told.low()
    return told


def test_one_result_in_time_is_what_was_promised(story):
    story.now = 2.0
    story.result(0)
    story.leave()
    assert story.checks() == []


def test_two_results(story):
    story.result(0)
    story.result(0)
    assert story.checks() == ["result"]


def test_no_result(story):
    assert story.checks() == ["result"]


def test_a_disconnect_accounts_for_what_was_in_flight(story):
    story.leave()
    assert story.checks() == []


def test_a_disconnect_does_not_excuse_what_was_late_before(story):
    story.now = 2.5
    story.leave()
    assert story.checks() == ["deadline"]


def test_a_fragment_sent_again_on_a_new_connection_is_a_new_one(story):
    story.leave()
    story.say("received", "stream:ready", "d", max_inflight=3)
    story.say("sent", "fragment:data", "d", fragment_id="f0", sequence_number=0)
    story.say("received", "fragment:ack", "d", fragment_id="f0", queue_position=0)
    story.say("received", "backpressure", "d", severity="low", current_inflight=1)
    fields = {"fragment_id": "f0", "sequence_number": 0, "status": "success", "audio_bytes": 1}
    story.say("received", "fragment:processed", "d", **fields)
    assert story.checks() == []


def test_a_late_result_is_one_unless_the_network_may_have_been_that_slow(story):
    story.now = 2.2
    story.result(0)
    assert story.checks() == ["deadline"]
    assert story.checks(tolerance_s=0.5) == []


def test_order(story):
    story.take(1, 1)
    story.result(1)
    story.result(0)
    assert "order" in story.checks()


def test_a_missing_number_must_be_given_up_first(story):
    story.result(0)
    story.take(2, 0)
    story.now = 1.8
    told = len(story.history)
    story.result(2)
    assert story.checks() == ["order"]
    story.history.insert(told, Record(1.8, "c", "received", "error", {}))
    del story.history[told:]
    story.give_up(1, 1)
    story.result(2)
    assert story.checks() == []


def test_a_number_given_up_long_before_it_had_to_be(story):
    story.result(0)
    story.take(2, 0)
    story.give_up(1, 1)
    story.result(2)
    assert story.checks() == ["order"]


def test_a_refused_number_holds_nothing_up_and_is_not_waited_for(story):
    story.send(1)
    story.error("RATE_LIMITED", fragment_id="f1", sequence_number=1)
    story.take(2, 1)
    story.result(0)
    story.result(2)
    assert story.checks() == []


def test_queue_position_and_the_limit(story):
    story.take(1, 0)
    story.leave()
    assert story.checks() == ["in_flight"]
    assert story.checks(critical_inflight=1) == ["in_flight", "in_flight"]


def test_refused_for_too_much_in_flight_with_room_left(story):
    story.send(1)
    story.error("BACKPRESSURE_EXCEEDED", fragment_id="f1", sequence_number=1)
    story.leave()
    assert story.checks() == ["in_flight"]


def test_backpressure_that_is_not_told():
    story = Story()
    story.take(0, 0)
    story.result(0)
    assert story.checks() == ["backpressure"]


def test_a_resend_in_flight_is_one_fragment(story):
    story.take(0, 0)
    story.take(0, 0)
    story.result(0)
    assert story.checks() == []


def test_a_resend_after_success_gets_the_kept_result_at_once(story):
    story.result(0)
    story.take(5, 0, "f0")
    story.result(5, "f0")
    assert story.checks() == []
    del story.history[-1]
    story.send(6)
    story.error("RATE_LIMITED", fragment_id="f6", sequence_number=6)
    assert story.checks() == ["retry"]


def test_an_id_with_other_audio_must_be_refused(story):
    story.take(0, 0, digest="other")
    story.result(0)
    assert story.checks() == ["retry"]


def test_retryable_and_missing_audio(story):
    story.fail(0, "MODEL_ERROR", retryable=False)
    assert story.checks() == ["retryable"]
    del story.history[-1]
    story.result(0, audio_bytes=0)
    assert story.checks() == ["audio"]


def test_an_unanswered_fragment(story):
    story.result(0)
    story.send(1)
    assert story.checks() == ["answer"]


def test_a_full_device_gives_every_fragment_its_result_first(story):
    story.error("GPU_OOM", severity="fatal")
    assert story.checks() == ["result"]


def test_takeover_accounts_for_what_was_in_flight(story):
    story.error("SESSION_REPLACED", severity="fatal")
    assert story.checks() == []


def test_completion_counts_what_was_seen(story):
    story.result(0)
    story.say("sent", "stream:end")
    assert story.checks() == ["end"]
    story.say("received", "stream:complete", success_count=0, partial_count=0, failed_count=1)
    assert story.checks() == ["end"]


def test_work_that_goes_on_for_nobody(story):
    story.say("work", "started", ticket=1, fragment_id="f0")
    story.leave()
    assert story.checks() == ["work"]


def test_a_history_is_the_same_after_a_file(story, tmp_path):
    save(story.history, tmp_path / "history.jsonl")
    assert load(tmp_path / "history.jsonl") == story.history


def test_audio_is_recorded_as_its_size():
    encoded = base64.b64encode(b"abcd").decode()
    entry = record(1.0, "c", "sent", "fragment:data", {"fragment_id": "a", "audio": {"data_base64": encoded}})
    assert entry.fields["audio_bytes"] == 4
    assert "audio" not in entry.fields


def test_the_judge_and_the_protocol_agree_on_what_can_be_tried_again():
    assert {code.value for code, rule in ERROR_TABLE.items() if rule.retryable} == RETRYABLE


def test_a_stream_with_work_in_flight_may_be_refused_at_the_door(story):
    story.send(1)
    story.error("QUEUE_FULL", fragment_id="f1", sequence_number=1)
    story.result(0)
    story.leave()
    assert story.checks() == []


def test_so_may_one_of_a_stream_that_has_none(story):
    """Where others have all that the models can do in time, it would come late."""
    story.result(0)
    story.send(1)
    story.error("QUEUE_FULL", fragment_id="f1", sequence_number=1)
    story.leave()
    assert story.checks() == []


def test_what_was_accepted_is_not_refused_when_it_is_sent_again(story):
    story.send(0)
    story.error("QUEUE_FULL", fragment_id="f0", sequence_number=0)
    story.result(0)
    story.leave()
    assert story.checks() == ["retry"]


def test_refused_numbers_that_have_passed_are_forgotten(story):
    sizes = {"in_flight": 1, "kept_bytes": 0, "remembered": 1}
    story.send(1)
    story.error("MALFORMED_DATA", fragment_id="f1", sequence_number=1)
    story.say("state", "sizes", **sizes, skipped=1)
    story.take(2, 1)
    story.result(0)
    story.result(2)
    story.say("state", "sizes", **{**sizes, "in_flight": 0}, skipped=1)
    story.leave()
    assert story.checks() == ["bounds"]


def test_a_level_above_the_count_is_one_that_the_server_foresees(story):
    story.say("received", "backpressure", severity="high", current_inflight=1)
    story.result(0)
    story.say("received", "backpressure", severity="low", current_inflight=0)
    story.leave()
    assert story.checks() == []


def test_who_has_nothing_in_flight_is_told_to_go_on(story):
    story.say("received", "backpressure", severity="high", current_inflight=1)
    story.result(0)
    story.take(1, 0)
    story.leave()
    assert story.checks() == ["backpressure"]
