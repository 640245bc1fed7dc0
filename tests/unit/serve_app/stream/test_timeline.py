from serve_app.stream.timeline import MAX_GAP, StreamTimeline


def test_a_fragment_starts_where_the_ones_before_end() -> None:
    timeline = StreamTimeline(6000)
    assert [timeline.place(duration, None) for duration in (6000, 5900, 6100)] == [0, 6000, 11_900]


def test_a_fragment_that_names_its_time_corrects_the_timeline() -> None:
    timeline = StreamTimeline(6000)
    timeline.place(6000, None)
    assert timeline.place(6000, 60_000) == 60_000
    assert timeline.place(6000, None) == 66_000


def test_a_hole_is_as_long_as_the_chunks_that_are_missing() -> None:
    timeline = StreamTimeline(6000)
    timeline.place(5000, None)
    assert timeline.pass_over(2) == 5000
    assert timeline.place(6000, None) == 17_000


def test_numbers_missing_before_the_first_fragment_take_no_time() -> None:
    timeline = StreamTimeline(6000)
    assert timeline.pass_over(3) is None
    assert timeline.place(6000, None) == 0


def test_no_numbers_and_absurdly_many_take_no_time() -> None:
    timeline = StreamTimeline(6000)
    timeline.place(6000, None)
    assert timeline.pass_over(0) is None
    assert timeline.pass_over(MAX_GAP + 1) is None
    assert timeline.pass_over(MAX_GAP) == 6000
