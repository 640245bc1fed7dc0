"""Writes bench/REPORT.md from the JSON files in bench/results/, and from nothing else: `python -m bench.summary`.

What was not measured is said to be missing; each target that is missed stands there with its reason. The figures of
docs/figures.md, between two marks, are those of the targets that are headlines. With --quick only
bench/results/quick/REPORT.md is written, from the quick runs.
"""

import argparse
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.measurements import Measurement, catalogue
from bench.report import QUICK_RESULTS, RESULTS
from bench.sentences import told
from bench.tables import markdown, tables, value

REPORT = RESULTS.parent / "REPORT.md"
QUICK_REPORT = QUICK_RESULTS / "REPORT.md"
FIGURES_PAGE = RESULTS.parent.parent / "docs" / "figures.md"
FIGURES = re.compile(r"(<!-- figures: make report -->\n).*?(<!-- end of figures -->)", re.DOTALL)
"""What lies between is written here."""
BUSY_PERCENT = 10
"""Where others take more of the machine's CPU time, times say little."""
TOLD_APART = ("machine", "date", "quick", "foreign_percent", "targets", "missed")
Figures = Mapping[str, Any]


def load(folder: Path) -> dict[str, Figures]:
    """The figures of all measurements that left some, by name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def render(found: Mapping[str, Figures], pictures: Mapping[str, str], *, quick: bool = False) -> str:
    """The report: machine, targets, then a section for each measurement.

    Args:
        found: figures by measurement.
        pictures: the path of a measurement's plot as the report links it.
        quick: whether these are quick runs.
    """
    taken = [one for one in catalogue(found) if one.name in found]
    parts = [
        "# What was measured",
        "Written by `python -m bench.summary` from the files in bench/results/. "
        + ("These are quick runs, with too few samples to go by. " if quick else "")
        + "Times are of a machine that does other things too: what others took of its CPU time stands beside each "
        "measurement, and ratios within one measurement say more than times.",
        _machines(found, taken),
        "## Targets",
        *_targets(found, taken),
        "## Measurements",
        _overview(found, quick=quick),
        *(part for one in taken for part in _section(one, found[one.name], pictures)),
    ]
    return "\n\n".join(parts) + "\n"


def headlines(found: Mapping[str, Figures]) -> str:
    """What docs/figures.md tells: a table of the targets that are headlines."""
    rows = [
        (
            f"{one.title}: {target['what']}",
            _measured(target["found"], target),
            _wanted(target),
            "met" if target["met"] else "**missed**",
        )
        for one in catalogue(found)
        for target in found.get(one.name, {}).get("targets", ())
        if target.get("headline")
    ]
    return markdown(("", "found", "wanted", ""), rows) if rows else "Nothing has been measured yet."


def with_headlines(text: str, found: Mapping[str, Figures]) -> str:
    """The page with the figures of these results."""
    return FIGURES.sub(lambda marks: f"{marks[1]}{headlines(found)}\n{marks[2]}", text)


def write(*, quick: bool = False) -> Path:
    """Write the report anew from what lies in the folder."""
    folder, path = (QUICK_RESULTS, QUICK_REPORT) if quick else (RESULTS, REPORT)
    pictures = {png.stem: png.relative_to(path.parent).as_posix() for png in folder.glob("*.png")}
    folder.mkdir(parents=True, exist_ok=True)
    found = load(folder)
    path.write_text(render(found, pictures, quick=quick), encoding="utf-8")
    if not quick:
        FIGURES_PAGE.write_text(with_headlines(FIGURES_PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
    return path


def _machines(found: Mapping[str, Figures], taken: Sequence[Measurement]) -> str:
    """One line a machine; that of fewer words, from before some were written down, is taken for the same."""
    machines: dict[str, list[str]] = {}
    for one in taken:
        machine = found[one.name]["machine"]
        versions = [f"{name} {version}" for name, version in machine.get("packages", {}).items()]
        memory = [f"{machine['memory_gib']} GiB"] if "memory_gib" in machine else []
        words = [f"{machine['cpu']}, {machine['cores']} cores", *memory, f"Python {machine['python']}", *versions]
        machines.setdefault("; ".join(words), []).append(one.name)
    return "\n".join(f"- {words}: {', '.join(names)}." for words, names in machines.items())


def _targets(found: Mapping[str, Figures], taken: Sequence[Measurement]) -> Iterator[str]:
    rows, missed = [], []
    for one in taken:
        for target in found[one.name].get("targets", ()):
            told = "met" if target["met"] else "**missed**"
            rows.append((one.title, target["what"], _wanted(target), _measured(target["found"], target), told))
            if not target["met"]:
                missed.append(f"- {one.title}: {target['what']}. {target['because'] or 'The reason is not known.'}")
    if not rows:
        yield "None was judged."
        return
    yield f"{len(rows) - len(missed)} of {len(rows)} are met."
    yield markdown(("measurement", "target", "wanted", "found", ""), rows)
    if missed:
        yield "Missed:"
        yield "\n".join(missed)


def _measured(figure: Any, target: Figures) -> str:
    return f"{value(figure)} {target['unit']}".strip()


def _wanted(target: Figures) -> str:
    return f"{'≥' if target['at_least'] else '≤'} {_measured(target['bound'], target)}"


def _overview(found: Mapping[str, Figures], *, quick: bool) -> str:
    rows = []
    for one in catalogue(found):
        figures = found.get(one.name)
        if figures is None and quick and one.minutes is None and one.name != "quality":
            continue
        told = ("not measured", "–") if figures is None else (figures["date"], _foreign(figures))
        link = one.title if figures is None else f"[{one.title}](#{_anchor(one.title)})"
        rows.append((link, f"`{one.command}`", *told))
    return markdown(("", "command", "day", "CPU time of others"), rows)


def _foreign(figures: Figures) -> str:
    if "foreign_percent" not in figures:
        return "not watched"
    told = f"{value(figures['foreign_percent'])} %"
    return f"**{told}**: its times say little" if figures["foreign_percent"] > BUSY_PERCENT else told


def _anchor(title: str) -> str:
    return "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -").replace(" ", "-")


def _section(one: Measurement, figures: Figures, pictures: Mapping[str, str]) -> Iterator[str]:
    yield f"### {one.title}"
    yield one.how
    yield from filter(None, [" ".join(told(one.name, figures))])
    yield from _verdict(figures)
    yield from tables({key: found for key, found in figures.items() if key not in (*TOLD_APART, *one.left_out)})
    if one.name in pictures:
        yield f"![{one.title}]({pictures[one.name]})"


def _verdict(figures: Figures) -> Iterator[str]:
    """Whether the bounds held, where there were some."""
    if targets := figures.get("targets"):
        yield "\n".join(
            f"- {target['what']}: {_measured(target['found'], target)}, "
            f"{'at least' if target['at_least'] else 'at most'} {_measured(target['bound'], target)} wanted"
            + (": **missed**." if not target["met"] else ".")
            for target in targets
        )
    if "missed" in figures:
        held = "All bounds that this measurement is judged by held."
        yield f"**Missed**: {'; '.join(figures['missed'])}." if figures["missed"] else held


def main() -> None:
    """Write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the quick runs")
    path = write(quick=parser.parse_args().quick)
    print(f"written to {os.path.relpath(path)}")


if __name__ == "__main__":
    main()
