"""The weights that a configuration's engines download: fetched once, hashed, and told good before anything loads them.

What comes in packages is not here: its hashes are pinned beside the code that loads it.
"""

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from deployments.asr.faster_whisper import FasterWhisperOptions
from deployments.tts.coqui import CoquiOptions
from deployments.tts.coqui_library import download, download_voice
from deployments.tts.xtts import XttsOptions
from serve_app.configuration.loading import load_args

MIB = 1024 * 1024
AWAIT_POLL_S = 5.0
TELL_EVERY_S = 10.0
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")
_FAILURES = (OSError, ValueError, RuntimeError, ImportError, httpx.HTTPError)
"""What faster-whisper, Coqui and the hub's client raise when they can't fetch."""
Tell = Callable[[str], None]


class WeightsError(Exception):
    """Weights are missing or not what they should be; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Source:
    """What one engine loads, and how to bring it onto this machine."""

    kind: str
    model: str
    bring: Callable[[], tuple[Path, ...]]
    """Folders or files that hold the weights, fetched if they were not there."""

    @property
    def name(self) -> str:
        """What its files' names begin with in a list of hashes."""
        return f"{self.kind}/{self.model.strip('/').replace('/', '--')}"


def sources(args: Mapping[str, Any], environ: Mapping[str, str]) -> list[Source]:
    """What the engines of these `args` load from outside of packages; environment variables win over `args`.

    Raises:
        ConfigError: naming the wrong field.
    """
    config = load_args(args, environ)
    found = []
    if isinstance(config.asr, FasterWhisperOptions) and config.asr.model != "embedded":
        whisper = config.asr.model
        found.append(Source("asr", whisper, lambda: (_whisper(whisper),)))
    if isinstance(config.tts, XttsOptions):
        xtts = config.tts
        found.append(Source("tts", xtts.model, lambda: (_xtts(xtts),)))
    if isinstance(config.tts, CoquiOptions):
        coqui = config.tts
        found.append(Source("tts", coqui.model, lambda: _coqui(coqui)))
    return found


def fetch(found: list[Source], sums: Path, tell: Tell, cache: Path | None = None) -> None:
    """Bring all weights here. Compare them with `sums`; what it doesn't list yet is added to it, as the last thing.

    Args:
        found: from `sources`.
        sums: as `sha256sum` writes them, with names like asr/medium/model.bin.
        tell: takes a line.
        cache: the folder that downloads go to, whose growth is told; None: nothing is told of it.

    Raises:
        WeightsError: something can't be fetched, or is not what `sums` or the hub says.
    """
    wanted = _read(sums) if sums.exists() else {}
    hashes = {source: _hashes(source, tell, cache) for source in found}
    new: dict[str, str] = {}
    for source, of_source in hashes.items():
        if _listed(source, wanted):
            _compare(source, of_source, wanted, sums)
            tell(f"{source.name}: all {len(of_source)} files are those of {sums}")
        else:
            new |= of_source
    if new:
        _write(sums, wanted | new)
        tell(f"added {len(new)} hashes to {sums}: keep it, and give it next time to get the same files")


