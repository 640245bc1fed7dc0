"""What a voice makes of numbers and the like: `python -m bench.spoken`.

For each sentence of tests/data/text the phonemes that espeak-ng makes of what is written, and of what
`deployments.text` makes of it, against those of the words that a person would say. Kokoro pronounces by the same
espeak-ng. Prints the shares that are said right, and leaves bench/results/spoken.json.
"""

import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.report import write
from deployments.text.spoken import in_words

TABLES = Path(__file__).parents[1] / "tests" / "data" / "text"
LANGUAGES = {"es": ("es", "Dijo que eran {}, nada más."), "en": ("en-us", "They said it was {}, no more.")}


def phonemes(text: str, voice: str) -> str:
    """As espeak-ng says it, without stress and pauses, which depend on the punctuation."""
    said = subprocess.run(["espeak-ng", "-q", "--ipa", "-v", voice, text], check=True, capture_output=True, text=True)
    return "".join(character for character in said.stdout if character not in "ˈˌ \n")


def main() -> int:
    """Measure."""
    table = Table("language", "sentences", "as written", "normalised", title="Said as a person would")
    figures = {}
    for language, (voice, frame) in LANGUAGES.items():
        rows = [line.split("\t") for line in (TABLES / f"spoken_{language}.tsv").read_text("utf-8").splitlines()]
        right = {"as_written": 0, "normalised": 0}
        for written, words in rows:
            wanted = phonemes(frame.format(words), voice)
            right["as_written"] += phonemes(frame.format(written), voice) == wanted
            right["normalised"] += phonemes(in_words(frame.format(written), language), voice) == wanted
        figures[language] = {"sentences": len(rows), **right}
        shares = (f"{count / len(rows):.0%}" for count in right.values())
        table.add_row(language, str(len(rows)), *shares)
    write("spoken", figures)
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
