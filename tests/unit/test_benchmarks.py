"""The benchmark's table: what it says of a figure, not how long anything takes."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import measures, wanted
from benchmarks.bodies import KILOBYTE, Bodies
from benchmarks.goals import Bound, Figure, Goal, Verdict, goals, left_out, verdict
from benchmarks.table import cells, entries, markdown, read_entries, short

FASTER = Goal(key="a", what="hits", bound=Bound.AT_LEAST, goal=0.45, stretch=0.6)
SMALLER = Goal(key="d", what="memory", bound=Bound.AT_MOST, goal=16.0, stretch=None, unit="KB")


@pytest.mark.parametrize(
    ("goal", "value", "expected"),
    [
        (FASTER, 0.44, Verdict.SHORT),
        (FASTER, 0.45, Verdict.REACHED),
        (FASTER, 0.60, Verdict.STRETCH),
        (SMALLER, 16.1, Verdict.SHORT),
        (SMALLER, 16.0, Verdict.REACHED),
        (SMALLER, 0.1, Verdict.REACHED),
    ],
)
def test_a_figure_on_the_goal_reaches_it(goal: Goal, value: float, expected: Verdict) -> None:
    """A figure reaches a goal by meeting it, and a stretch only where there is one."""
    assert verdict(goal, value) is expected


@pytest.mark.parametrize(("rounds", "middle"), [((3.0, 1.0, 2.0), 2.0), ((4.0, 1.0, 2.0, 3.0), 2.5), ((7.0,), 7.0)])
def test_one_disturbed_round_does_not_decide(rounds: tuple[float, ...], middle: float) -> None:
    """The figure of several rounds is their median, in whatever order they came."""
    assert Figure(key="a", rounds=rounds, details="").median == middle


def test_a_row_shows_figure_spread_goal_and_verdict() -> None:
    """A row has everything that is needed to judge the figure."""
    row = cells(FASTER, Figure(key="a", rounds=(0.5, 0.7, 0.4), details=""))
    assert row == ("a", "hits", "0.500 x", "3: 0.400 to 0.700", ">= 0.450", ">= 0.600", "yes")


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.5, "0.500"), (0.0156, "0.0156")]
)
def test_numbers_read_well(value: float, text: str) -> None:
    """Three digits, never an exponent."""
    assert short(value) == text


def test_the_file_names_what_was_not_measured_and_why() -> None:
    """A goal without a figure is never left out in silence."""
    text = markdown(
        [FASTER, SMALLER],
        entries([FASTER], {"a": Figure(key="a", rounds=(0.5,), details="10 req/s")}),
        ["2 cores"],
        [("e", "not built")],
        {"d": "RuntimeError: it died"},
    )
    assert "- 2 cores" in text
    assert "| a | hits | 0.500 x | 1 |" in text
    assert "- **a** 10 req/s" in text
    assert "- **d** memory: RuntimeError: it died" in text
    assert "- e: not built" in text


def test_what_an_earlier_run_measured_is_kept() -> None:
    """A file that is read gives the same rows and details to the next one."""
    found = entries(
        [FASTER, SMALLER], {key: Figure(key=key, rounds=(0.5,), details=f"{key}!") for key in "ad"}, "old: "
    )

    assert read_entries(markdown([FASTER, SMALLER], found, ["2 cores"], [], {})) == found


def test_every_goal_is_measured_once() -> None:
    """No goal is without a measurement, and none has two."""
    measured = [key for measure in measures() for key in measure.keys]
    assert sorted(measured) == sorted(goal.key for goal in goals())
    assert left_out()


def test_rows_can_be_chosen_by_their_letter() -> None:
    """`b3` means every row of b3, and none of b."""
    chosen = [measure.keys for measure in measures() if wanted(measure, frozenset({"b3"}))]
    assert chosen == [("b3.64", "b3.1024")]
    assert all(wanted(measure, frozenset()) for measure in measures())


@pytest.mark.parametrize("size", [KILOBYTE, 100 * KILOBYTE])
def test_bodies_have_their_size_and_differ_by_their_number(size: int) -> None:
    """What is sent is as large as the table says, and each call can be told by its answer."""
    bodies = Bodies(tag="t", size=size)
    assert {len(bodies.of(number)) for number in (0, 7, 123_456)} == {size}
    assert bodies.name(7) in bodies.of(7)
    assert bodies.of(7) != bodies.of(8)
