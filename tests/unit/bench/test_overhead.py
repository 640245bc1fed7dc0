"""A fragment's overhead is told in parts that add up to it."""

import pytest

from bench.overhead import PARTS, TARGETS_MS, Seen, figures_of, parts, targets_of
from bench.stamps import STAMPS, read, stamp

STAMPED = {
    "received": 1.004,
    "accepted": 1.005,
    "asr called": 1.006,
    "asr in": 1.008,
    "asr out": 1.031,
    "asr answered": 1.033,
    "translation called": 1.033,
    "translation in": 1.034,
    "translation out": 1.034,
    "translation answered": 1.035,
    "tts called": 1.035,
    "tts in": 1.036,
    "tts out": 1.097,
    "tts answered": 1.100,
    "posted": 1.101,
    "encoded": 1.102,
}
SEEN = Seen(sent_s=1.0, acked_s=1.007, got_s=1.105, computed_ms={"asr": 22, "translation": 0, "tts": 60})


def test_the_parts_are_told_and_add_up():
    found = parts(SEEN, STAMPED)
    assert {name: round(found[name], 3) for name in PARTS} == {
        "arriving": 4,
        "decoding": 1,
        "deciding": 2,
        "hops": 10,
        "queueing": 2,
        "encoding": 1,
        "emitting": 3,
    }
    assert found["overhead"] == pytest.approx(105 - 82)
    assert found["acknowledged"] == pytest.approx(7)


def test_what_is_missed_names_the_largest_part():
    row = parts(SEEN, STAMPED)
    figures = {"streams": {streams: {"base64": figures_of([row, row])} for streams in ("1", "8")}}
    found = targets_of(figures)
    assert [(one.bound, one.met) for one in found] == [(TARGETS_MS["p50"], False), (TARGETS_MS["p95"], True)] * 2
    assert "hops (from the ingress to a stage's replica and back, three times), takes 10.0 ms" in found[0].because


def test_stamps_of_several_processes_come_together(tmp_path, monkeypatch):
    monkeypatch.setenv(STAMPS, str(tmp_path))
    stamp("f-1", "received", 1.5)
    (tmp_path / "1").write_text('["f-1", "accepted", 2.5]\n["f-2", "accepted", 3.0]\n', encoding="utf-8")
    assert read(tmp_path) == {"f-1": {"received": 1.5, "accepted": 2.5}, "f-2": {"accepted": 3.0}}
