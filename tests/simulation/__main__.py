"""`python -m tests.simulation --seeds 2000` or `--seed 123`, which prints that run's whole history."""

# ruff: noqa: T201 - it is a command

import argparse
import sys
import time

from tests.simulation.scenario import Run, simulate

PROGRESS_EVERY = 500


def replay(seed: int) -> int:
    run = simulate(seed)
    for entry in run.history:
        print(entry.line())
    print(f"seed {seed}: {len(run.history)} records, sha256 {run.digest}")
    return tell(run)


def tell(run: Run) -> int:
    for violation in run.violations:
        print(
            f"seed {run.seed}: {violation.time_s:.3f} s {violation.connection}: {violation.check}: {violation.message}"
        )
    if run.violations:
        print(f"replay it: make simulate SEED={run.seed}")
    return int(bool(run.violations))


def sweep(first: int, count: int) -> int:
    start_s = time.perf_counter()
    fragments = results = broken = 0
    for done, seed in enumerate(range(first, first + count), 1):
        run = simulate(seed)
        fragments += run.count("sent", "fragment:data")
        results += run.count("received", "fragment:processed")
        broken += tell(run)
        if done % PROGRESS_EVERY == 0 or done == count:
            pace = done / (time.perf_counter() - start_s) * 60
            figures = f"{fragments} fragments, {results} results, {broken} seeds with violations"
            print(f"{done} of {count} seeds, {pace:.0f} a minute: {figures}", flush=True)
    return int(bool(broken))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="replay this one")
    options = parser.parse_args()
    return sweep(options.first, options.seeds) if options.seed is None else replay(options.seed)


if __name__ == "__main__":
    sys.exit(main())
