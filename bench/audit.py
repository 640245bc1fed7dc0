"""Known vulnerabilities of the locked packages: `python -m bench.audit`, which `make audit` runs after bandit.

Ends with 1 when one is found, and with 2 when a package could not be looked up: pip-audit itself calls that a pass.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
LOCKS: dict[str, tuple[str, ...]] = {
    "requirements/dev.lock": ("--require-hashes", "--disable-pip"),
    "requirements/coqui.lock": ("--require-hashes", "--disable-pip"),
    "requirements/build.lock": ("--require-hashes", "--disable-pip"),
    "requirements/installer.lock": ("--require-hashes", "--disable-pip"),
}
"""With what pip-audit needs to read each file without installing it."""
TIMEOUT_S = 600
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Audit:
    """What came of one file."""

    looked_up: int
    unknown: list[str]
    """Packages of which the service said nothing, or why it didn't answer at all."""
    vulnerable: list[str]

    @property
    def exit_code(self) -> int:
        """As `main` ends."""
        return 1 if self.vulnerable else 2 if self.unknown or not self.looked_up else 0


def read(report: dict[str, Any]) -> Audit:
    """pip-audit's report in JSON."""
    packages = report["dependencies"]
    known = [package for package in packages if "skip_reason" not in package]
    return Audit(
        len(known),
        [package["name"] for package in packages if "skip_reason" in package],
        [
            f"{package['name']} {package['version']}: {found['id']}, fixed in {', '.join(found['fix_versions']) or '–'}"
            for package in known
            for found in package["vulns"]
        ],
    )


def audit(path: str, options: tuple[str, ...]) -> Audit:
    """Ask about every package of one file."""
    command = [sys.executable, "-m", "pip_audit", "-r", path, *options, "-f", "json", "--progress-spinner", "off"]
    done = subprocess.run(  # nosec B603 - a fixed command
        command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    try:
        return read(json.loads(done.stdout))
    except json.JSONDecodeError:
        return Audit(0, [(done.stderr.strip() or "pip-audit said nothing").splitlines()[-1][:300]], [])


def told(path: str, found: Audit) -> str:
    """One sentence, and a line for each vulnerability."""
    if found.unknown:
        names = ", ".join(found.unknown[:SHOWN]) + (", …" if len(found.unknown) > SHOWN else "")
        missing = f"NOT AUDITED: the service did not answer for {len(found.unknown)} of them ({names})"
    else:
        missing = "all of them answered for"
    lines = [f"{path}: {found.looked_up} packages looked up, {len(found.vulnerable)} vulnerabilities, {missing}."]
    return "\n  ".join([*lines, *found.vulnerable])


def main() -> None:
    """Audit every lock."""
    worst: list[int] = []
    for path, options in LOCKS.items():
        found = audit(path, options)
        print(told(path, found))
        worst.append(found.exit_code)
    sys.exit(1 if 1 in worst else max(worst))


if __name__ == "__main__":
    main()
