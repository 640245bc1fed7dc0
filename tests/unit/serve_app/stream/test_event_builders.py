from serve_app.stream import event_builders
from serve_app.stream.backpressure import Level
from tests.unit.serve_app.stream.recorder import make_fragment, make_settings


def test_an_ack_carries_unix_time() -> None:
    settings = make_settings(wall_offset_s=1_700_000_000.0)
    assert event_builders.queued(settings, make_fragment(0), 2, 12.3456).to_wire() == {
        "fragment_id": "f0",
        "status": "queued",
        "timestamp": 1_700_000_012_346,
        "queue_position": 2,
    }


def test_backpressure_keeps_its_nulls_and_whole_numbers() -> None:
    settings = make_settings(chunk_duration_ms=6001)
    low = event_builders.pressure(settings, Level.LOW, 1, 1, event_builders.delay_ms(settings, Level.LOW)).to_wire()
    assert low["threshold_exceeded"] is None
    assert low["recommended_delay_ms"] == 0
    medium = event_builders.pressure(
        settings, Level.MEDIUM, 4, 4, event_builders.delay_ms(settings, Level.MEDIUM)
    ).to_wire()
    assert medium["recommended_delay_ms"] == 3000


def test_a_missing_number_is_named_alone_and_several_as_a_range() -> None:
    one, more = event_builders.never_came(make_settings(), 4, 4), event_builders.never_came(make_settings(), 4, 6)
    assert "4 never came" in one.message
    assert "4 to 6 never came" in more.message
    assert more.details == {"first_missing": 4, "last_missing": 6}
    assert (more.code, more.severity, more.retryable, more.sequence_number) == ("INVALID_SEQUENCE", "warning", False, 4)


def test_fatal_errors_name_the_stream_and_what_to_do() -> None:
    oom, replaced = event_builders.out_of_memory(make_settings(), "full"), event_builders.replaced(make_settings())
    assert (oom.code, oom.severity, oom.retryable) == ("GPU_OOM", "fatal", True)
    assert "smaller max_inflight" in oom.message
    assert (replaced.code, replaced.severity, replaced.retryable) == ("SESSION_REPLACED", "fatal", False)
    assert event_builders.draining(make_settings(), "going").severity == "warning"
