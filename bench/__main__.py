"""All measurements of `make bench`, one after the other, then the report: `python -m bench [--quick] [--only NAME …]`.

Goes on after one that fails, and ends with 1 and its name. A target that is missed is no failure: the report says so.
"""

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from rich.console import Console

from bench import summary
from bench.measurements import MEASUREMENTS, Measurement

QUICK_MINUTES = 0.7
PATIENCE = 4.0
"""How many times as long as planned one may take before it is ended."""
LAST_WORDS_S = 120.0
"""For what is ended to stop its server."""
Run = Callable[[Measurement, bool], int]


def main() -> None:
    """Measure, then write the report."""
    planned = {one.module: one for one in MEASUREMENTS if one.minutes is not None}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few samples; results go to bench/results/quick/")
    usual = [name for name, one in planned.items() if not one.by_name]
    parser.add_argument(
        "--only", nargs="+", choices=planned, default=usual, metavar="NAME", help=f"of {', '.join(planned)}"
    )
    asked = parser.parse_args()
    failed = measure([planned[name] for name in asked.only], run, quick=asked.quick)
    path = summary.write(quick=asked.quick)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; {path} tells what the others found")
    Console().print(f"[bold]all is in {path}")


def measure(planned: Sequence[Measurement], run: Run, *, quick: bool) -> list[str]:
    """Run them in turn and say which; the names of those that failed."""
    console = Console()
    started_s = time.monotonic()
    failed = []
    for number, one in enumerate(planned, 1):
        elapsed_min = (time.monotonic() - started_s) / 60
        console.rule(
            f"{number} of {len(planned)}: {one.module}, about {minutes(one, quick=quick):g} min "
            f"({elapsed_min:.1f} min gone)"
        )
        if code := run(one, quick):
            console.print(f"[red]{one.module} ended with {code}")
            failed.append(one.module)
    return failed


def minutes(one: Measurement, *, quick: bool) -> float:
    """How long it takes, more or less."""
    return QUICK_MINUTES if quick else one.minutes or 0.0


def run(one: Measurement, quick: bool) -> int:
    """The exit code of one measurement in a process of its own; what takes far too long is ended."""
    command = [sys.executable, "-m", f"bench.{one.module}", *(["--quick"] if quick else [])]
    with subprocess.Popen(command) as process:  # nosec B603 - a module of ours
        try:
            return process.wait(minutes(one, quick=quick) * 60 * PATIENCE)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # as Ctrl-C does: it stops its server first
            try:
                process.wait(LAST_WORDS_S)
            except subprocess.TimeoutExpired:
                process.kill()
            return process.wait() or 1


if __name__ == "__main__":
    main()
