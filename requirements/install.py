"""Installs locks as they are: what they pin, checked by hash, nothing resolved, and then sees that it fits together.

    python requirements/install.py [--into PYTHON] [--editable FOLDER] LOCK... [--if-asked LOCK]

uv does it, itself pinned in installer.lock and put beside the Python that runs this; where there is no uv for the
machine, pip does it, more slowly. Needs that Python with pip and nothing else. What pip is told by its configuration
about where packages come from holds for uv too. Locks go in one after the other: what builds comes first.
"""

import argparse
import ast
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

INSTALLER_LOCK = Path(__file__).with_name("installer.lock")
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
AS_IS = ("--no-deps", "--no-build-isolation")
LOCKED = ("--require-hashes", "-r")
PIP_TO_UV = {
    "index-url": ("UV_DEFAULT_INDEX",),
    "extra-index-url": ("UV_INDEX",),
    "find-links": ("UV_FIND_LINKS",),
    "trusted-host": ("UV_INSECURE_HOST",),
    "proxy": ("HTTP_PROXY", "HTTPS_PROXY"),
    "cert": ("SSL_CERT_FILE",),
    "client-cert": ("SSL_CLIENT_CERT",),
    "timeout": ("UV_HTTP_TIMEOUT",),
}
"""Options of pip to the variables by which uv takes the same."""
SEPARATORS = {"find-links": ","}
"""Between several values; a space for all other options."""
NOISE = re.compile(r" [+~-] |Using ")
"""Lines of uv, one for each package, that a log needn't have."""


def main() -> int:
    """The exit code: 0 when all is installed and fits together."""
    parser = argparse.ArgumentParser(description="Install locks as they are.")
    parser.add_argument("locks", nargs="+", metavar="LOCK")
    parser.add_argument("--into", default=sys.executable, metavar="PYTHON", help="whose environment; default: this one")
    parser.add_argument("--editable", metavar="FOLDER", help="a project to install from its folder, without its needs")
    parser.add_argument("--if-asked", metavar="LOCK", help="installed if what is installed asks for packages of it")
    given = parser.parse_args()
    installer = Installer(given.into)
    for lock in given.locks:
        if not installer.install(*LOCKED, lock):
            return _failed(f"{lock} could not be installed; what is said above is why")
    if given.editable and not installer.install("--editable", given.editable):
        return _failed(f"{given.editable} could not be installed; what is said above is why")
    amiss = installer.amiss()
    if given.if_asked and _asked(amiss, Path(given.if_asked)):
        if not installer.install(*LOCKED, given.if_asked):
            return _failed(f"{given.if_asked} could not be installed; what is said above is why")
        amiss = installer.amiss()
    if amiss:
        return _failed(f"the locked packages don't fit together, so the lock is wrong (make lock):\n{amiss}")
    return 0


class Installer:
    """uv, or pip where uv can't be had."""

    def __init__(self, python: str) -> None:
        own = [sys.executable, "-m", "pip"]
        bootstrap = [*own, "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
        if subprocess.run([*bootstrap, "-r", INSTALLER_LOCK], check=False).returncode == 0:
            told = pip_configuration()
            elsewhere = ["--no-index"] if told.get("no-index", "").lower() in ("1", "true", "yes", "on") else []
            self._environ = {**environment(told, os.environ), **os.environ}
            self._install = [sys.executable, "-m", "uv", "pip", "install", "--python", python, *elsewhere]
            self._check = [sys.executable, "-m", "uv", "pip", "check", "--python", python]
        else:
            print("uv can't be had here, so pip installs, which takes longer", file=sys.stderr)
            self._environ = dict(os.environ)
            self._install = [*own, "--python", python, "install"]
            self._check = [*own, "--python", python, "check"]

    def install(self, *options: str) -> bool:
        """Whether it went well. Progress goes to the terminal; where there is none, a few lines do."""
        command = [*self._install, *AS_IS, *options]
        if sys.stderr.isatty():
            return subprocess.run(command, env=self._environ, check=False).returncode == 0
        with subprocess.Popen(
            command, env=self._environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as running:
            for line in running.stdout or ():
                if not NOISE.match(line):
                    print(line, end="", file=sys.stderr, flush=True)
        return running.returncode == 0

    def amiss(self) -> str:
        """What installed packages ask for and is not there, a line each; empty when nothing is amiss."""
        done = subprocess.run(self._check, env=self._environ, capture_output=True, text=True, check=False)
        return "" if done.returncode == 0 else (done.stdout + done.stderr).strip()


def pip_configuration() -> dict[str, str]:
    """What pip is told by its files and variables, by option; the more particular place counts."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for place, option, value in re.findall(r"^(global|install|:env:)\.([\w-]+)=(.*)$", listed, re.MULTILINE):
        found[place][option] = str(ast.literal_eval(value))
    return {**found["global"], **found["install"], **found[":env:"]}


def environment(told: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """The variables by which uv takes packages from where pip would."""
    # As pip: the best version of all indexes, not of the first that has the name. The hash decides what is let in.
    variables = {"UV_INDEX_STRATEGY": "unsafe-best-match"}
    if SYSTEM_CERTIFICATES.is_file():
        variables["UV_SYSTEM_CERTS"] = "1"
    for option, names in PIP_TO_UV.items():
        value = SEPARATORS.get(option, " ").join(told.get(option, "").split())
        variables |= {name: value for name in names if value and name.lower() not in environ}
    return variables


def _asked(amiss: str, lock: Path) -> bool:
    names = re.findall(r"^[\w.-]+(?===)", lock.read_text(encoding="utf-8"), re.MULTILINE)
    return any(re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", amiss, re.IGNORECASE) for name in names)


def _failed(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
