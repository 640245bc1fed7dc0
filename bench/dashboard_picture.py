"""A picture of the Grafana dashboard: `python -m bench.dashboard_picture [--seconds 120]`.

A real server with fake models and a stand-in for DeepL gets a load of all kinds; Debian's Prometheus scrapes it the way
the PodMonitor does. Then each panel of the dashboard's JSON is drawn at its place, from Prometheus' answers to the
panel's own expressions. It is no screenshot: Grafana draws more finely, but shows the same lines. Leaves
docs/dashboard.png.
"""

import argparse
import asyncio
import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from PIL import Image

from tests.support.dashboard import Panel, dashboard, filled, panels
from tests.support.deepl_stub import deepl_stub
from tests.support.prometheus import Prometheus, local_config, prometheus
from tests.support.server import edited, start
from tests.support.variety import Load, with_deepl

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "dashboard.png"
CHANGES: dict[str, Any] = {"args.asr.delay_ms": 150, "args.translation.breaker_pause_s": 15, "args.tts.delay_ms": 250}
STREAMS, OUTAGE = 6, (0.5, 0.65)
INTERVAL_S = 2
RATE_INTERVAL = "20s"
JOB = "livedub"
COLUMNS, UNIT_INCHES, LINE_INCHES, DPI = 24, 0.58, 0.4, 84
GROUND, CARD, INK, FAINT = "#111217", "#181b1f", "#d8d9da", "#6e7077"
COLORS = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#ffa6b0")
NAMED = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c"}
TEXT_SIZE = 7
PALETTE = 96

Lines = list[tuple[str, list[float], list[float]]]
"""Legend, times in s and values."""


def lines(panel: Panel, seen: Prometheus, start_s: float, end_s: float) -> Lines:
    """What Prometheus answers over the time of the load."""
    found: Lines = []
    for expression, legend in panel.expressions:
        asked = filled(expression, JOB, RATE_INTERVAL)
        for entry in seen.series(asked, start_s, end_s, INTERVAL_S):
            times, values = zip(*((float(at), float(value)) for at, value in entry["values"]), strict=True)
            found.append((_legend(legend, entry["metric"]), list(times), list(values)))
    return sorted(found)


def _legend(form: str, labels: Mapping[str, str]) -> str:
    for name, value in labels.items():
        form = form.replace("{{" + name + "}}", value)
    return form


def told(value: float, unit: str) -> str:
    """A number as Grafana tells it in this unit."""
    if unit == "percentunit":
        return f"{value * 100:.1f} %"
    suffix = {"s": " s", "percent": " %", "cps": "/s"}.get(unit, "")
    return f"{value:.3g}{suffix}"


def steps(panel: Panel) -> Iterator[tuple[float, str]]:
    """Thresholds with their colours, the base first."""
    for step in panel.field["thresholds"]["steps"]:
        yield -math.inf if step["value"] is None else step["value"], NAMED[step["color"]]


def draw_stat(axes: Axes, panel: Panel, found: Lines) -> None:
    """The newest value, in the colour of its threshold."""
    axes.set_axis_off()
    values = [value for _, _, series in found for value in series if math.isfinite(value)]
    if not values:
        axes.text(0.5, 0.45, "No data", color=FAINT, ha="center", va="center", fontsize=11)
        return
    newest = next(value for value in reversed(found[0][2]) if math.isfinite(value))
    color = [color for least, color in steps(panel) if newest >= least][-1]
    named = [mapping["options"].get(f"{newest:.0f}") for mapping in panel.field.get("mappings", ())]
    text = named[0]["text"] if named and named[0] else told(newest, panel.field["unit"])
    axes.text(0.5, 0.45, text, color=color, ha="center", va="center", fontsize=17, weight="bold")


