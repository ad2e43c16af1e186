"""Take each guard away once and see its test go red: `python -m tests.guards [--workers N] [NAME...]`.

NAME may be a guard, a promise (`P3`) or a file of the table (`store`); without any, all are taken. Works on copies of the
project. Exit status 0: every guard is watched.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.guards.records import Guard, load_guards
from tests.guards.runs import Outcome, Verdict, judge, run_tests
from tests.guards.tree import Tree

#: For all the tests of the table together, on the project as it is.
BEFORE_SECONDS = 900.0


def main() -> int:
    """The exit status."""
    options = _options()
    guards = chosen(options.names)
    if not guards:
        _say("no guard of that name: see tests/guards/table")
        return 2
    with tempfile.TemporaryDirectory(prefix="guards-") as scratch:
        copy = Tree.committed if options.head else Tree.copied
        trees = [copy(Path(scratch, str(number))) for number in range(options.workers)]
        if not options.unproven and not _all_pass(trees[0], guards):
            return 2
        outcomes = list(_judged(trees, guards))
    return _summary(outcomes)


def chosen(names: Sequence[str]) -> list[Guard]:
    """The guards meant by names, promises or files of the table; all of them without any."""
    wanted = set(names) | {guard.name for name in names for guard in load_guards(f"{name}.toml")}
    return [guard for guard in load_guards() if not names or {guard.name, guard.promise} & wanted]


def _all_pass(tree: Tree, guards: Sequence[Guard]) -> bool:
    """A test that fails anyway watches nothing."""
    tests = sorted({test for guard in guards for test in guard.tests})
    _say(f"{len(guards)} guards: first their {len(tests)} tests with nothing taken away")
    run = run_tests(tree, tests, BEFORE_SECONDS)
    if run.failed or run.hung or set(tests) - run.ran:
        _say(f"these fail, or are not there, with every guard in its place:\n{run.words}")
        _say("\n".join(sorted(run.failed | (set(tests) - run.ran))))
        return False
    _say(f"they pass in {run.seconds:.0f} s")
    return True


def _judged(trees: Sequence[Tree], guards: Sequence[Guard]) -> Iterator[Outcome]:
    """Every guard's outcome, told as it comes; as many at once as there are copies."""
    free, lock, done = list(trees), threading.Lock(), 0

    def one(guard: Guard) -> Outcome:
        nonlocal done
        with lock:
            tree = free.pop()
        try:
            outcome = judge(tree, guard)
        finally:
            with lock:
                free.append(tree)
        with lock:
            done += 1
            _say(f"{done:4}/{len(guards)} {outcome.verdict:7} {outcome.seconds:5.1f} s {guard.promise:3} {guard.name}")
            if outcome.verdict is not Verdict.RED:
                _say(outcome.words)
        return outcome

    with ThreadPoolExecutor(len(trees)) as workers:
        yield from workers.map(one, guards)


def _summary(outcomes: Sequence[Outcome]) -> int:
    counts = Counter(outcome.verdict for outcome in outcomes)
    for outcome in outcomes:
        if outcome.verdict is not Verdict.RED:
            _say(f"{outcome.verdict}: {outcome.guard.name}: {outcome.guard.why}")
    _say(f"{len(outcomes)} guards: " + ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict))
    return 0 if counts[Verdict.RED] == len(outcomes) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.guards", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--workers", type=int, default=2, help="guards taken away at once, each in a copy of its own")
    parser.add_argument("--head", action="store_true", help="the project as last committed, not as it lies here")
    parser.add_argument(
        "--unproven", action="store_true", help="do not run the tests with every guard in its place first"
    )
    return parser.parse_args()


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    began = time.monotonic()
    status = main()
    _say(f"{time.monotonic() - began:.0f} s")
    sys.exit(status)
