"""The files that a dub leaves: their names, and whether they can be written. Looked at before any work is done."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deployments.media.planning import check_target
from deployments.media.targets import TARGETS, OutputRefused, Plan
from deployments.media.tracks import MediaInfo

_SAMPLE_BYTES = 2
_ENCODED_BYTES_A_S = 24_000
"""Of a dubbed track in the output: more than any codec takes by itself but for WAV and FLAC."""
_BARE = {".wav", ".flac"}
_PARTIAL = ".partial"


@dataclass(frozen=True, slots=True)
class Outputs:
    """The files of one run."""

    media: Path
    captions: dict[tuple[str, str], Path]
    """Subtitles by language and format."""

    @classmethod
    def beside(
        cls, media: Path, source_language: str, target_languages: Sequence[str], formats: Sequence[str]
    ) -> "Outputs":
        """Subtitles next to the dub, named after the languages: talk.es.mp4 gets talk.en.srt and talk.es.srt."""
        stem = media.stem.removesuffix(f".{'.'.join(target_languages)}")
        # Dubbing into the same language would give both the same name.
        source = source_language if source_language not in target_languages else f"{source_language}.source"
        return cls(
            media,
            {
                (language, kind): media.with_name(f"{stem}.{name}.{kind}")
                for language, name in [(_SOURCE, source), *((target, target) for target in target_languages)]
                for kind in formats
            },
        )

    def partial(self) -> "Outputs":
        """The same for a dub that isn't whole: talk.es.partial.mp4."""
        return Outputs(_partial(self.media), {key: _partial(path) for key, path in self.captions.items()})

    def paths(self) -> list[Path]:
        """All of them."""
        return [self.media, *self.captions.values()]

    def sparing_what_exists(self, others: Sequence[Path] = ()) -> tuple["Outputs", list[Path]]:
        """The same but for subtitles of the original that are there, as of a dub into another language; and these.

        Args:
            others: files that are written besides.

        Raises:
            OutputRefused: something else is there.
        """
        kept = [path for (language, _), path in self.captions.items() if language == _SOURCE and path.exists()]
        outputs = Outputs(self.media, {key: path for key, path in self.captions.items() if path not in kept})
        for path in (*outputs.paths(), *others):
            if path.exists():
                raise OutputRefused(f"{path} exists: name another output with -o, or overwrite with --force")
        return outputs, kept


_SOURCE = ""
"""In the keys of captions: the language that is spoken in the original, whatever it is."""


def check_room(outputs: Outputs, info: MediaInfo, n_languages: int, others: Sequence[Path] = ()) -> None:
    """Find out before any work is done whether the outputs can be written.

    Args:
        outputs: to be written.
        info: of the input.
        n_languages: that it is dubbed into.
        others: files that are written besides.

    Raises:
        OutputRefused: a name is too long, a folder can't be written to, or there is too little space.
    """
    for path in [*outputs.partial().paths(), *others]:
        folder = path.parent
        if not folder.is_dir():
            raise OutputRefused(f"There is no folder {folder}: create it or name another output")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputRefused(f"Can't write into {folder}: name another output with -o")
        longest = os.pathconf(folder, "PC_NAME_MAX")
        if len(os.fsencode(path.name)) > longest:
            raise OutputRefused(
                f"The name {path.name} has {len(os.fsencode(path.name))} bytes and {folder} takes {longest}: "
                "name a shorter output with -o"
            )
        if path.is_dir():
            raise OutputRefused(f"{path} is a folder: name another output")
    needed, free = _needed_bytes(outputs.media, info, n_languages), shutil.disk_usage(outputs.media.parent).free
    if needed > free:
        raise OutputRefused(
            f"The dub and what it needs on the way take about {needed / 1e6:.0f} MB, and {outputs.media.parent} has "
            f"{free / 1e6:.0f} MB left: make room, or name another output with -o"
        )


def _needed_bytes(media: Path, info: MediaInfo, n_languages: int) -> int:
    seconds = info.duration_s or 0.0
    bare = seconds * info.sample_rate_hz * info.channels * _SAMPLE_BYTES
    encoded = bare if media.suffix.lower() in _BARE else seconds * _ENCODED_BYTES_A_S
    copied = info.path.stat().st_size if info.picture is not None else 0
    return round(n_languages * (bare + encoded) + copied)


def default_target(info: MediaInfo, languages: Sequence[str], *, keep_original: bool = False) -> Plan:
    """Next to the input, in its format where that can be written, else as .mkv or .wav.

    Raises:
        OutputRefused: not even so.
    """
    stem = f"{info.path.stem}.{'.'.join(languages)}"
    suffix = info.path.suffix.lower()
    if suffix not in TARGETS or (info.picture is not None and not TARGETS[suffix].video):
        suffix = ".mkv" if info.picture is not None else ".wav"
    try:
        return check_target(info.path.with_name(stem + suffix), info, keep_original=keep_original)
    except OutputRefused:
        return check_target(info.path.with_name(f"{stem}.mkv"), info, keep_original=keep_original)


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.stem}{_PARTIAL}{path.suffix}")
