"""`make bench`: measure everything, show the table while it grows, write RESULTS.md."""

from __future__ import annotations

import argparse
import datetime as dt
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.goals import Figure, goals, left_out
from benchmarks.machine import facts
from benchmarks.measures import rates, recovery, sealing, starting, waiting, whole
from benchmarks.measures.bench import Bench
from benchmarks.table import entries, markdown, read_entries, rich_table

RESULTS = Path(__file__).with_name("RESULTS.md")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One measurement and the goals it has figures for."""

    name: str
    keys: tuple[str, ...]
    run: Callable[[Bench], Iterator[Figure]]


def measures() -> tuple[Measure, ...]:
    """All measurements, in the order of the table."""
    return (
        Measure(name="hits", keys=("a", "a2"), run=rates.hits),
        Measure(name="accepted", keys=("b", "b2"), run=rates.accepted),
        Measure(name="commits", keys=("b3.64", "b3.1024"), run=rates.commits),
        Measure(name="durability", keys=("b4", "b4.p99"), run=rates.durability),
        Measure(name="burst", keys=("c.sdk", "c.burst"), run=whole.ten_thousand),
        Measure(name="calls", keys=("c2",), run=whole.one_thousand),
        Measure(name="waiting", keys=("d", "d.held", "d.beats", "d3", "d4.cpu", "d4.stall"), run=waiting.holding),
        Measure(name="bodies", keys=("d2",), run=waiting.large_bodies),
        Measure(name="sealing", keys=("g",), run=sealing.beside_a_batch),
        Measure(name="starting", keys=("f", "f.seconds", "f.memory"), run=starting.after_a_kill),
        Measure(
            name="recovery",
            keys=("r.ready", "r.answer", "r.polled", "r.stall", "r.memory"),
            run=recovery.after_a_crash,
        ),
    )


def wanted(measure: Measure, only: frozenset[str]) -> bool:
    """Whether a measurement or a row of it is in `only` ("b3" means "b3.64" too); all are wanted if it is empty."""
    named = {measure.name, *measure.keys, *(key.partition(".")[0] for key in measure.keys)}
    return not only or not only.isdisjoint(named)


def main() -> None:
    """Run; a quick run only shows its results, a part writes its own rows if it is told to."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("parts", nargs="*", help="measurements or rows, as in: recovery b3; default: all")
    parser.add_argument(
        "--write", action="store_true", help="write the rows of a part into RESULTS.md, beside the others"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it works, not how well")
    parser.add_argument("--keep", action="store_true", help="keep the files of the run, its logs too")
    arguments = parser.parse_args()
    only = frozenset(arguments.parts)
    chosen = [measure for measure in measures() if wanted(measure, only)]
    if not chosen:
        parser.error(f"nothing is called {' or '.join(sorted(only))}; there are: {', '.join(names())}")
    console = Console()
    directory = Path(tempfile.mkdtemp(prefix="batchway-bench-"))
    began = time.monotonic()
    figures: dict[str, Figure] = {}
    failures: dict[str, str] = {}
    try:
        for measure in chosen:
            _run(measure, Bench(directory=directory, quick=arguments.quick), console, figures, failures)
    finally:
        if arguments.keep:
            console.print(f"files: {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    console.print(rich_table(goals(), figures))
    console.print(f"{time.monotonic() - began:.0f} s")
    if not arguments.quick and (arguments.write or not only):
        RESULTS.write_text(_results(figures, failures, part=bool(only)), encoding="utf-8")
        console.print(f"written: {RESULTS.relative_to(RESULTS.parent.parent)}")
    if failures:
        raise SystemExit(f"not measured: {', '.join(failures)}")


def names() -> list[str]:
    """What can be asked for."""
    return [name for measure in measures() for name in (measure.name, *measure.keys)]


def _results(figures: Mapping[str, Figure], failures: Mapping[str, str], *, part: bool) -> str:
    """The file: of a part, with what it says of the others, and with the day that these rows were measured alone."""
    if not part:
        return markdown(goals(), entries(goals(), figures), facts(), left_out(), failures)
    earlier = read_entries(RESULTS.read_text(encoding="utf-8"))
    alone = f"(measured by itself, {dt.datetime.now(tz=dt.UTC).date()}) "
    return markdown(goals(), earlier | entries(goals(), figures, alone), facts(), left_out(), failures)


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
