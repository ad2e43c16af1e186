"""The goals: one entry for each row of the table, and what is left out of it.

A goal is a ratio against a floor measured in the same run, or an absolute figure where the promise is absolute.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Bound(StrEnum):
    """On which side of the goal a figure should be."""

    AT_LEAST = ">="
    AT_MOST = "<="


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One row of the table."""

    key: str
    what: str
    bound: Bound
    goal: float
    stretch: float | None = None
    #: What the figure is counted in; "x" is a ratio to a floor of the same run.
    unit: str = "x"


def _at_least(key: str, what: str, goal: float, stretch: float | None, unit: str = "x") -> Goal:
    return Goal(key=key, what=what, bound=Bound.AT_LEAST, goal=goal, stretch=stretch, unit=unit)


def _at_most(key: str, what: str, goal: float, stretch: float | None, unit: str = "x") -> Goal:
    return Goal(key=key, what=what, bound=Bound.AT_MOST, goal=goal, stretch=stretch, unit=unit)


def goals() -> tuple[Goal, ...]:
    """All rows, in the order of the table."""
    return (
        _at_least("a", "hit from store, req/s / bare aiohttp POST", 0.45, 0.60),
        _at_most("a2", "p99 of a hit / p99 of the bare POST", 2.0, 1.5),
        _at_least("b", "durably accepted, req/s / bare aiohttp POST", 0.50, 0.60),
        _at_least("b2", "durably accepted, req/s / bare group commit in SQLite, 64 waiting", 0.30, 0.38),
        _at_most("b3.64", "commits per accepted request, 64 waiting", 1 / 16, 1 / 32, "commits"),
        _at_most("b3.1024", "commits per accepted request, 1,024 waiting", 1 / 200, 1 / 500, "commits"),
        _at_least("b4", "durably accepted, req/s: durability full / relaxed", 0.70, 0.90),
        _at_most("b4.p99", "p99 of the same: full / relaxed", 2.0, 1.2),
        _at_most("c.sdk", "10,000 calls end to end / hand-written SDK script", 8.0, 6.0),
        _at_most("c.burst", "10,000 calls end to end / bare aiohttp answering the same burst", 2.5, 1.8),
        _at_most("c2", "1,000 calls end to end / hand-written SDK script", 5.0, 3.5),
        _at_most("d", "resident memory of a waiting request, 1 KB bodies, in grace", 16.0, None, "KB"),
        _at_most("d.held", "the same / bare aiohttp holding the same", 1.25, 1.1),
        _at_most("d.beats", "the same once heartbeats have begun", 18.0, None, "KB"),
        _at_most("d2", "the same with 100 KB bodies / with 1 KB bodies", 1.3, 1.1),
        _at_most("d3", "CPU of holding 10,000 callers, a heartbeat each 15 s", 2.0, 1.5, "% of a core"),
        _at_most("d4.cpu", "CPU of waking and answering a waiter", 60.0, 40.0, "us"),
        _at_most("d4.stall", "longest stall of the loop while 10,000 are answered", 100.0, 50.0, "ms"),
        _at_most("g", "p99 of a hit while a 50,000-line batch is sealed and collected / quiet", 3.0, None),
        _at_most("f", "start to first accepted request, 1,000,000 pending / none", 1.5, 1.2),
        _at_most("f.seconds", "start to first accepted request, 1,000,000 pending", 2.0, 1.0, "s"),
        _at_most("f.memory", "memory after that start above an empty one", 30.0, 10.0, "MB"),
        _at_most("r.ready", "start to /readyz, 1,000,000 pending and 100 batches in flight / none", 1.2, 1.1),
        _at_most("r.answer", "start to first answer, the same / none", 1.2, 1.1),
        _at_most("r.polled", "from /readyz until all 100 batches have been polled", 2.0, 1.0, "s"),
        _at_most("r.stall", "longest stall of the loop meanwhile and after", 100.0, 50.0, "ms"),
        _at_most("r.memory", "peak memory of that start above an empty one", 30.0, 10.0, "MB"),
    )


def left_out() -> tuple[tuple[str, str], ...]:
    """Goals that are not measured, and why."""
    return (
        ("a, c, c2, c5 against other gateways", "no other product's software is run here"),
        ("c3, c4, e, e2, e3", "they send batch files to /v1/files and /v1/batches, which are not built yet"),
    )


class Verdict(StrEnum):
    """What a figure is worth."""

    STRETCH = "stretch"
    REACHED = "yes"
    SHORT = "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What was measured for one goal, and what it was made of."""

    key: str
    #: The figure of each round, the goal's unit.
    rounds: tuple[float, ...]
    #: The absolute figures behind it, for the reader.
    details: str

    @property
    def median(self) -> float:
        """The middle of all rounds (of the two middle ones the mean)."""
        ordered = sorted(self.rounds)
        middle = len(ordered) // 2
        return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def verdict(goal: Goal, value: float) -> Verdict:
    """Whether `value` reaches the goal, or its stretch."""
    if goal.stretch is not None and _reaches(goal.bound, value, goal.stretch):
        return Verdict.STRETCH
    return Verdict.REACHED if _reaches(goal.bound, value, goal.goal) else Verdict.SHORT


def _reaches(bound: Bound, value: float, limit: float) -> bool:
    return value >= limit if bound is Bound.AT_LEAST else value <= limit
