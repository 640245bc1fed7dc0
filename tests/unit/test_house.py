"""The rooms: what calls itself PURE is held to it, and no module stands outside the floors."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = ("livedub", "serve_app", "deployments")
CONTRACTS = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    paths = [path for package in PACKAGES for path in (PROJECT / package).rglob("*.py")]
    return {".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def covered(name: str, by: Iterable[str]) -> bool:
    """Whether a module, or a package that it lies in, is among these."""
    return any(name == one or name.startswith(f"{one}.") for one in by)


def test_what_calls_itself_pure_is_held_to_it():
    pure = [one for contract in CONTRACTS if "PURE" in contract["name"] for one in contract["source_modules"]]
    claims = {
        name for name, path in modules().items() if "PURE" in (ast.get_docstring(ast.parse(path.read_text())) or "")
    }
    assert len(claims) > 40
    assert {name for name in claims if not covered(name, pure)} == set()


@pytest.mark.parametrize("package", ["serve_app", "deployments"])
def test_every_module_stands_on_a_floor(package):
    floors = [one for contract in CONTRACTS for layer in contract.get("layers", ()) for one in layer.split(" | ")]
    inside = {name for name in modules() if name.startswith(f"{package}.") and not covered(name, floors)}
    assert inside == set()


@pytest.mark.parametrize("name", ["serve_app.stream.session", "serve_app.scheduling.fair_queue", "serve_app.access"])
def test_the_core_is_imported_without_models_sockets_or_arrays(name):
    heavy = "{'ray', 'numpy', 'av', 'socketio', 'fastapi', 'torch'}"
    code = f"import sys, {name}; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert found.stdout.strip() == "[]"


TRIES_BENCHES = ("tests.unit.bench", "tests.unit.test_docs", "tests.quality", "tests.faults.test_slow_clients")
"""Tests whose subject is a bench."""


def imported(path: Path) -> set[str]:
    """The modules that a file imports from."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    return {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module} | {
        alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
    }


def test_benches_and_tests_share_what_is_there_to_be_shared():
    """Benches lean on tests/support and tests/oracle; tests of anything else don't lean on benches."""
    strays = []
    for path in [*(PROJECT / "bench").rglob("*.py"), *(PROJECT / "tests").rglob("*.py")]:
        name = ".".join(path.relative_to(PROJECT).with_suffix("").parts)
        for module in imported(path):
            if name.startswith("bench.") and module.startswith("tests"):
                allowed = covered(module, ("tests.support", "tests.oracle"))
            elif name.startswith("tests.") and covered(module, ("bench",)):
                allowed = covered(name, TRIES_BENCHES)
            elif name.startswith("tests.oracle"):
                allowed = not covered(module, ("bench", "tests.support", "tests.unit"))
            else:
                allowed = True
            if not allowed:
                strays.append((name, module))
    assert strays == []
