"""Files that come with livedub: configurations, voices, the demo's clip. Where they lie is decided here alone.

In a checkout they are the project's own; a wheel has copies of them within `serve_app`.
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_IN_WHEEL = (_PACKAGE / "configs").is_dir()
PROJECT_DIR = _PACKAGE if _IN_WHEEL else _PACKAGE.parent
"""Where the folder `configs` is. Relative paths in configurations start here."""
CONFIGS = PROJECT_DIR / "configs"
CLIP = PROJECT_DIR / ("speech" if _IN_WHEEL else "tests/data/speech") / "two_cities.flac"
"""44 seconds of English, for the demo."""


def names() -> list[str]:
    """Of the shipped configurations."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def configuration(given: Path) -> Path:
    """The file that is given, from where the user is, or the shipped one of that name: `echo` is configs/echo.yaml."""
    return CONFIGS / f"{given}.yaml" if str(given) in names() and not given.is_file() else given
