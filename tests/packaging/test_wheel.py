"""The wheel as a tool: installed beside what it needs, run from a folder where nothing of the project is."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from serve_app.configuration.shipped import names
from tests.support.server import PROJECT, start

CODE = ("serve_app", "deployments", "livedub", "configs", "tests/data/speech")
SOURCES = ("pyproject.toml", "README.md", "LICENSE", *CODE)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built of a copy, since building leaves files among the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source, copy = PROJECT / name, folder / "source" / name
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            copy.parent.mkdir(exist_ok=True)
            shutil.copy(source, copy)
    build = ("wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, folder / "source")
    subprocess.run([sys.executable, "-m", "pip", *build], check=True, timeout=120)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def tool(wheel, tmp_path_factory) -> Path:
    """`livedub` in an environment that has the wheel, and else only what is installed here, but for the project."""
    environment = tmp_path_factory.mktemp("tool")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=60)
    python = environment / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index")
    subprocess.run([*pip, wheel], check=True, timeout=60)
    # Files for the path that lie in a folder which is itself on the path by such a file are not read: the project,
    # which is installed here by one, stays outside.
    (packages,) = environment.glob("lib/python3*/site-packages")
    (packages / "beside.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return environment / "bin" / "livedub"


def environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def run(tool: Path, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [tool, *arguments], cwd=folder, env=environ(), capture_output=True, text=True, check=False, timeout=120
    )


def test_all_that_is_installed_is_ours_by_name(wheel):
    """A folder `configs` among everybody's packages would be anybody's."""
    with zipfile.ZipFile(wheel) as files:
        roots = {name.split("/")[0] for name in files.namelist()}
    assert {root for root in roots if not root.startswith("livedub-")} == {"livedub", "deployments", "serve_app"}


def test_the_version_is_told(tool, tmp_path):
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert run(tool, tmp_path, "--version").stdout == f"livedub {project['version']}\n"


def test_code_and_configuration_are_those_of_the_wheel(tool, tmp_path):
    code = "import serve_app, serve_app.configuration.shipped as s; print(serve_app.__file__, s.CLIP, s.CLIP.is_file())"
    told = subprocess.check_output([tool.with_name("python"), "-c", code], cwd=tmp_path, env=environ(), text=True)
    assert told.count(str(tool.parents[1])) == 2
    assert told.endswith("True\n")


@pytest.mark.parametrize("name", names())
def test_every_configuration_is_there_by_name(tool, tmp_path, name):
    told = run(tool, tmp_path, "check", name)
    assert told.returncode in (0, 1), told.stderr
    assert told.stdout


def test_the_local_configuration_is_what_no_name_means(tool, tmp_path):
    shown = [run(tool, tmp_path, "config", *name, "--json") for name in ((), ("local",))]
    assert json.loads(shown[0].stdout) == json.loads(shown[1].stdout)


def test_a_file_is_looked_for_where_the_user_is(tool, tmp_path):
    """And wins over a shipped one of its name."""
    mine = (PROJECT / "configs" / "echo.yaml").read_text(encoding="utf-8").replace("concurrency: 8", "concurrency: 7")
    for name in ("mine.yaml", "echo"):
        (tmp_path / name).write_text(mine, encoding="utf-8")
        assert json.loads(run(tool, tmp_path, "config", name, "--json").stdout)["tts.concurrency"]["value"] == 7


def test_a_name_that_nothing_has_is_told_with_those_there_are(tool, tmp_path):
    told = run(tool, tmp_path, "check", "nothing")
    assert told.returncode == 2
    assert "nothing: No such file or directory; by name there are echo, fakes, local, prod\n" in told.stderr


def test_it_serves(tool, tmp_path, alone):
    """Ray's processes find the code too."""
    server = start(Path("echo"), tmp_path / "server.log", {"PYTHONPATH": ""}, livedub=(str(tool),), folder=tmp_path)
    assert server.stop() == 0, server.logged()
