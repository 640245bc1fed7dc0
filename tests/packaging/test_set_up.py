"""Set-up installs what is locked: the Makefile's own steps, against an index on disk that has moved on."""

import ensurepip
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support.server import PROJECT
from tests.support.wheels import asked_with_extras, lock, made_up, packed, pins

SPECIAL = ("PIP_", "UV_", "MAKE", "MFLAGS", "VIRTUAL_ENV", "PYTHONPATH")
CPU, CUDA = "2.0+cpu", "2.0"


def asked() -> list[tuple[str, str, str]]:
    """(asker, package, extras) for all that something in dev.lock asks for with an extra."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    roots = project["dependencies"] + [line for lines in project["optional-dependencies"].values() for line in lines]
    found = asked_with_extras(pins(dev_lock()), roots)
    return [(name, canonicalize_name(need.name), ",".join(sorted(need.extras))) for name, need in found]


def dev_lock() -> str:
    return (PROJECT / "requirements" / "dev.lock").read_text(encoding="utf-8")


class SetUp:
    """A project of the same shape and with the same Makefile, its locks of made-up packages, and an index for them."""

    def __init__(self, folder: Path) -> None:
        self.project, self.index = folder / "project", folder / "index"
        self.requirements = self.project / "requirements"
        self.requirements.mkdir(parents=True)
        self.index.mkdir()
        shutil.copy(PROJECT / "Makefile", self.project)
        shutil.copy(PROJECT / "requirements" / "install.py", self.requirements)
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith(SPECIAL)} | {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.index),
            "UV_CACHE_DIR": str(folder / "cache"),
            "UV_NO_CONFIG": "1",
        }
        self.write("installer", packed(self.index, "uv"))
        self.write("build", packed(self.index, "setuptools"))
        locked, pairs = pins(dev_lock()), asked()
        self.wheels = []
        for name in sorted({name for asker, need, _ in pairs for name in (asker, need)}):
            needs = [f"{need}[{extras}]" for asker, need, extras in pairs if asker == name]
            offered = {extra for _, need, extras in pairs if need == name for extra in extras.split(",")}
            self.wheels.append(made_up(self.index, name, locked[name], needs, offered))
            if offered:
                made_up(self.index, name, f"{locked[name]}.999", needs, offered)
        self.write("dev", *self.wheels)
        (self.project / "pyproject.toml").write_text(
            '[build-system]\nrequires = ["setuptools>=80"]\nbuild-backend = "setuptools.build_meta"\n'
            f'[project]\nname = "made-up"\nversion = "1"\ndependencies = {[name for name, _, _ in pairs]}\n'
            "[tool.setuptools]\npackages = []\n",
            encoding="utf-8",
        )

    def write(self, name: str, *wheels: Path) -> None:
        """A lock of these."""
        (self.requirements / f"{name}.lock").write_text(lock(*wheels), encoding="utf-8")

    def run(self, *command: str | Path) -> "subprocess.CompletedProcess[str]":
        """Run in the project, with the index and without a network."""
        return subprocess.run(
            command, cwd=self.project, env=self._environ, capture_output=True, text=True, check=False, timeout=120
        )

    def make(self, target: str) -> "subprocess.CompletedProcess[str]":
        return self.run("make", target, f"PYTHON={sys.executable}")

    def install(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """The step that all targets share."""
        return self.run(".venv/bin/python", "requirements/install.py", *arguments)

    def uninstall(self, name: str) -> None:
        self.run(".venv/bin/python", "-m", "uv", "pip", "uninstall", "--python", ".venv/bin/python", name)

    def installed(self) -> dict[str, str]:
        listed = self.run(".venv/bin/python", "-m", "pip", "list", "--format=freeze", "--exclude-editable").stdout
        return pins(listed)


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> SetUp:
    """After `make setup`."""
    set_up = SetUp(tmp_path_factory.mktemp("set_up"))
    told = set_up.make("setup")
    assert told.returncode == 0, told.stdout + told.stderr
    return set_up


def test_what_is_known_to_ask_with_extras_is_found():
    """Else the index below would hold nothing newer."""
    assert {("pytest-cov", "coverage", "toml"), ("ray", "uvicorn", "standard")} <= set(asked())


@pytest.mark.skipif(Version(ensurepip.version()) >= Version("24"), reason="the pip of this Python keeps to the lock")
def test_pip_left_to_itself_stumbles_over_a_newer_release(done):
    """What set-up did before: pip resolves an extra anew, and the newest release is not the locked one."""
    assert done.run(sys.executable, "-m", "venv", "--without-pip", "old").returncode == 0
    pip = (".venv/bin/python", "-m", "pip", "--python", "old/bin/python")
    told = done.run(*pip, "install", "-qq", "--require-hashes", "-r", "requirements/dev.lock")
    assert told.returncode == 1
    assert "all requirements must have their versions pinned with ==" in told.stderr


def test_set_up_installs_the_lock(done):
    """Whatever newer releases there are."""
    assert pins(lock(*done.wheels)).items() <= done.installed().items()


def test_a_second_run_does_nothing(done):
    assert "Nothing to be done" in done.make("setup").stdout


def test_what_is_installed_needs_no_index(done):
    """A lock that is newer than the environment and says the same, such as after a switch of branches."""
    aside = done.index.rename(done.index.with_name("aside"))
    try:
        (done.requirements / "dev.lock").touch()
        told = done.make("setup")
    finally:
        aside.rename(done.index)
    assert told.returncode == 0, told.stderr
    assert pins(lock(*done.wheels)).items() <= done.installed().items()


def test_a_package_that_is_not_what_was_locked_is_refused(done):
    honest = made_up(done.index, "honest", "1")
    done.write("tampered", honest)
    made_up(done.index, "honest", "1", extras=["evil"])
    told = done.install("requirements/tampered.lock")
    assert told.returncode == 1
    assert "requirements/tampered.lock could not be installed" in told.stderr
    assert "honest" not in done.installed()


def test_a_lock_that_lacks_something_is_told(done):
    done.write("lacking", made_up(done.index, "lonely", "1", ["friend>=2"]))
    told = done.install("requirements/lacking.lock")
    done.uninstall("lonely")
    assert told.returncode == 1
    assert "don't fit together" in told.stderr
    assert "friend" in told.stderr


def test_where_there_is_no_uv_pip_installs(done):
    """Such as on a machine that uv is not built for."""
    ours = (done.requirements / "installer.lock").read_text(encoding="utf-8")
    done.uninstall("uv")
    done.write("other", made_up(done.index, "other", "1"))
    try:
        (done.requirements / "installer.lock").write_text(f"uv==0.0.1 --hash=sha256:{'0' * 64}\n", encoding="utf-8")
        told = done.install("requirements/other.lock")
    finally:
        (done.requirements / "installer.lock").write_text(ours, encoding="utf-8")
    assert told.returncode == 0, told.stderr
    assert "pip installs" in told.stderr
    assert done.installed()["other"] == "1"


@pytest.mark.parametrize(("at_hand", "version", "cuda"), [((CPU, CUDA), CPU, False), ((CUDA,), CUDA, True)])
def test_cuda_comes_where_torch_asks_for_it(done, at_hand, version, cuda):
    """A CPU build goes first where there is one; its users don't fetch gigabytes for a GPU."""
    torches = {
        CPU: made_up(done.index, "torch", CPU),
        CUDA: made_up(done.index, "torch", CUDA, ["nvidia-made-up==1"]),
    }
    done.write("torch-cpu", torches[CPU])
    done.write("coqui", torches[CUDA], made_up(done.index, "coqui-tts", "1", ["torch==2.0"]))
    done.write("cuda", made_up(done.index, "nvidia-made-up", "1"))
    for build in torches.keys() - set(at_hand):
        torches[build].unlink()
    done.uninstall("torch")
    (done.project / ".venv" / ".coqui").unlink(missing_ok=True)
    told = done.make("setup-coqui")
    assert told.returncode == 0, told.stdout + told.stderr
    assert done.installed()["torch"] == version
    assert ("nvidia-made-up" in done.installed()) is cuda
