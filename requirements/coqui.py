"""Makes coqui.lock and cuda.lock of what prod.lock has on top of dev.lock; a part of `make lock`.

    python requirements/coqui.py [TORCH_WHEEL...]

CUDA's libraries stand in cuda.lock and are installed where torch asks for them. Its CPU builds, of the same version but
for a `+cpu`, don't. They stand in torch-cpu.lock, which is written anew when such wheels are given: where they come
from differs from machine to machine.
"""

import hashlib
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
CUDA = re.compile(r"nvidia-|cuda-|triton==")


def entries(lock: str) -> dict[str, str]:
    """By name and version: the lines of a lock, hashes included."""
    found = re.split(r"^(?=\w)", (HERE / lock).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {entry.split()[0]: entry for entry in found if entry}


def main() -> None:
    """Write the locks."""
    there = {**entries("dev.lock"), **entries("build.lock")}
    added = {pin: entry for pin, entry in entries("prod.lock").items() if pin not in there}
    for lock, wanted in (("coqui.lock", False), ("cuda.lock", True)):
        chosen = [entry for pin, entry in added.items() if bool(CUDA.match(pin)) is wanted]
        (HERE / lock).write_text("".join(chosen), encoding="utf-8")
    wheels = [Path(name) for name in sys.argv[1:]]
    if wheels:
        (version,) = {wheel.name.split("-")[1] for wheel in wheels}
        hashes = sorted(hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels)
        lines = [f"torch=={version}", *(f"    --hash=sha256:{one}" for one in hashes)]
        (HERE / "torch-cpu.lock").write_text(" \\\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
