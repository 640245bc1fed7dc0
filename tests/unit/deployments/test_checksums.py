"""Weights are loaded only when they are the pinned ones."""

import hashlib
from pathlib import Path

import pytest

from deployments.checksums import WeightsChanged, verify


def test_the_pinned_file_is_handed_back(tmp_path: Path) -> None:
    weights = tmp_path / "model.bin"
    weights.write_bytes(b"weights" * 100_000)

    assert verify(weights, hashlib.sha256(b"weights" * 100_000).hexdigest()) == weights


def test_a_changed_file_is_refused_naming_file_expected_and_found(tmp_path: Path) -> None:
    weights = tmp_path / "model.bin"
    weights.write_bytes(b"weights, and a little more")
    found = hashlib.sha256(b"weights, and a little more").hexdigest()

    with pytest.raises(WeightsChanged) as refusal:
        verify(weights, "0" * 64)

    for part in (str(weights), found, "0" * 64):
        assert part in str(refusal.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model\.bin"):
        verify(tmp_path / "model.bin", "0" * 64)
