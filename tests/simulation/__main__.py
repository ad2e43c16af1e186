"""`python -m tests.simulation SEED`: live through one seed again and print what came of it.
`python -m tests.simulation --seeds N [--from S]`: live through N seeds, and print those that break a promise.
"""

from __future__ import annotations

# ruff: noqa: T201 - it talks to a person
import argparse
import sys
import time
from collections import Counter
from contextlib import ExitStack
from multiprocessing import get_context

from tests.simulation.seeds import lived


def main() -> int:
    """Exit status 1: some promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", nargs="?", type=int, help="one seed to live through again")
    parser.add_argument("--seeds", type=int, default=0, help="how many seeds")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first of them")
    parser.add_argument("--processes", type=int, default=1, help="how many at a time")
    chosen = parser.parse_args()
    if chosen.seed is not None:
        return _one(chosen.seed)
    return _many(range(chosen.first, chosen.first + chosen.seeds), chosen.processes)


def _one(seed: int) -> int:
    outcome = lived(seed)
    print(outcome)
    return int(isinstance(outcome, str))


def _many(seeds: range, processes: int) -> int:
    began = time.monotonic()
    broken, faults = [], Counter[str]()
    steps = crashes = windows = 0
    with ExitStack() as stack:
        pool = (
            stack.enter_context(get_context("spawn").Pool(processes, maxtasksperchild=500)) if processes > 1 else None
        )
        outcomes = map(lived, seeds) if pool is None else pool.imap(lived, seeds)
        for seed, outcome in zip(seeds, outcomes, strict=True):
            if isinstance(outcome, str):
                broken.append(seed)
                print(outcome, flush=True)
            else:
                faults.update(outcome.faults)
                steps, crashes, windows = steps + outcome.steps, crashes + outcome.crashes, windows + outcome.windows
    took = time.monotonic() - began
    print(
        f"{len(seeds)} seeds in {took:.0f} s: {steps} steps, {crashes} crashes, {windows} windows, {sum(faults.values())} faults"
    )
    print(f"broken: {broken or 'none'}")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
