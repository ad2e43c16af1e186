"""What the demonstration shows: a progress bar and tables on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from openai.types.chat import ChatCompletion
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from gateway.cli.demo.workload import Task
from gateway.clock import Clock

#: Without a terminal, a line of progress no more often than this.
PLAIN_SECONDS = 2.0


class Screen:
    """Where everything is said."""

    def __init__(self, clock: Clock) -> None:
        """Standard output."""
        self._clock = clock
        self._console = Console(highlight=False, soft_wrap=True)
        self._begun = clock.monotonic()

    def say(self, text: str) -> None:
        """One line, with the seconds since the start."""
        self._console.print(f"[dim]{self._clock.monotonic() - self._begun:5.1f} s[/dim]  {escape(text)}")

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Counting]:
        """A bar, or lines, for `total` answers."""
        if not self._console.is_terminal:
            yield Counting(total, self._lines(what, total))
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console) as bar:
            task = bar.add_task(what, total=total)
            yield Counting(total, lambda done: bar.update(task, completed=done))

    def _lines(self, what: str, total: int) -> Callable[[int], None]:
        """Says how far it is, now and then."""
        said_at = self._clock.monotonic()

        def show(done: int) -> None:
            nonlocal said_at
            now = self._clock.monotonic()
            if done == total or now - said_at >= PLAIN_SECONDS:
                said_at = now
                self.say(f"{what}: {done} of {total}")

        return show

    def samples(self, job: Sequence[Task], answers: Sequence[ChatCompletion]) -> None:
        """One question of each kind, with its answer."""
        first = {task.kind: (task, answer) for task, answer in reversed(list(zip(job, answers, strict=True)))}
        table = Table("kind", "asked", "answered", box=box.SIMPLE_HEAD, pad_edge=False)
        for kind, (task, answer) in sorted(first.items()):
            table.add_row(kind, escape(task.prompt), escape(answer.choices[0].message.content or ""))
        self._console.print(table, soft_wrap=False)

    def providers(self, rows: Sequence[tuple[str, ...]]) -> None:
        """What each provider did."""
        table = Table("provider", "requests", "batches", "cost", "saved", box=box.SIMPLE_HEAD, pad_edge=False)
        for row in rows:
            table.add_row(*row)
        self._console.print(table, soft_wrap=False)

    def bill(self, lines: Sequence[tuple[str, str]]) -> None:
        """What it came to."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=True)
        table.add_column("the bill")
        table.add_column("", justify="right")
        for what, amount in lines:
            table.add_row(what, amount)
        self._console.print(table, soft_wrap=False)


class Counting:
    """How far the answers have come."""

    def __init__(self, total: int, show: Callable[[int], None]) -> None:
        """`show` is told the number of answers after each."""
        self.total = total
        self._show = show
        self._done = 0

    def advance(self) -> None:
        """One more."""
        self._done += 1
        self._show(self._done)
