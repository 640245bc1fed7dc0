import pytest

from serve_app.protocol import ERROR_TABLE
from serve_app.stream.lifecycle import REFUSALS, Signal, State, advance

OPEN = {Signal.RESUME: State.ACTIVE, Signal.PAUSE: State.PAUSED, Signal.END: State.ENDING, Signal.DRAIN: State.DRAINING}
FOLLOWS: dict[State, dict[Signal, State]] = {
    State.ACTIVE: OPEN,
    State.PAUSED: OPEN,
    State.ENDING: {Signal.END: State.ENDING, Signal.DRAIN: State.ENDING, Signal.EMPTY: State.CLOSED},
    State.DRAINING: {Signal.END: State.ENDING, Signal.DRAIN: State.DRAINING, Signal.EMPTY: State.CLOSED},
    State.CLOSED: {},
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("signal", Signal)
def test_every_signal_in_every_state(state: State, signal: Signal) -> None:
    expected = State.CLOSED if signal is Signal.CLOSE else FOLLOWS[state].get(signal)
    assert advance(state, signal) is expected


def test_every_state_but_active_tells_why_it_takes_no_fragment() -> None:
    assert set(REFUSALS) == set(State) - {State.ACTIVE}


def test_what_will_pass_is_retryable_and_what_is_over_is_not() -> None:
    retryable = {state for state, (code, _) in REFUSALS.items() if ERROR_TABLE[code].retryable}
    assert retryable == {State.PAUSED, State.DRAINING}
