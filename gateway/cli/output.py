"""What commands share: their common options, and lists as tables for people, plain columns for pipes, JSON for programs."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import click

from gateway.errors import BatchwayError

T = TypeVar("T")

#: What to do about a storage directory that is closed to us.
AS_WHO_RUNS_IT = "run this as the user who runs the gateway"
#: No database counts further.
_LARGEST_NUMBER = 2**63 - 1


def text(value: str) -> str:
    """The type of an argument that names something of a caller's: a command line may hold bytes that are no text."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise click.BadParameter("it is no UTF-8, so nothing has this name") from None
    return value


def number(value: str) -> int:
    """The type of an argument that numbers a row of the ledger, or counts rows."""
    try:
        found = int(value)
    except ValueError:
        found = 0
    if not 0 < found <= _LARGEST_NUMBER:
        raise click.BadParameter(f"{value} is no whole number from 1 on, or too large for any ledger")
    return found


class Amount(click.FloatRange):
    """A number of something: neither infinite nor none at all, which a range lets pass."""

    def convert(self, value: float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """`value` as a number, or a usage error."""
        amount: float = super().convert(value, param, ctx)
        if not math.isfinite(amount):
            self.fail(f"{amount:g} is no amount", param, ctx)
        return amount


PORT = click.IntRange(min=0, max=65_535)
#: In seconds.
TIME = Amount(min=0)
config_option = click.option(
    "--config", "path", type=click.Path(path_type=Path), help="Configuration file; else ./config.toml."
)
#: For commands that read no configuration: every command takes --config.
ignored_config_option = click.option("--config", hidden=True, expose_value=False)
json_option = click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column(Generic[T]):
    """One column of a list for people."""

    heading: str
    cell: Callable[[T], str]


@contextlib.contextmanager
def complaints() -> Iterator[None]:
    """What the gateway raises on purpose becomes a message for a person, and exit status 1; so does a file out of reach."""
    try:
        yield
    except BatchwayError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        if error.filename is None:
            raise
        advice = f": {AS_WHO_RUNS_IT}" if isinstance(error, PermissionError) else ""
        raise click.ClickException(f"{error.filename}: {error.strerror}{advice}") from error


def is_there(path: Path) -> bool:
    """Whether there is such a file or folder. Raises `OSError` where that cannot be told, which `Path.exists` may call no."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def show_list(
    rows: Sequence[T], columns: Sequence[Column[T]], record: Callable[[T], Mapping[str, object]], *, as_json: bool
) -> None:
    """Print `rows`: `record` of each in a JSON array, or a table where standard output is a terminal, else plain columns."""
    if as_json:
        show_json([record(row) for row in rows])
        return
    cells = [[column.cell(row) for column in columns] for row in rows]
    headings = [column.heading for column in columns]
    if sys.stdout.isatty():
        _show_table(headings, cells)
    else:
        _show_plain(headings, cells)


def show_json(value: object) -> None:
    """Print `value` as indented JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def moment(timestamp: float | None) -> str:
    """Seconds since 1970 as a person reads them, in UTC; a dash for none."""
    from gateway.clock import as_datetime

    return "-" if timestamp is None else as_datetime(timestamp).strftime("%Y-%m-%d %H:%M:%SZ")


def dollars(amount: float | None) -> str:
    """USD with the digits that tiny amounts need; None is unknown."""
    if amount is None:
        return "unknown"
    return f"${amount:,.2f}" if abs(amount) >= 100 else f"${amount:.6f}"


def _show_table(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in cells:
        # As text: what callers wrote may look like markup.
        table.add_row(*map(_literal, row))
    Console().print(table)


def _literal(cell: str) -> str:
    from rich.markup import escape

    return escape(_printable(cell))


def _show_plain(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    rows = [list(headings), *([_printable(cell) for cell in row] for row in cells)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(headings))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _printable(cell: str) -> str:
    """`cell` without characters that would steer a terminal: names of requests are written by callers."""
    return "".join(character if character.isprintable() else "?" for character in cell)
