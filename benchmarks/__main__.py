"""`make bench`: measure everything, show the table while it grows, write RESULTS.md."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.goals import Figure, goals, left_out
from benchmarks.machine import facts
from benchmarks.measures import rates, sealing, starting, waiting, whole
from benchmarks.measures.bench import Bench
from benchmarks.table import markdown, rich_table

RESULTS = Path(__file__).with_name("RESULTS.md")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One measurement and the goals it has figures for."""

    keys: tuple[str, ...]
    run: Callable[[Bench], Iterator[Figure]]


def measures() -> tuple[Measure, ...]:
    """All measurements, in the order of the table."""
    return (
        Measure(keys=("a", "a2"), run=rates.hits),
        Measure(keys=("b", "b2"), run=rates.accepted),
        Measure(keys=("b3.64", "b3.1024"), run=rates.commits),
        Measure(keys=("c.sdk", "c.burst"), run=whole.ten_thousand),
        Measure(keys=("c2",), run=whole.one_thousand),
        Measure(keys=("d", "d.held", "d.beats", "d3", "d4.cpu", "d4.stall"), run=waiting.holding),
        Measure(keys=("d2",), run=waiting.large_bodies),
        Measure(keys=("g",), run=sealing.beside_a_batch),
        Measure(keys=("f", "f.seconds", "f.memory"), run=starting.after_a_kill),
    )


def wanted(measure: Measure, only: frozenset[str]) -> bool:
    """Whether a measurement has a figure for one of `only` ("b3" means "b3.64" too); all are wanted if it is empty."""
    return not only or any(key in only or key.partition(".")[0] in only for key in measure.keys)


def main() -> None:
    """Run; the results of a part, or of a quick run, are shown and not written."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", default="", help="rows to measure, as in a,b3,f")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it works, not how well")
    parser.add_argument("--keep", action="store_true", help="keep the files of the run, its logs too")
    arguments = parser.parse_args()
    only = frozenset(filter(None, arguments.only.split(",")))
    console = Console()
    directory = Path(tempfile.mkdtemp(prefix="batchway-bench-"))
    began = time.monotonic()
    figures: dict[str, Figure] = {}
    failures: dict[str, str] = {}
    try:
        for measure in measures():
            if wanted(measure, only):
                _run(measure, Bench(directory=directory, quick=arguments.quick), console, figures, failures)
    finally:
        if arguments.keep:
            console.print(f"files: {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    console.print(rich_table(goals(), figures))
    console.print(f"{time.monotonic() - began:.0f} s")
    if not only and not arguments.quick:
        RESULTS.write_text(markdown(goals(), figures, facts(), left_out(), failures), encoding="utf-8")
        console.print(f"written: {RESULTS.relative_to(RESULTS.parent.parent)}")
    if failures:
        raise SystemExit(f"not measured: {', '.join(failures)}")


def _run(
    measure: Measure, bench: Bench, console: Console, figures: dict[str, Figure], failures: dict[str, str]
) -> None:
    by_key: Mapping[str, str] = {goal.key: f"{goal.what}: " for goal in goals()}
    console.print(f"[dim]measuring {', '.join(measure.keys)}[/]")
    try:
        for figure in measure.run(bench):
            figures[figure.key] = figure
            console.print(f"  {figure.key}  {by_key[figure.key]}[bold]{figure.median:.3g}[/]  [dim]{figure.details}[/]")
    except (RuntimeError, OSError, AssertionError) as error:
        for key in measure.keys:
            failures.setdefault(key, f"{type(error).__name__}: {error}")
        console.print(f"  [red]failed[/]: {error}")
    finally:
        # A million rows, or answers of a hundred thousand lines: nobody after this needs them.
        for left in bench.directory.iterdir():
            if left.is_dir() and not (left / "serve.log").exists():
                shutil.rmtree(left, ignore_errors=True)


if __name__ == "__main__":
    main()
