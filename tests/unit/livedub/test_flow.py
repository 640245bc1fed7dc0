"""The flow decides what is sent when, with time as an argument."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livedub.flow import MAX_POSTPONED, RETRY_DELAYS_S, Flow
from livedub.fragment import CONNECTION_LOST, NO_ANSWER, Failure
from serve_app.protocol import FragmentAudio, FragmentData, FragmentProcessed

BUSY = Failure("BACKPRESSURE_EXCEEDED", "too many", retryable=True)
BAD = Failure("INVALID_FRAGMENT", "other audio", retryable=False)


def data(number: int, fragment_id: str | None = None) -> FragmentData:
    audio = FragmentAudio(format="pcm_s16le", sample_rate_hz=16_000, channels=1, duration_ms=1, data=b"\0\0" * 16)
    return FragmentData(
        fragment_id=fragment_id or f"f{number}", stream_id="s", sequence_number=number, timestamp=0, audio=audio
    )


def processed(number: int, status: str = "success", *, code: str = "TIMEOUT", retryable: bool = True):
    error = {"stage": "asr", "code": code, "message": "why", "retryable": retryable} if status == "failed" else None
    return FragmentProcessed.model_validate(
        {
            "fragment_id": f"f{number}",
            "stream_id": "s",
            "sequence_number": number,
            "status": status,
            "processing_time_ms": 1,
            "stage_timings": {},
            "error": error,
            "metadata": {"original_duration_ms": 1},
            "assets": {},
        }
    )


def a_flow(window: int = 3, fragments: int = 0, **options) -> Flow:
    """A connected flow with some fragments taken and sent at 0 s."""
    flow = Flow(**options)
    flow.connected(window, 0.0)
    for number in range(fragments):
        flow.add(data(number), 0.0)
    flow.sendable(0.0)
    return flow


def numbers(fragments: list[FragmentData]) -> list[int]:
    return [fragment.sequence_number for fragment in fragments]


def ids(fragments: list[FragmentData]) -> list[str]:
    return [fragment.fragment_id for fragment in fragments]


def test_nothing_is_taken_before_the_stream_is_open() -> None:
    flow = Flow()

    assert flow.blocked_by(0.0) == "no connection"
    assert flow.lowest_unfinished == 0
    assert flow.take() is None


def test_the_window_fills_and_a_result_makes_room() -> None:
    flow = a_flow(window=2, fragments=2)
    assert flow.in_flight == 2
    assert flow.blocked_by(0.0) == "full window"

    flow.result(processed(0), 0.5)

    assert flow.blocked_by(0.5) == ""
    result = flow.take()
    assert result is not None
    assert (result.status, result.attempts, result.latency_ms, result.failure) == ("success", 1, 500, None)


def test_a_fragment_that_is_taken_but_not_yet_sent_counts_in_the_window() -> None:
    flow = a_flow(window=1)
    flow.add(data(0), 0.0)

    assert flow.blocked_by(0.0) == "full window"


def test_slow_down_spaces_sends_by_the_recommended_delay_until_lifted() -> None:
    flow = a_flow(window=3)
    flow.backpressure("slow_down", 250, 10.0)
    assert flow.blocked_by(10.2) == "the server's slow down"
    assert flow.wake_at_s(10.0) == 10.25

    assert flow.blocked_by(10.25) == ""
    flow.add(data(0), 10.25)
    assert numbers(flow.sendable(10.25)) == [0]
    assert flow.blocked_by(10.4) == "the server's slow down"

    flow.backpressure("none", 0, 10.4)
    assert flow.blocked_by(10.4) == ""


@pytest.mark.parametrize("action", ["pause", "slow_down"])
def test_a_pause_is_lifted_by_none_only(action) -> None:
    flow = a_flow()
    flow.backpressure("pause", 1000, 0.0)
    flow.backpressure(action, 10, 0.1)
    assert flow.blocked_by(100.0) == "the server's pause"

    flow.backpressure("none", 0, 100.0)
    assert flow.blocked_by(100.0) == ""


def test_a_pause_holds_retries_back_too() -> None:
    flow = a_flow(fragments=1)
    flow.refused("f0", BUSY, 0.0)
    flow.backpressure("pause", 0, 0.5)
    assert flow.sendable(5.0) == []

    flow.backpressure("none", 0, 6.0)
    assert numbers(flow.sendable(6.0)) == [0]


def test_retries_come_after_1_2_4_8_16_s_and_then_the_last_failure_is_the_result() -> None:
    flow = a_flow(fragments=1)
    now = 0.0
    waits = []
    for _ in RETRY_DELAYS_S:
        flow.refused("f0", BUSY, now)
        due = flow.wake_at_s(now)
        assert flow.sendable(math.nextafter(due, 0.0)) == []
        assert numbers(flow.sendable(due)) == [0]
        waits.append(due - now)
        now = due
    assert waits == [1, 2, 4, 8, 16]
    assert flow.take() is None

    flow.result(processed(0, "failed", code="TIMEOUT"), now + 3)

    result = flow.take()
    assert result is not None
    assert result.failure is not None
    assert (result.status, result.failure.code, result.failure.stage) == ("failed", "TIMEOUT", "asr")
    assert (result.attempts, result.latency_ms) == (6, 34_000)


def test_a_failure_that_can_not_be_retried_is_final_at_once() -> None:
    flow = a_flow(fragments=2)
    flow.refused("f0", BAD, 0.1)
    flow.result(processed(1, "failed", code="INVALID_AUDIO", retryable=False), 0.2)

    first, second = flow.take(), flow.take()

    assert first is not None
    assert first.failure == BAD
    assert first.processed is None
    assert second is not None
    assert second.processed is not None


def test_a_failed_result_without_a_reason_is_final() -> None:
    flow = a_flow(fragments=1)
    flow.result(processed(0, "failed").model_copy(update={"error": None}), 0.1)

    result = flow.take()
    assert result is not None
    assert result.failure is not None
    assert result.failure.code == "INTERNAL"


def test_results_are_handed_out_in_order_whatever_order_they_come_in() -> None:
    flow = a_flow(fragments=3)
    flow.result(processed(2), 0.1)
    flow.result(processed(1), 0.2)
    assert flow.take() is None

    flow.result(processed(0), 0.3)

    assert [result.sequence_number for result in iter(flow.take, None)] == [0, 1, 2]


def test_later_fragments_go_on_while_one_waits_for_its_retry() -> None:
    flow = a_flow(window=1, fragments=1)
    flow.refused("f0", BUSY, 0.0)
    assert flow.blocked_by(0.5) == ""

    flow.add(data(1), 0.5)
    assert numbers(flow.sendable(0.5)) == [1]
    flow.result(processed(1), 0.6)

    assert flow.blocked_by(1.0) == "full window"
    assert numbers(flow.sendable(1.0)) == [0]


def test_results_that_nobody_reads_stop_the_sender() -> None:
    flow = a_flow(max_held=2, fragments=2)
    flow.result(processed(0), 0.1)
    assert flow.blocked_by(0.1) == "retries"
    flow.result(processed(1), 0.1)
    assert flow.blocked_by(0.1) == "unread results"

    flow.take()
    assert flow.blocked_by(0.1) == ""


def test_silence_about_a_fragment_is_a_failure_that_is_retried() -> None:
    flow = a_flow(fragments=1, answer_timeout_s=13.0)
    assert flow.wake_at_s(0.0) == 13.0
    assert flow.sendable(13.0) == []
    assert numbers(flow.sendable(14.0)) == [0]

    for _ in range(20):
        flow.sendable(flow.wake_at_s(14.0))
    now = 14.0
    while flow.unfinished:
        now = flow.wake_at_s(now)
        flow.sendable(now)
    result = flow.take()
    assert result is not None
    assert result.failure is not None
    assert result.failure.code == NO_ANSWER


def test_a_late_result_counts_while_its_retry_is_waited_for() -> None:
    flow = a_flow(fragments=1)
    flow.refused("f0", BUSY, 0.0)
    flow.result(processed(0, "failed"), 0.4)
    assert flow.wake_at_s(0.4) == 1.0
    flow.result(processed(0, "partial"), 0.5)

    result = flow.take()
    assert result is not None
    assert result.status == "partial"


def test_unknown_and_finished_fragments_are_ignored() -> None:
    flow = a_flow(fragments=1)
    flow.result(processed(7), 0.1)
    flow.refused("f9", BAD, 0.1)
    flow.result(processed(0), 0.2)
    flow.refused("f0", BAD, 0.3)

    result = flow.take()
    assert result is not None
    assert result.status == "success"
    flow.result(processed(0), 0.4)
    assert flow.take() is None


def test_a_new_connection_carries_what_is_unfinished_in_order_and_without_a_gap() -> None:
    flow = a_flow(fragments=3)
    flow.result(processed(1), 0.5)
    flow.refused("f0", BUSY, 0.5)
    flow.backpressure("pause", 0, 0.5)
    flow.disconnected(0.6)
    assert flow.lowest_unfinished == 0
    assert flow.blocked_by(0.6) == "no connection"
    assert flow.sendable(0.7) == []

    flow.connected(3, 0.8)

    carried = flow.sendable(0.8)
    assert (ids(carried), numbers(carried)) == (["f0", "f2"], [0, 1])


def test_new_numbers_stay_between_client_and_server() -> None:
    """The worker sees its own numbers; a retry on the same connection keeps the one it was sent under."""
    flow = a_flow(fragments=4)
    flow.result(processed(1), 0.5)
    flow.disconnected(0.6)
    flow.connected(3, 0.8)
    assert numbers(flow.sendable(0.8)) == [0, 1, 2]
    flow.refused("f2", BUSY, 0.9)
    retried = flow.sendable(2.0)
    assert (ids(retried), numbers(retried)) == (["f2"], [1])
    for fragment_id, carried_as in (("f0", 0), ("f2", 1), ("f3", 2)):
        flow.result(processed(carried_as).model_copy(update={"fragment_id": fragment_id}), 2.1)

    results = list(iter(flow.take, None))
    assert [result.sequence_number for result in results] == [0, 1, 2, 3]
    assert [result.processed.sequence_number for result in results if result.processed] == [0, 1, 2, 3]
    flow.add(data(4), 3.0)
    assert numbers(flow.sendable(3.0)) == [3]


def test_a_server_that_goes_gets_nothing_new_and_is_left_when_it_has_answered() -> None:
    flow = a_flow(fragments=2, answer_timeout_s=13.0)
    flow.leaving(1.0)
    assert flow.blocked_by(1.0) == "another server"
    flow.returned("f1", 1.1)
    flow.leaving(1.1)
    assert flow.sendable(1.2) == []
    flow.result(processed(0), 1.3)
    assert flow.wake_at_s(1.3) == 14.0
    assert not flow.overstays(13.9)
    assert flow.overstays(14.0)

    flow.disconnected(14.0)
    flow.connected(3, 14.1)

    assert not flow.overstays(99.0)
    assert ids(flow.sendable(14.1)) == ["f1"]


def test_going_servers_cost_a_fragment_none_of_its_tries() -> None:
    flow = a_flow(fragments=1)
    for _ in range(2 * len(RETRY_DELAYS_S)):
        flow.returned("f0", 1.0)
        flow.leaving(1.0)
        flow.disconnected(1.0)
        flow.connected(3, 1.0)
        assert ids(flow.sendable(1.0)) == ["f0"]
    flow.result(processed(0), 2.0)
    flow.returned("f0", 2.1)

    result = flow.take()
    assert result is not None
    assert result.status == "success"


def test_a_fragment_that_breaks_every_connection_is_given_up() -> None:
    flow = a_flow(fragments=1)
    for _ in RETRY_DELAYS_S:
        flow.disconnected(1.0)
        flow.connected(3, 1.0)
        assert numbers(flow.sendable(1.0)) == [0]
    flow.disconnected(2.0)

    result = flow.take()
    assert result is not None
    assert result.failure is not None
    assert result.failure.code == CONNECTION_LOST


def test_the_worker_may_pause_itself() -> None:
    flow = a_flow()
    flow.add(data(0), 0.0)
    flow.hold()
    assert flow.held
    assert flow.blocked_by(0.0) == "the worker's own pause"
    assert flow.sendable(0.0) == []

    flow.release()
    assert numbers(flow.sendable(0.0)) == [0]


def test_numbers_and_ids_are_checked() -> None:
    flow = a_flow(fragments=1)
    with pytest.raises(ValueError, match="next sequence number is 1, not 5"):
        flow.add(data(5), 0.0)
    with pytest.raises(ValueError, match="'f0' is already"):
        flow.add(data(1, "f0"), 0.0)


@given(st.lists(st.sampled_from(["add", "ok", "busy", "bad", "lost", "tick", "pause", "none"]), max_size=120))
def test_whatever_happens_the_window_holds_and_each_fragment_gets_one_result_in_order(steps: list[str]) -> None:
    window = 3
    flow = Flow(max_held=8)
    flow.connected(window, 0.0)
    now, results, sent, seen, first = 0.0, [], [], set(), 0
    for step in [*steps, "none", *["ok", "tick"] * 40]:
        if step == "add" and not flow.blocked_by(now):
            flow.add(data(flow.next_sequence_number), now)
        elif step in {"ok", "busy", "bad"} and sent:
            carried = sent.pop(0)
            if step == "ok":
                answer = processed(carried.sequence_number)
                flow.result(answer.model_copy(update={"fragment_id": carried.fragment_id}), now)
            else:
                flow.refused(carried.fragment_id, BUSY if step == "busy" else BAD, now)
        elif step == "lost":
            flow.disconnected(now)
            sent.clear()
            seen = set()
            first = flow.lowest_unfinished
            flow.connected(window, now)
        elif step == "tick":
            now = min(flow.wake_at_s(now), now + 5)
        elif step in {"pause", "none"}:
            flow.backpressure(step, 0, now)
        sending = flow.sendable(now)
        sent += sending
        seen |= {carried.sequence_number for carried in sending}
        assert seen == set(range(first, first + len(seen))), "a connection's numbers have no gap"
        assert flow.in_flight <= window
        results += [result.sequence_number for result in iter(flow.take, None)]
    assert results == list(range(flow.next_sequence_number))


def test_a_server_that_says_when_it_has_room_gets_nothing_before() -> None:
    flow = a_flow(window=3, fragments=1)
    full = Failure("QUEUE_FULL", "full", retryable=True, retry_after_ms=2500)
    flow.refused("f0", full, 0.0)
    flow.add(data(1), 0.1)
    assert flow.sendable(2.4) == []
    assert numbers(flow.sendable(2.5)) == [0, 1]


def test_it_gets_it_at_once_when_it_says_that_all_is_well() -> None:
    flow = a_flow(window=3, fragments=1)
    flow.refused("f0", Failure("QUEUE_FULL", "full", retryable=True, retry_after_ms=2500), 0.0)
    flow.backpressure("none", 0, 0.7)
    assert numbers(flow.sendable(0.7)) == [0]


def test_being_put_off_costs_no_retry_but_not_for_ever() -> None:
    flow = a_flow(window=3, fragments=1)
    full = Failure("QUEUE_FULL", "full", retryable=True, retry_after_ms=100)
    for step in range(MAX_POSTPONED):
        flow.refused("f0", full, float(step))
        assert numbers(flow.sendable(step + 0.1)) == [0]
    for delay_s in RETRY_DELAYS_S:
        flow.refused("f0", full, 100.0)
        flow.sendable(100.0 + delay_s)
    assert flow.take() is None
    flow.refused("f0", full, 200.0)
    result = flow.take()
    assert result is not None
    assert result.failure == full


def test_a_slow_down_does_not_let_others_pass_one_that_waits_for_room() -> None:
    flow = a_flow(window=3, fragments=1)
    flow.refused("f0", Failure("QUEUE_FULL", "full", retryable=True, retry_after_ms=2500), 0.0)
    flow.backpressure("slow_down", 100, 0.1)
    flow.add(data(1), 0.2)
    assert flow.sendable(1.0) == []
    assert flow.wake_at_s(1.0) == 2.5
