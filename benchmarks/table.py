"""The table, for a terminal and as a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from benchmarks.goals import Figure, Goal, Verdict, verdict

HEADINGS = ("", "measure", "figure", "rounds", "goal", "stretch", "reached")
_COLOURS = {Verdict.STRETCH: "green", Verdict.REACHED: "green", Verdict.SHORT: "red"}


def cells(goal: Goal, figure: Figure) -> tuple[str, ...]:
    """One row of the table, under `HEADINGS`."""
    low, high = min(figure.rounds), max(figure.rounds)
    spread = (
        f"{len(figure.rounds)}" if len(figure.rounds) == 1 else f"{len(figure.rounds)}: {short(low)} to {short(high)}"
    )
    stretch = "" if goal.stretch is None else f"{goal.bound} {short(goal.stretch)}"
    return (
        goal.key,
        goal.what,
        f"{short(figure.median)} {goal.unit}",
        spread,
        f"{goal.bound} {short(goal.goal)}",
        stretch,
        verdict(goal, figure.median).value,
    )


def short(value: float) -> str:
    """A number as it reads best: three digits, no exponent."""
    if value == 0:
        return "0"
    for limit, digits in ((100, 0), (10, 1), (1, 2), (0.1, 3)):
        if abs(value) >= limit:
            return f"{value:.{digits}f}"
    return f"{value:.4f}"


def rich_table(goals: Sequence[Goal], figures: Mapping[str, Figure]) -> Table:
    """The rows measured so far, for people."""
    table = Table(title="Batchway against its goals")
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in {"figure", "goal", "stretch"} else "left")
    for goal in goals:
        figure = figures.get(goal.key)
        if figure is not None:
            *most, reached = cells(goal, figure)
            table.add_row(*most, f"[{_COLOURS[Verdict(reached)]}]{reached}[/]")
    return table


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What the file says of one goal."""

    row: str
    details: str


def entries(goals: Sequence[Goal], figures: Mapping[str, Figure], note: str = "") -> dict[str, Entry]:
    """What the file shall say of the goals that were measured; `note` stands before their details."""
    return {
        goal.key: Entry(
            row=_row(cells(goal, figures[goal.key])), details=f"- **{goal.key}** {note}{figures[goal.key].details}"
        )
        for goal in goals
        if goal.key in figures
    }


def read_entries(text: str) -> dict[str, Entry]:
    """What an earlier file says, by the keys of its goals."""
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines() if line.startswith("| ")}
    details = {line[4:].partition("**")[0]: line for line in text.splitlines() if line.startswith("- **")}
    return {key: Entry(row=rows[key], details=line) for key, line in details.items() if key in rows}


def markdown(
    goals: Sequence[Goal],
    found: Mapping[str, Entry],
    facts: Iterable[str],
    left_out: Iterable[tuple[str, str]],
    failures: Mapping[str, str],
) -> str:
    """The whole of `RESULTS.md`."""
    measured = [found[goal.key] for goal in goals if goal.key in found]
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Medians; every figure and its floor come from the same run.",
        "",
    ]
    lines += [f"- {fact}" for fact in facts]
    lines += ["", _row(HEADINGS), _row("---" for _ in HEADINGS)]
    lines += [entry.row for entry in measured]
    lines += ["", "## What the figures are made of", ""]
    lines += [entry.details for entry in measured]
    missing = [goal for goal in goals if goal.key not in found]
    lines += ["", "## Not measured", ""]
    lines += [
        f"- **{goal.key}** {goal.what}: {failures.get(goal.key, 'not asked for in this run')}" for goal in missing
    ]
    lines += [f"- {what}: {why}" for what, why in left_out]
    return "\n".join(lines) + "\n"


def _row(texts: Iterable[str]) -> str:
    return "| " + " | ".join(texts) + " |"
