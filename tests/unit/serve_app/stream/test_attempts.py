from deployments.contracts.values import Outcome
from serve_app.scheduling.admission import Admission, StreamAdmission
from serve_app.stream.attempts import Attempt, Attempts
from tests.unit.serve_app.stream.recorder import make_fragment

SLACK_S, START_S = 0.25, 1.0


def take(attempts: Attempts, number: int, now: float, *, timeout_s: float = 8.0, ordered: bool = True) -> Attempt:
    passage = StreamAdmission(Admission()).enter(6.0, timeout_s, now)
    return attempts.take(make_fragment(number), now, timeout_s, passage, ordered=ordered, start_ms=None)


def settle(attempts: Attempts, attempt: Attempt) -> None:
    attempt.settled = True
    attempts.order.fill(attempt.fragment.sequence_number, Outcome())


def test_tickets_are_never_reused() -> None:
    attempts = Attempts(0)
    first = take(attempts, 0, 0.0)
    attempts.drop(first)
    assert take(attempts, 1, 0.0).ticket != first.ticket


def test_a_settled_attempt_is_in_flight_but_takes_no_completion() -> None:
    attempts = Attempts(0)
    attempt = take(attempts, 0, 0.0)
    assert attempts.get(attempt.ticket) is attempt
    settle(attempts, attempt)
    assert attempts.get(attempt.ticket) is None
    assert attempts.find("f0") is attempt
    assert len(attempts) == 1


def test_an_unknown_ticket_or_id_is_nobody() -> None:
    assert Attempts(0).get(7) is None
    assert Attempts(0).find("f7") is None


def test_a_retry_has_no_slot_and_its_number_is_not_waited_for() -> None:
    attempts = Attempts(0)
    take(attempts, 0, 0.0, ordered=False)
    later = take(attempts, 1, 0.0)
    settle(attempts, later)
    assert [number for number, _, _ in attempts.order.release()] == [1]


def test_a_running_attempt_is_late_at_its_deadline() -> None:
    attempts = Attempts(0)
    attempt = take(attempts, 0, 0.0)
    assert attempts.next_tick(SLACK_S, START_S) == 8.0
    assert attempts.late(7.999, SLACK_S) == []
    assert attempts.late(8.0, SLACK_S) == [attempt]


def test_a_number_accepted_late_gets_only_the_time_that_later_numbers_have() -> None:
    attempts = Attempts(0)
    later = take(attempts, 1, 0.0)
    earlier = take(attempts, 0, 5.0)
    assert attempts.late(8.0, SLACK_S) == [earlier, later]
    settle(attempts, later)
    assert attempts.next_tick(SLACK_S, START_S) == 7.75
    assert attempts.late(7.75, SLACK_S) == [earlier]


def test_a_retry_has_all_its_time() -> None:
    attempts = Attempts(0)
    take(attempts, 1, 0.0)
    retry = take(attempts, 0, 5.0, ordered=False)
    assert retry not in attempts.late(12.9, SLACK_S)
    assert retry in attempts.late(13.0, SLACK_S)


def test_at_the_start_the_head_waits_a_second_and_what_is_above_until_its_deadline_is_near() -> None:
    attempts = Attempts(0)
    head, above = take(attempts, 1, 0.0), take(attempts, 3, 0.5)
    settle(attempts, head)
    settle(attempts, above)
    assert attempts.next_tick(SLACK_S, START_S) == 1.0
    assert attempts.overdue(0.999, SLACK_S, START_S) is None
    assert attempts.overdue(1.0, SLACK_S, START_S) == 1
    assert attempts.overdue(8.25, SLACK_S, START_S) == 3


def test_once_started_a_gap_is_waited_for_until_the_deadline_is_near() -> None:
    attempts = Attempts(0)
    attempts.started = True
    settle(attempts, take(attempts, 1, 0.0))
    assert attempts.next_tick(SLACK_S, START_S) == 7.75
    assert attempts.overdue(7.749, SLACK_S, START_S) is None
    assert attempts.overdue(7.75, SLACK_S, START_S) == 1


def test_nothing_in_flight_needs_no_tick() -> None:
    assert Attempts(0).next_tick(SLACK_S, START_S) is None


def test_what_waits_for_a_running_number_needs_no_tick_of_its_own() -> None:
    attempts = Attempts(0)
    running, waiting = take(attempts, 0, 0.0), take(attempts, 1, 0.0)
    settle(attempts, waiting)
    assert attempts.next_tick(SLACK_S, START_S) == running.deadline


def test_dropping_all_forgets_everything() -> None:
    attempts = Attempts(0)
    take(attempts, 0, 0.0)
    take(attempts, 1, 0.0)
    assert attempts.drop_all() == 2
    assert len(attempts) == 0
    assert attempts.order.slots() == []
