"""When streams send, and what the figures make of what came back."""

import itertools
import math

import pytest

from bench.pacing import Phase, Plan, Saturation, Sent, Used, efficiency, evenly, scattered, summary

PLAN = Plan(phases_s=(0.0, 1.0), cadence_s=2.0, warm_s=2.0, seconds=4.0)


def phase(*sent, plan=PLAN, server_s=3.0, idle_s=1.0):
    return Phase(plan, list(sent), Used(server_s, 0.1, 0.0, idle_s, foreign_percent=5.0))


def test_fragments_are_due_at_their_streams_phase_until_the_end():
    assert PLAN.due_s(0) == [0.0, 2.0, 4.0]
    assert PLAN.due_s(1) == [1.0, 3.0, 5.0]


def test_as_many_fragments_count_as_a_stream_is_due_to_send_in_that_time():
    plan = Plan(scattered(6, 2.0), 2.0, 2.0, 10.0)
    due = [due_s for stream in range(6) for due_s in plan.due_s(stream) if due_s >= plan.warm_s]
    assert len(due) == 6 * 5


def test_even_phases_leave_equal_gaps_and_scattered_ones_do_not():
    assert evenly(4, 6.0) == (0.0, 1.5, 3.0, 4.5)
    phases = sorted(scattered(6, 2.0))
    gaps = [later - earlier for earlier, later in itertools.pairwise(phases)]
    assert max(phases) < 2.0
    assert max(gaps) > 1.5 * min(gaps)
    assert scattered(6, 2.0) == scattered(6, 2.0)


def test_what_is_due_before_the_count_is_in_no_latency():
    row = summary([phase(Sent(0.0, 9.0, 900.0), Sent(2.0, 1.0, 100.0), Sent(3.0, 2.0, 200.0))])
    assert row["fragments"] == 2
    assert row["p50_ms"] == 150.0
    assert row["ack_p50_ms"] == 1.5
    assert row["sent_per_s"] == 0.5


def test_results_count_as_done_when_they_come_while_it_counts():
    backlog, last, failed = Sent(0.0, 1.0, 2500.0), Sent(5.0, 1.0, 1500.0), Sent(2.0, 1.0, 100.0, "TIMEOUT")
    found = phase(backlog, Sent(3.0, 1.0, 500.0), last, failed)
    assert found.done == 2
    row = summary([found])
    assert row["done_per_s"] == 0.5
    assert row["cpu_s_a_fragment"] == 1.5
    assert row["failed"] == 1


@pytest.mark.parametrize("result_ms", [8001.0, None])
def test_what_comes_after_8_s_or_never_is_late_and_a_failure_is_not_late_too(result_ms):
    found = phase(Sent(2.0, 1.0, result_ms), Sent(2.0, 1.0, 7999.0), Sent(2.0, 1.0, None, "TIMEOUT"))
    assert found.late == 1


def test_efficiency_is_the_throughput_over_what_cores_that_never_idle_would_give():
    saturated = phase(
        *(Sent(4.0 * n / 8, 1.0, 100.0) for n in range(8)), plan=Saturation(4, 0.0, 4.0), server_s=6.0, idle_s=2.0
    )
    throughput_per_s, cpu_s_a_fragment, cores = 8 / 4.0, 6.0 / 8, 2
    assert efficiency([saturated]) == throughput_per_s / (cores / cpu_s_a_fragment)


def test_failing_soon_makes_no_figure_better():
    row = summary([phase(Sent(2.0, 1.0, 5.0, "QUEUE_FULL"), Sent(2.0, 1.0, 9000.0, "TIMEOUT"), Sent(2.0, 1.0))])
    assert row["p50_ms"] == 8000.0
    assert row["p99_ms"] > 8900.0


def test_a_phase_without_fragments_or_results_has_figures_that_are_no_numbers():
    assert math.isnan(summary([phase()])["p95_ms"])
    assert math.isnan(summary([phase(Sent(2.0))])["cpu_s_a_fragment"])