def draw_series(axes: Axes, panel: Panel, found: Lines) -> None:
    """Lines over time, stacked where the panel says so, with the thresholds it shows."""
    custom, unit = panel.field["custom"], panel.field["unit"]
    if not found:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "No data", color=FAINT, ha="center", va="center", fontsize=11)
        return
    below: dict[float, float] = {}
    for (name, times, values), color in zip(found, COLORS * (1 + len(found) // len(COLORS)), strict=False):
        at, top = [datetime.fromtimestamp(second, UTC) for second in times], values
        if custom["stacking"]["mode"] == "normal":
            base = [below.get(t, 0.0) for t in times]
            top = [under + value for under, value in zip(base, values, strict=True)]
            axes.fill_between(at, base, top, color=color, alpha=0.25, lw=0)  # type: ignore[arg-type]
            below |= dict(zip(times, top, strict=True))
        style = "steps-post" if custom["lineInterpolation"] == "stepAfter" else "default"
        axes.plot(at, top, color=color, lw=1.1, label=name, drawstyle=style)  # type: ignore[arg-type]
    if custom["thresholdsStyle"]["mode"] == "line":
        for least, color in steps(panel):
            if math.isfinite(least):
                axes.axhline(least, color=color, lw=0.8, ls="--")
    axes.set_ylim(bottom=panel.field.get("min"))
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M:%S"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: told(value, unit)))
    axes.locator_params(axis="y", nbins=4)
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
    axes.tick_params(colors=FAINT, labelsize=TEXT_SIZE - 1, length=0)
    axes.grid(color="#2c3235", lw=0.5)
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=4, fontsize=TEXT_SIZE - 1, frameon=False, labelcolor=INK
    )


def draw_table(axes: Axes, seen: Prometheus, panel: Panel) -> None:
    """The labels of each entry, a line each."""
    axes.set_axis_off()
    entries = seen.query(filled(panel.expressions[0][0], JOB, RATE_INTERVAL))
    for number, entry in enumerate(sorted(entries, key=lambda entry: sorted(entry["metric"].items()))):
        text = "     ".join(f"{name}: {value}" for name, value in sorted(entry["metric"].items(), reverse=True))
        axes.text(0.04, 0.85 - 0.14 * number, text, color=INK, fontsize=TEXT_SIZE + 1)


def draw(seen: Prometheus, start_s: float, end_s: float, path: Path) -> None:
    """The whole dashboard over this time."""
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard()["panels"])
    figure = plt.figure(figsize=(COLUMNS * UNIT_INCHES, height * LINE_INCHES), facecolor=GROUND)
    for row in dashboard()["panels"]:
        if row["type"] == "row":
            y = 1 - (row["gridPos"]["y"] + 0.7) / height
            figure.text(0.006, y, row["title"], color=INK, fontsize=TEXT_SIZE + 3, weight="bold")
    for panel in panels():
        axes = _axes(figure, panel, height)
        if panel.kind == "table":
            draw_table(axes, seen, panel)
            continue
        found = lines(panel, seen, start_s, end_s)
        (draw_stat if panel.kind == "stat" else draw_series)(axes, panel, found)
    figure.savefig(path, dpi=DPI, facecolor=GROUND)
    plt.close(figure)
    shrink(path)


def shrink(path: Path) -> None:
    """Fewer colours: a third of the bytes, and hardly to be seen."""
    with Image.open(path) as drawn:
        few = drawn.convert("RGB").quantize(PALETTE)
    few.save(path, optimize=True)


def _axes(figure: Figure, panel: Panel, height: int) -> Axes:
    """The panel's card with its title, and the place for its content."""
    place = panel.place
    left, width = place["x"] / COLUMNS, place["w"] / COLUMNS
    bottom, high = 1 - (place["y"] + place["h"]) / height, place["h"] / height
    card = figure.add_axes((left + 0.002, bottom + 0.15 / height, width - 0.004, high - 0.3 / height), facecolor=CARD)
    card.set_xticks([])
    card.set_yticks([])
    for spine in card.spines.values():
        spine.set_color("#2c3235")
    card.text(
        0.02, 1 - 0.25 / place["h"], panel.title, transform=card.transAxes, color=INK, fontsize=TEXT_SIZE + 1, va="top"
    )
    inner = (left + 0.022, bottom + 1.5 / height, width - 0.032, high - 2.6 / height)
    if panel.kind != "timeseries":
        inner = (left + 0.002, bottom + 0.2 / height, width - 0.004, high - 1.2 / height)
    axes = figure.add_axes(inner, facecolor=CARD)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def measure(seconds: float, path: Path) -> None:
    """Start everything, load it for this time, draw what Prometheus saw."""
    with tempfile.TemporaryDirectory(prefix="pic") as name, deepl_stub() as stub:
        folder = Path(name)
        changes = with_deepl(stub)
        translation = changes.pop("args.translation")
        environ = {"DEEPL_API_KEY": "k", "RAY_TMPDIR": name}
        config = edited("fakes", {"args.translation": translation} | changes | CHANGES, folder)
        server = start(config, folder / "server.log", environ)
        try:
            [port] = folder.glob("ray/session_latest/metrics_export_port_*")
            exporter = f"127.0.0.1:{port.read_text().strip()}"
            with prometheus(local_config({}, {JOB: exporter}, INTERVAL_S), folder) as seen:
                start_s = time.time()
                asyncio.run(Load(server.url, stub).run(seconds, STREAMS, OUTAGE))
                draw(seen, start_s, time.time(), path)
        finally:
            server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    arguments = parser.parse_args()
    measure(arguments.seconds, arguments.picture)
    print(f"{arguments.picture}: {arguments.picture.stat().st_size // 1000} kB")
