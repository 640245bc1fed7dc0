"""Wheels and locks made on the spot: a package index on disk whose every release a test decides."""

import contextlib
import hashlib
import importlib.metadata
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TAGS = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: {}\nTag: {}\n"


def made_up(folder: Path, name: str, version: str, needs: Iterable[str] = (), extras: Iterable[str] = ()) -> Path:
    """A wheel with an empty module, that asks for `needs` and offers `extras`."""
    module = canonicalize_name(name).replace("-", "_")
    info = f"{module}-{version}.dist-info"
    offered = "".join(f"Provides-Extra: {extra}\n" for extra in extras)
    asked = "".join(f"Requires-Dist: {need}\n" for need in needs)
    files = {
        f"{module}.py": b"",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{offered}{asked}".encode(),
        f"{info}/WHEEL": TAGS.format("true", "py3-none-any").encode(),
    }
    return _written(folder / f"{module}-{version}-py3-none-any.whl", info, files.items())


def packed(folder: Path, name: str) -> Path:
    """A wheel of an installed distribution, as it was before it was installed."""
    found = importlib.metadata.distribution(name)
    info = f"{canonicalize_name(found.name).replace('-', '_')}-{found.version}.dist-info"
    scripts = f"{info.removesuffix('.dist-info')}.data/scripts"
    files = {}
    for file in found.files or ():
        outside = ".." in file.parts
        if file.name not in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json") and file.suffix != ".pyc":
            files[f"{scripts}/{file.name}" if outside else file.as_posix()] = Path(str(file.locate())).read_bytes()
    pure = re.search(r"^Root-Is-Purelib: true", found.read_text("WHEEL") or "", re.MULTILINE) is not None
    files[f"{info}/WHEEL"] = TAGS.format(str(pure).lower(), "py3-none-any").encode()
    return _written(folder / f"{info.removesuffix('.dist-info')}-py3-none-any.whl", info, files.items())


def _requires(name: str) -> list[str]:
    """What an installed package asks for; nothing where it isn't installed, for it is for other machines."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.requires(name) or []
    return []


def _written(path: Path, info: str, files: Iterable[tuple[str, bytes]]) -> Path:
    record = ""
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in files:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o100755 << 16
            wheel.writestr(entry, content)
            record += f"{name},,\n"
        wheel.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
    return path


def lock(*wheels: Path) -> str:
    """What `make lock` would write if there were only these."""
    text = ""
    for wheel in wheels:
        name, version = wheel.name.split("-")[:2]
        text += f"{name.replace('_', '-')}=={version} \\\n    --hash=sha256:{_sha256(wheel)}\n"
    return text


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pins(text: str) -> dict[str, str]:
    """Package to version, of a lock."""
    return {
        canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE)
    }


def asked_with_extras(names: Iterable[str], roots: Iterable[str]) -> Iterator[tuple[str, Requirement]]:
    """(asker, what it asks for) among installed packages, wherever that is a package with extras.

    Args:
        names: the packages to look at.
        roots: requirements that choose extras themselves, such as those of the project.
    """
    wanted: dict[str, set[str]] = defaultdict(lambda: {""})
    for root in map(Requirement, roots):
        wanted[canonicalize_name(root.name)] |= root.extras
    needs = {name: list(map(Requirement, _requires(name))) for name in names}
    found: dict[tuple[str, str], Requirement] = {}
    grew = True
    while grew:
        grew = False
        for name, requirements in needs.items():
            for need in requirements:
                holds = any(need.marker is None or need.marker.evaluate({"extra": one}) for one in wanted[name])
                if holds and need.extras and (name, str(need)) not in found:
                    found[name, str(need)] = need
                    wanted[canonicalize_name(need.name)] |= need.extras
                    grew = True
    yield from ((name, need) for (name, _), need in found.items())
