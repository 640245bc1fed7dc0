"""How long a client waits before it tries again."""

from itertools import islice

import pytest

from livedub.timeouts import Timeouts


@pytest.mark.parametrize(("drawn", "share"), [(0.0, 0.5), (0.5, 1.0), (1.0, 1.5)])
def test_waits_before_a_reconnect_grow_and_are_spread_by_chance(drawn, share):
    waits_s = list(islice(Timeouts().reconnect_waits_s(lambda: drawn), 9))
    assert waits_s == pytest.approx([share * wait_s for wait_s in (0.1, 0.25, 0.5, 1, 2, 4, 8, 8, 8)])