def await_fetched(
    found: list[Source],
    sums: Path,
    tell: Tell,
    wait_s: float,
    *,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> None:
    """Wait until somebody else has fetched the weights, then compare them with `sums`. Writes nothing.

    Raises:
        WeightsError: they are not there after `wait_s`, or not what `sums` says.
    """
    give_up_s = now() + wait_s
    while lacking := _lacking(found, sums):
        if now() >= give_up_s:
            raise WeightsError(f"{lacking} not listed in {sums} after {wait_s:.0f} s: see what `livedub fetch` says")
        tell(f"waiting for `livedub fetch` to list {lacking} in {sums}")
        sleep(min(AWAIT_POLL_S, max(give_up_s - now(), 0.0)))
    wanted = _read(sums)
    for source in found:
        hashes = _hashes(source, tell, None)
        _compare(source, hashes, wanted, sums)
        tell(f"{source.name}: all {len(hashes)} files are those of {sums}")


def _lacking(found: list[Source], sums: Path) -> str:
    """Names of the sources that `sums` doesn't list yet."""
    wanted = _read(sums) if sums.exists() else {}
    return ", ".join(source.name for source in found if not _listed(source, wanted))


def _hashes(source: Source, tell: Tell, cache: Path | None) -> dict[str, str]:
    tell(f"{source.name}: fetching what is not here yet" if cache else f"{source.name}: reading")
    hashes: dict[str, str] = {}
    try:
        with _growth_told(cache, tell):
            places = source.bring()
        for name, path in [pair for place in places for pair in _files(place).items()]:
            hashes[f"{source.name}/{name}"] = sha256 = _sha256(path)
            tell(f"{source.name}/{name}: {path.stat().st_size / MIB:.1f} MiB, SHA-256 {sha256}")
    except _FAILURES as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise WeightsError(f"{source.name} can't be had: {reason}") from None
    if not hashes:
        raise WeightsError(f"{source.name}: no files in {', '.join(map(str, places))}")
    return hashes


def _files(place: Path) -> dict[str, Path]:
    """Files by name; a file that was named itself goes by its folder's name too, since a vocoder's may be the same."""
    if place.is_file():
        return {f"{place.parent.name}/{place.name}": place}
    return {str(path.relative_to(place)): path for path in sorted(place.rglob("*")) if path.is_file()}


def _sha256(path: Path) -> str:
    """The file's hash, once it is what the hub said: large files lie in its cache under their hashes."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    declared = path.resolve().name
    if _SHA256.fullmatch(declared) and declared != found:
        raise WeightsError(f"{path} is damaged: its SHA-256 is {found}, the hub says {declared}; delete it")
    return found


def _read(sums: Path) -> dict[str, str]:
    try:
        lines = sums.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{sums} can't be read: {error}") from None
    wanted = {}
    for number, line in enumerate(lines, start=1):
        parts = _LINE.fullmatch(line)
        if parts is None:
            raise WeightsError(f"{sums}, line {number}: needs 64 hexadecimal digits, two spaces and a name")
        wanted[parts[2]] = parts[1]
    return wanted


def _write(sums: Path, hashes: Mapping[str, str]) -> None:
    part = sums.with_name(sums.name + ".part")
    try:
        part.write_text("".join(f"{sha256}  {name}\n" for name, sha256 in sorted(hashes.items())), encoding="utf-8")
        part.replace(sums)
    except OSError as error:
        raise WeightsError(f"{sums} can't be written: {error.strerror}") from None


def _listed(source: Source, wanted: Mapping[str, str]) -> set[str]:
    return {name for name in wanted if name.startswith(f"{source.name}/")}


def _compare(source: Source, hashes: Mapping[str, str], wanted: Mapping[str, str], sums: Path) -> None:
    listed = _listed(source, wanted)
    wrong = [
        *(f"{name} is missing" for name in sorted(listed - hashes.keys())),
        *(f"{name} is not in the list" for name in sorted(hashes.keys() - listed)),
        *(
            f"{name} has SHA-256 {hashes[name]}, expected {wanted[name]}"
            for name in sorted(listed & hashes.keys())
            if hashes[name] != wanted[name]
        ),
    ]
    if wrong:
        raise WeightsError(f"these are not the weights of {sums}: {'; '.join(wrong)}")


@contextmanager
def _growth_told(cache: Path | None, tell: Tell) -> Iterator[None]:
    """While this is open, say now and then how much has come."""
    if cache is None:
        yield
        return
    done = threading.Event()
    before = _size_bytes(cache)  # here: on a busy machine the thread may begin after the first bytes have come

    def watch() -> None:
        while not done.wait(TELL_EVERY_S):
            tell(f"fetched {(_size_bytes(cache) - before) / MIB:.0f} MiB")

    watcher = threading.Thread(target=watch, daemon=True, name="livedub-fetch")
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _size_bytes(folder: Path) -> int:
    size = 0
    for path in folder.rglob("*"):
        try:
            size += path.stat().st_size if path.is_file() and not path.is_symlink() else 0
        except OSError:  # a download's own temporary file has gone
            continue
    return size


def _whisper(model: str) -> Path:
    if Path(model).is_dir():
        return Path(model)
    from faster_whisper.utils import download_model  # noqa: PLC0415  an optional dependency

    return Path(download_model(model))


def _xtts(options: XttsOptions) -> Path:
    if Path(options.model).is_dir():
        return Path(options.model)
    return download(options.model, accept_licence=options.accept_cpml)


def _coqui(options: CoquiOptions) -> tuple[Path, ...]:
    if Path(options.model).is_dir():
        return (Path(options.model),)
    files = download_voice(options.model, accept_noncommercial=options.accept_noncommercial)
    return tuple(path for path in (files.checkpoint, files.config, files.vocoder, files.vocoder_config) if path)
