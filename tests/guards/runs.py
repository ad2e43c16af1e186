"""One guard away, its tests run, a verdict."""

from __future__ import annotations

import enum
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.guards.records import Guard
from tests.guards.tree import Tree

_WATCH = Path(__file__).with_name("watch.py")


class Verdict(enum.StrEnum):
    """What came of a guard."""

    #: Each of its tests failed: somebody watches.
    RED = "RED"
    #: One of its tests passed all the same.
    GREEN = "GREEN"
    #: Its text does not stand in its file once: the table lags behind the code.
    NOMATCH = "NOMATCH"
    #: Nothing can be said: a hang that was not expected, a file that does not compile, a test that is not there.
    BROKEN = "BROKEN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What came of some tests."""

    ran: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()
    hung: bool = False
    #: The last lines that were said.
    words: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A verdict, and why."""

    guard: Guard
    verdict: Verdict
    words: str = ""
    seconds: float = 0.0


def judge(tree: Tree, guard: Guard) -> Outcome:
    """Take a guard out of the copy, run its tests, put it back."""
    with tree.without(guard) as removed:
        if not removed:
            words = f"its text does not stand exactly once in {guard.file}"
            return Outcome(guard=guard, verdict=Verdict.NOMATCH, words=words)
        run = run_tests(tree, guard.tests, guard.seconds)
    verdict, words = judged(guard, run)
    return Outcome(guard=guard, verdict=verdict, words=words, seconds=run.seconds)


def judged(guard: Guard, run: Run) -> tuple[Verdict, str]:
    """The verdict on a guard by the run of its tests without it, and why."""
    if run.hung:
        return Verdict.RED if guard.hangs else Verdict.BROKEN, f"no end within {guard.seconds:g} s"
    tests = set(guard.tests)
    if passed := sorted(tests & run.ran - run.failed):
        return Verdict.GREEN, "passed without it: " + ", ".join(passed)
    if tests - run.ran:
        return Verdict.BROKEN, run.words
    return Verdict.RED, ""


def run_tests(tree: Tree, tests: Sequence[str], seconds: float) -> Run:
    """Run tests in the copy, in a process group of their own, which ends with the time."""
    report = tree.root / "guards-report.json"
    report.unlink(missing_ok=True)
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-P", str(_WATCH), str(tree.root), str(report), *tests],
        cwd=tree.root,
        env=tree.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    hung = False
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        hung = True
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
    told = json.loads(report.read_text()) if report.exists() else {"ran": [], "failed": []}
    return Run(
        ran=frozenset(told["ran"]),
        failed=frozenset(told["failed"]),
        hung=hung,
        words="\n".join(said.splitlines()[-12:]),
        seconds=time.monotonic() - began,
    )
