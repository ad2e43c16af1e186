"""Read the rows of a batch that lie on disk: which lines they name, and which of those were answered.

Takes batches in `ended` whose rows are on disk, leaves them as they are; for threads. If the process dies half-way, nothing has
been changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.errors import PluginFault
from gateway.records import Result, line_number
from gateway.spool import in_slices, read_rows
from gateway.store.shipping import BatchRow
from gateway.upstream import Side, Upstream


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of a result file; `n` is the line of the batch that it names, None: it names none."""

    n: int | None
    result: Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What the rows of a file say together."""

    #: Lines of the batch that have a row, each counted once.
    lines: int
    #: By line: 1 where a row of it has an answer, which counts whatever other rows say of the line.
    answered: bytes


def is_answer(result: Result) -> bool:
    """Whether a row has what was asked for."""
    return result.status == 200 and result.body is not None


def rows_of(upstream: Upstream, batch: BatchRow, side: Side) -> Iterator[Row]:
    """Every row on disk that can be decoded. After the last one, raises `PluginFault` if the plugin failed on others.

    The first fault is logged and counted: a bug that all rows meet would fill the log.
    """
    fault: PluginFault | None = None
    for row in in_slices(read_rows(upstream.spool.rows(batch.marker))):
        try:
            decoded = _decoded(batch, side, row)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
            fault = fault or upstream.accounts.fault(side.provider, "decode", error)
        else:
            yield decoded
    if fault is not None:
        raise fault


def _decoded(batch: BatchRow, side: Side, row: bytes) -> Row:
    result: object = side.plugin.decode(row)
    if not isinstance(result, Result):
        raise PluginFault(f"returned {type(result).__name__} from decode")
    n = None if result.line_id is None else line_number(batch.marker, result.line_id)
    return Row(n=None if n is None or n >= batch.count else n, result=result)


def named_by(upstream: Upstream, batch: BatchRow, side: Side) -> Named:
    """Look through the rows on disk.

    A file with a row that the plugin cannot decode counts as whole: whoever settles it comes to that row, and says so.
    """
    named, answered = bytearray(batch.count), bytearray(batch.count)
    try:
        for row in rows_of(upstream, batch, side):
            if row.n is not None:
                named[row.n] = 1
                answered[row.n] |= is_answer(row.result)
    except PluginFault:
        return Named(lines=batch.count, answered=bytes(answered))
    return Named(lines=named.count(1), answered=bytes(answered))
