"""Figures as Markdown tables, whatever their shape. PURE."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any

INTERVAL = frozenset({"n", "median", "low", "high"})
"""What `bench.report.median` gives: told in one cell."""
UNITS = (
    ("_percent", " %"), ("_ms", " ms"), ("_per_s", " a second"), ("_s", " s"), ("_mib", " MiB"), ("_gib", " GiB"),
    ("_kib", " KiB"), ("_bytes", " bytes"), ("_hz", " Hz"),
)  # fmt: skip
UNIT_BEFORE = re.compile(r"_(ms|s|percent|mib|kib|bytes)_(?=[a-z])")
Row = tuple[str, dict[str, str]]
_SEPARATOR = ", "


def tables(figures: Mapping[str, Any]) -> Iterator[str]:
    """One table for the figures that stand alone, then one for all rows with the same columns, in order."""
    alone, rows = _rows("", figures)
    if alone:
        yield markdown(("", ""), list(alone.items()))
    groups: dict[tuple[str, ...], list[Row]] = {}
    for label, cells in rows:
        groups.setdefault(tuple(cells), []).append((label, cells))
    for columns, group in groups.items():
        heading = _common([label for label, _ in group])
        yield markdown(
            (_SEPARATOR.join(heading), *columns),
            [(_SEPARATOR.join(label.split(_SEPARATOR)[len(heading) :]), *cells.values()) for label, cells in group],
        )


def _common(labels: Sequence[str]) -> list[str]:
    """What all labels begin with: it heads the column; none of a lone row's."""
    parted = [label.split(_SEPARATOR)[:-1] for label in labels]
    return [same[0] for same in takewhile(lambda names: len(set(names)) == 1, zip(*parted, strict=False))]


def markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; what would break it is escaped."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def named(key: str) -> str:
    """A key as a reader says it: `cpu_ms_a_fragment` is cpu ms a fragment, `p95_ms` is p95 ms."""
    if key.isupper():
        return f"`{key}`"
    key = UNIT_BEFORE.sub(lambda found: f" {'%' if found[1] == 'percent' else found[1].replace('mib', 'MiB')} ", key)
    for ending, unit in UNITS:
        if key.endswith(ending):
            key = key.removesuffix(ending) + unit
            break
    return key.replace("_", " ")


def value(found: Any) -> str:
    """A figure with four digits at most; an interval with its bounds."""
    if _is_interval(found):
        if not found.get("n"):
            return "–"
        return f"{value(found['median'])} ({value(found['low'])} to {value(found['high'])})"
    if found is None or (isinstance(found, float) and found != found):  # noqa: PLR0124 - NaN
        return "–"
    if isinstance(found, bool):
        return "yes" if found else "no"
    if isinstance(found, float):
        return f"{found:.0f}" if abs(found) >= 1000 else f"{found:.4g}"
    return str(found)


def _is_interval(found: Any) -> bool:
    return isinstance(found, Mapping) and (set(found) == INTERVAL or found == {"n": 0})


def _is_cell(found: Any) -> bool:
    if isinstance(found, list):
        return bool(found) and not any(isinstance(one, Mapping) for one in found)
    return not isinstance(found, Mapping) or _is_interval(found)


def _rows(label: str, figures: Mapping[str, Any]) -> tuple[dict[str, str], list[Row]]:
    """What stands in these figures themselves, and the rows of all that is below."""
    own: dict[str, str] = {}
    below: list[Row] = []
    for key, found in figures.items():
        if _is_cell(found):
            own[named(key)] = _SEPARATOR.join(map(value, found)) if isinstance(found, list) else value(found)
            continue
        parts = [("", found)] if isinstance(found, Mapping) else [_titled(n, one) for n, one in enumerate(found, 1)]
        for title, part in parts:
            name = _SEPARATOR.join(one for one in (label, named(key), title) if one)
            cells, more = _rows(name, part)
            below += [*([(name, cells)] if cells else []), *more]
    return own, below


def _titled(number: int, figures: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """A row of a list is called by its first figure where that is a word, or by its place."""
    key, first = next(iter(figures.items()), ("", None))
    if not isinstance(first, str):
        return f"{number}", figures
    return first, {other: found for other, found in figures.items() if other != key}
