"""Makes coqui.lock and cuda.lock of what prod.lock has on top of dev.lock; a part of `make lock`.

    python requirements/coqui.py [TORCH_WHEEL...]

CUDA's libraries stand in cuda.lock and are installed where torch asks for them. Its CPU builds, of the same version,
don't, and the index that `make lock` reads may not have them, so their hashes are added here: of the wheels given, and
of those that coqui.lock has for the same version.
"""

import hashlib
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
CUDA = re.compile(r"nvidia-|cuda-|triton==")


def entries(lock: Path) -> dict[str, str]:
    """By name and version: the lines of a lock, hashes included."""
    text = lock.read_text(encoding="utf-8") if lock.is_file() else ""
    found = re.split(r"^(?=\w)", text, flags=re.MULTILINE)
    return {entry.split()[0]: entry.rstrip() for entry in found if re.match(r"\w", entry)}


def hashes(entry: str) -> list[str]:
    """The SHA-256 hashes of an entry."""
    return re.findall(r"--hash=sha256:(\w+)", entry)


def main() -> None:
    """Write both locks."""
    wheels = [Path(name) for name in sys.argv[1:]]
    there = {**entries(HERE / "dev.lock"), **entries(HERE / "build.lock")}
    before = entries(HERE / "coqui.lock")
    added = {name: entry for name, entry in entries(HERE / "prod.lock").items() if name not in there}
    torch = next(name for name in added if name.startswith("torch=="))
    builds = [hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels] + hashes(before.get(torch, ""))
    known = hashes(added[torch])
    added[torch] += "".join(f" \\\n    --hash=sha256:{build}" for build in dict.fromkeys(builds) if build not in known)
    for name, wanted in (("coqui.lock", False), ("cuda.lock", True)):
        chosen = [entry for pin, entry in added.items() if bool(CUDA.match(pin)) is wanted]
        (HERE / name).write_text("\n".join(chosen) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
