"""How recordings are cut and put together for measurements of quality."""

import numpy as np
import pytest

from bench.dubbing import BETWEEN_CLIPS_MS, FITS, Mouth, Piece, _at_pauses, _hard, joined
from deployments.contracts.engines import ASR_RATE_HZ
from deployments.contracts.values import FragmentRef, Recognition, Segment
from deployments.tts.fake import FakeTtsOptions

SECOND = np.full(ASR_RATE_HZ, 0.5, dtype=np.float32)


@pytest.mark.parametrize(("seconds", "lengths_s"), [(3, [3]), (12, [6, 6]), (13.5, [6, 6, 1.5]), (12.5, [6, 6.5])])
def test_hard_cuts_leave_no_scrap(seconds, lengths_s):
    samples = np.zeros(int(seconds * ASR_RATE_HZ), dtype=np.float32)
    assert [piece.shape[0] / ASR_RATE_HZ for piece in _hard(samples)] == lengths_s


def test_cuts_at_pauses_lose_nothing():
    rng = np.random.default_rng(0)
    speech = joined([(rng.uniform(-0.5, 0.5, 3 * ASR_RATE_HZ)).astype(np.float32) for _ in range(5)])
    pieces = _at_pauses(speech)
    assert len(pieces) > 1
    np.testing.assert_allclose(np.concatenate(pieces), speech, atol=1e-4)


def test_a_short_pause_stands_between_clips():
    whole = joined([SECOND, SECOND])
    assert whole.shape[0] == 2 * ASR_RATE_HZ + BETWEEN_CLIPS_MS * ASR_RATE_HZ // 1000
    assert np.abs(whole[ASR_RATE_HZ:-ASR_RATE_HZ]).max() == 0


def pieces(n):
    heard = Recognition((Segment("words", 0, 2000, 0.9),), "en")
    samples = np.concatenate([SECOND, SECOND])
    return [Piece(FragmentRef("s", f"s-{i}", i), samples, heard, f"texto {i}", 10) for i in range(n)]


def test_only_one_way_of_fitting_carries_and_never_out_of_the_stream():
    mouth = Mouth(FakeTtsOptions(duration_factor=1.375).build())
    dubs = {fit: mouth.dub([pieces(3)], fit) for fit in FITS}
    assert {fit: len(way.overhang_ms) for fit, way in dubs.items()} == {"total": 0, "placed": 0, "carried": 2}
    assert all(dub.audio.shape == (48_000,) for way in dubs.values() for dub in way.all)


def test_a_dubs_own_text_is_all_of_it_and_nothing_of_the_one_before():
    mouth = Mouth(FakeTtsOptions(duration_factor=1.375).build())
    dubs = mouth.dub([pieces(3)], "carried")
    first, second, last = dubs.all
    assert first.own.shape[0] == 48_000 + dubs.overhang_ms[0] * 24
    lead = dubs.overhang_ms[0] * 24
    assert np.abs(second.own[:lead]).max() == 0 < np.abs(second.audio[:lead]).max()
    assert last.own.shape == (48_000,)
