import pytest

from serve_app.stream.ordering import MAX_SKIPPED, ReorderBuffer


def buffer(*reserved: int, first: int = 0) -> ReorderBuffer[str, str]:
    order: ReorderBuffer[str, str] = ReorderBuffer(first)
    for number in reserved:
        order.reserve(number, f"item {number}")
    return order


def fill(order: ReorderBuffer[str, str], *numbers: int) -> list[int]:
    """Fill numbers one after the other; returns the order in which they leave."""
    left: list[int] = []
    for number in numbers:
        order.fill(number, f"result {number}")
        left += [gone for gone, _, _ in order.release()]
    return left


def test_numbers_leave_in_order_however_their_results_arrive() -> None:
    assert fill(buffer(0, 1, 2, 3, 4, 5, 6), 1, 2, 0, 3, 5, 4, 6) == [0, 1, 2, 3, 4, 5, 6]


def test_a_number_leaves_with_its_item_and_its_result() -> None:
    order = buffer(0)
    order.fill(0, "result")
    assert order.release() == [(0, "item 0", "result")]
    assert order.next == 1


def test_the_stream_may_start_anywhere() -> None:
    assert fill(buffer(7, 8, first=7), 8, 7) == [7, 8]


def test_a_number_that_has_left_or_is_taken_cant_be_reserved() -> None:
    order = buffer(0, 1)
    fill(order, 0)
    with pytest.raises(ValueError, match="next is 1"):
        order.reserve(0, "again")
    with pytest.raises(ValueError, match="not free"):
        order.reserve(1, "again")


def test_a_number_that_nobody_reserved_cant_be_filled() -> None:
    with pytest.raises(ValueError, match="not reserved"):
        buffer().fill(3, "result")


def test_a_missing_number_holds_back_what_is_above_it() -> None:
    order = buffer(0, 2, 5)
    assert fill(order, 5, 2, 0) == [0]
    assert order.missing_below(2) == [(1, 1)]
    assert order.missing_below(5) == [(1, 1), (3, 4)]


def test_a_number_given_up_holds_back_nothing() -> None:
    order = buffer(2, 5)
    fill(order, 2, 5)
    assert order.give_up_below(2) == [(0, 1)]
    assert [number for number, _, _ in order.release()] == [2]
    assert order.give_up_below(5) == [(3, 4)]
    assert [number for number, _, _ in order.release()] == [5]


def test_a_range_is_given_up_once() -> None:
    order = buffer(4)
    assert order.give_up_below(4) == [(0, 3)]
    assert order.give_up_below(4) == []


def test_a_rejected_number_holds_back_nothing() -> None:
    order = buffer(1)
    order.skip(0)
    assert fill(order, 1) == [1]


def test_a_rejected_number_keeps_its_place_until_something_behind_it_leaves() -> None:
    order = buffer(1)
    order.skip(0)
    order.reserve(0, "resent")
    assert fill(order, 1, 0) == [0, 1]


def test_skipping_a_number_that_is_taken_or_has_left_changes_nothing() -> None:
    order = buffer(0, 1)
    fill(order, 0)
    order.skip(0)
    order.skip(1)
    assert 1 in order
    assert fill(order, 1) == [1]


def test_rejected_numbers_far_ahead_take_bounded_memory() -> None:
    order = buffer()
    for number in range(10, 10 + 2 * MAX_SKIPPED):
        order.skip(number)
    assert len(order._skipped) == MAX_SKIPPED


def test_rejected_numbers_are_forgotten_once_passed() -> None:
    order = buffer(2)
    order.skip(0)
    order.skip(1)
    order.skip(3)
    fill(order, 2)
    assert order._skipped == {3}


def test_a_gap_of_any_width_costs_nothing() -> None:
    order = buffer(2**53 - 1)
    assert order.missing_below(2**53 - 1) == [(0, 2**53 - 2)]


def test_clearing_drops_slots_and_results() -> None:
    order = buffer(0, 1)
    order.fill(0, "result")
    order.clear()
    assert order.slots() == []
    assert order.release() == []


def test_slots_tell_what_is_filled_lowest_first() -> None:
    order = buffer(3, 1)
    order.fill(3, "result")
    assert order.slots() == [(1, "item 1", False), (3, "item 3", True)]
