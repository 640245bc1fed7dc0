"""Which model the Kokoro engine loads: the rewritten one, or the one that it was given."""

import tempfile
from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from deployments.tts import kokoro, kokoro_graph  # noqa: E402


@pytest.fixture
def loaded_from(monkeypatch):
    """Gives what a model is loaded from; the loading is a stand-in."""
    monkeypatch.setattr(kokoro, "_kokoro", lambda model_path, voices_path, threads: str(model_path))
    return lambda path: kokoro._rewritten_kokoro(path, Path("voices.npz"), 1)


@pytest.fixture
def quantized(tmp_path, monkeypatch):
    """A model with a convolution to rewrite, for the stand-in that rewrites."""
    monkeypatch.setattr(kokoro_graph, "rewrite", lambda model, narrow: 1)
    path = tmp_path / "int8.onnx"
    onnx.save(onnx.ModelProto(ir_version=9), path)
    return path


def test_a_rewritten_model_is_loaded_from_a_file_that_is_gone_afterwards(quantized, loaded_from):
    path = loaded_from(quantized)
    assert path is not None
    assert path != str(quantized)
    assert not Path(path).parent.exists()
    assert quantized.exists()


@pytest.mark.parametrize("exact", [True, False])
def test_weights_are_narrowed_only_where_products_are_not_exact(quantized, loaded_from, monkeypatch, exact):
    narrowed = []
    monkeypatch.setattr(kokoro_graph, "products_are_exact", lambda: exact)
    monkeypatch.setattr(kokoro_graph, "rewrite", lambda model, narrow: narrowed.append(narrow) or 1)
    loaded_from(quantized)
    assert narrowed == [not exact]


def test_a_model_with_nothing_to_rewrite_runs_as_it_is(quantized, loaded_from, monkeypatch):
    monkeypatch.setattr(kokoro_graph, "rewrite", lambda model, narrow: 0)
    assert loaded_from(quantized) is None


def test_where_no_file_can_be_written_the_model_runs_as_it_is(quantized, loaded_from, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    assert loaded_from(quantized) is None
