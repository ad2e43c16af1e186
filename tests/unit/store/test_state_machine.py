"""The drawings of the states are the tables in the code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import pytest

from gateway.records import BATCH_MOVES, REQUEST_MOVES, BatchState, RequestState

PAGE = Path(__file__).parents[3].joinpath("docs", "state-machine.md").read_text(encoding="utf-8")


def drawing_of(heading: str) -> str:
    """The mermaid text under a heading."""
    return PAGE.split(f"## {heading}\n")[1].split("```mermaid\n")[1].split("```")[0]


@pytest.mark.parametrize(("heading", "moves"), [("A request", REQUEST_MOVES), ("A batch", BATCH_MOVES)])
def test_the_drawing_is_the_table(heading: str, moves: Mapping[StrEnum, frozenset[StrEnum]]) -> None:
    """Every arrow of the drawing is a move of the table, every move is drawn, and ends are where nothing follows."""
    drawn = set(re.findall(r"^ +(\w+) --> (\w+): ", drawing_of(heading), re.MULTILINE))
    ends = set(re.findall(r"^ +(\w+) --> \[\*\]$", drawing_of(heading), re.MULTILINE))

    assert drawn == {(state.value, after.value) for state, following in moves.items() for after in following}
    assert ends == {state.value for state, following in moves.items() if not following}


@pytest.mark.parametrize("states", [RequestState, BatchState])
def test_every_state_says_what_a_crash_means(states: type[StrEnum]) -> None:
    """The tables of crashes have a row for each state."""
    rows = {word.strip() for cell in re.findall(r"^\| ([a-z, ]+) \|", PAGE, re.MULTILINE) for word in cell.split(",")}

    assert {state.value for state in states} <= rows


def test_the_tables_know_every_state() -> None:
    """No state is without a line in its table."""
    assert (set(REQUEST_MOVES), set(BATCH_MOVES)) == (set(RequestState), set(BatchState))
