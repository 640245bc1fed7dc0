"""Installs locks as they are: what they pin, checked by hash, nothing resolved, and then sees that it fits together.

    python requirements/install.py [--into PYTHON] [--rather LOCK] LOCK... [--editable FOLDER] [--if-asked LOCK]

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
NOISE = re.compile(r" [+~-] |Using | *(Downloading|Downloaded|Building|Built|Uninstalled) ")
"""What uv says of single packages; a log needn't have it."""


class NotInstalled(Exception):
    """The message says what."""


def main() -> int:
    """The exit code: 0 when all is installed and fits together."""
    parser = argparse.ArgumentParser(description="Install locks as they are.")
    parser.add_argument("locks", nargs="+", metavar="LOCK")
    parser.add_argument("--into", default=sys.executable, metavar="PYTHON", help="whose environment; default: this one")
    parser.add_argument("--rather", metavar="LOCK", help="goes first, and is left out where it can't be had")
    parser.add_argument("--editable", metavar="FOLDER", help="a project to install from its folder, without its needs")
    parser.add_argument("--if-asked", metavar="LOCK", help="installed if what is installed asks for packages of it")
    given = parser.parse_args()
    try:
        install(Installer(given.into), given)
    except NotInstalled as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def install(installer: "Installer", given: argparse.Namespace) -> None:
    """All that is asked for.

    Raises:
        NotInstalled: something could not be, or it doesn't fit together.
    """
    if given.rather:
        installer.tried(*LOCKED, given.rather)
    for lock in given.locks:
        installer.run(*LOCKED, lock)
    if given.editable:
        installer.run("--editable", given.editable)
    amiss = installer.amiss()
    if given.if_asked and asks(amiss, Path(given.if_asked).read_text(encoding="utf-8")):
        installer.run(*LOCKED, given.if_asked)
        amiss = installer.amiss()
    if amiss:
        raise NotInstalled(f"the locked packages don't fit together, so a lock is wrong (make lock):\n{amiss}")


class Installer:
    """uv, or pip where uv can't be had."""

    def __init__(self, python: str) -> None:
        own = [sys.executable, "-m", "pip"]
        bootstrap = [*own, "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
        if subprocess.run([*bootstrap, "-r", INSTALLER_LOCK], check=False).returncode == 0:
            told = pip_configuration()
            elsewhere = ["--no-index"] if told.get("no-index", "").lower() in ("1", "true", "yes", "on") else []
            self._environ = {**environment(told, os.environ), **os.environ}
            self._install = [sys.executable, "-m", "uv", "pip", "install", "--python", python, *elsewhere, *AS_IS]
            self._check = [sys.executable, "-m", "uv", "pip", "check", "--python", python]
        else:
            print("uv can't be had here, so pip installs, which takes longer", file=sys.stderr)
            self._environ = dict(os.environ)
            self._install = [*own, "--python", python, "install", *AS_IS]
            self._check = [*own, "--python", python, "check"]

    def run(self, *what: str) -> None:
        """Install; progress goes to the terminal, and where there is none, a few lines do.

        Raises:
            NotInstalled: it could not be done.
        """
        command = [*self._install, *what]
        if sys.stderr.isatty():
            code = subprocess.run(command, env=self._environ, check=False).returncode
        else:
            with subprocess.Popen(
                command, env=self._environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            ) as running:
                for line in running.stdout or ():
                    if not NOISE.match(line):
                        print(line, end="", file=sys.stderr, flush=True)
            code = running.returncode
        if code:
            raise NotInstalled(f"{what[-1]} could not be installed; the lines above say why")

    def tried(self, *what: str) -> None:
        """Install if that can be done, and say nothing if not."""
        subprocess.run([*self._install, *what], env=self._environ, capture_output=True, check=False)

    def amiss(self) -> str:
        """What installed packages ask for and is not there, a line each; empty when nothing is amiss."""
        done = subprocess.run(self._check, env=self._environ, capture_output=True, text=True, check=False)
        return "" if done.returncode == 0 else (done.stdout + done.stderr).strip()


def pip_configuration() -> dict[str, str]:
    """What pip is told by its files and variables, by option; the more particular place counts."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
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
        # pip passes over a folder that isn't there, uv stops.
        values = [value for value in told.get(option, "").split() if _is_there(value)]
        if values:
            joined = SEPARATORS.get(option, " ").join(values)
            variables |= {name: joined for name in names if name.lower() not in environ}
    return variables


def asks(amiss: str, lock: str) -> bool:
    """Whether something that is amiss is a package of a lock."""
    names = re.findall(r"^[\w.-]+(?===)", lock, re.MULTILINE)
    return any(re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", amiss, re.IGNORECASE) for name in names)


def _is_there(value: str) -> bool:
    path = value.removeprefix("file://")
    return not path.startswith("/") or Path(path).exists()


if __name__ == "__main__":
    sys.exit(main())
