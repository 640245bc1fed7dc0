"""Apertium's installed translation modes: which there are, and what each runs.

A mode file holds one shell pipeline. Nothing of it is given to a shell: it is split into programs and arguments.
"""

import re
import shlex
import shutil
from pathlib import Path

_PAIR = re.compile(r"([a-z]{2,3})-([a-z]{2,3})")
"""Full name of a mode that translates; variants (`spa-eng_US`) and debugging modes have more to it."""

_ISO_639_1 = {
    "afr": "af", "ara": "ar", "arg": "an", "bel": "be", "ben": "bn", "bre": "br", "bul": "bg", "cat": "ca",
    "ces": "cs", "cym": "cy", "dan": "da", "deu": "de", "ell": "el", "eng": "en", "epo": "eo", "eus": "eu",
    "fin": "fi", "fra": "fr", "gle": "ga", "glg": "gl", "hbs": "sh", "heb": "he", "hin": "hi", "hrv": "hr",
    "hun": "hu", "ind": "id", "isl": "is", "ita": "it", "kaz": "kk", "kir": "ky", "lat": "la", "lit": "lt",
    "lvs": "lv", "mar": "mr", "mkd": "mk", "mlt": "mt", "nld": "nl", "nno": "nn", "nob": "nb", "oci": "oc",
    "pan": "pa", "pol": "pl", "por": "pt", "ron": "ro", "rus": "ru", "slk": "sk", "slv": "sl", "sme": "se",
    "spa": "es", "sqi": "sq", "srd": "sc", "srp": "sr", "swe": "sv", "tat": "tt", "tur": "tr", "ukr": "uk",
    "urd": "ur", "uzb": "uz", "zlm": "ms",
}  # fmt: skip
"""Apertium's codes to the wire's; codes of two letters are taken as they are."""


def default_directory() -> Path:
    """Where the installed Apertium keeps its modes. Raises FileNotFoundError when it isn't installed."""
    program = shutil.which("lt-proc")
    if program is None:
        raise FileNotFoundError("Apertium's lt-proc is not on the PATH: apt-get install apertium apertium-eng-spa")
    return Path(program).parent.parent / "share" / "apertium" / "modes"


def installed(directory: Path) -> dict[tuple[str, str], Path]:
    """(source, target) base languages to their mode files."""
    pairs = {}
    for path in sorted(directory.glob("*.mode")):
        match = _PAIR.fullmatch(path.stem)
        if match:
            source, target = (code if len(code) == 2 else _ISO_639_1.get(code) for code in match.groups())  # noqa: PLR2004
            if source and target:
                pairs[source, target] = path
    return pairs


def commands(mode: str) -> list[list[str]]:
    """The programs of a mode file's text, each with the switch that has it flush at NUL bytes.

    `$1` of a mode stands for the generator's switch, and -n hides the asterisk before unknown words; `$2` for the
    tagger's, which needs none.
    """
    chain: list[list[str]] = [[]]
    words = shlex.shlex(mode, posix=True, punctuation_chars="|")
    words.whitespace_split = True
    for word in words:
        if word == "|":
            chain.append([])
        elif word != "$2":
            chain[-1].append("-n" if word == "$1" else word)
    return [[program, "-z", *(word for word in arguments if word != "-z")] for program, *arguments in chain]
