"""Weights that come in packages of third parties: nothing of them is loaded before its hash is checked.

Such packages are uploads by people we don't know. Their versions are pinned, and each file's SHA-256 is pinned beside
the code that loads it, so a changed upload stops a replica while it starts instead of running in it.
"""

import hashlib
from pathlib import Path


class WeightsChanged(Exception):
    """A file is not the one whose hash is pinned."""


def verify(path: Path, sha256: str) -> Path:
    """The path, once the file there is known to be the expected one.

    Args:
        path: a file of any size; it is streamed.
        sha256: 64 hexadecimal digits, in lower case.

    Raises:
        WeightsChanged: it names the file, what was expected and what was found.
        OSError: there is no such file, or it can't be read.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise WeightsChanged(f"{path} has SHA-256 {found}, expected {sha256}: reinstall the package that brings it")
    return path
