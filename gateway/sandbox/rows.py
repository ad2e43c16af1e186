"""A result file while it is written: rows in, damage where it was ordered, bytes on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from gateway.sandbox.faults import ROW_FAULTS, FaultBook, FaultKind

#: What a simulator does to one of its own rows to show a fault of its wire format.
Distort = Callable[[bytes, FaultKind], bytes]

#: Words of a directive that damage the line's own row.
WORD_FAULTS = {kind.removeprefix("row_").replace("_", "-"): kind for kind in ROW_FAULTS}


class RowFile:
    """One result file; `rows` counts what was asked to be written, not what the damage made of it."""

    def __init__(self, path: Path, distort: Distort, damage: Counter[FaultKind]) -> None:
        """`damage` says how many rows get which fault; it is used up."""
        self.path = path
        self.rows = 0
        self._distort = distort
        self._damage = damage
        self._file = path.open("wb")
        self._last = 0

    def write(self, row: bytes, fault: FaultKind | None = None) -> None:
        """Add `row`, damaged by `fault` or by the next fault in the book."""
        self.rows += 1
        if fault is None and self._damage:
            fault = self._next()
        for piece in damaged(row, fault, self._distort):
            self._last = len(piece) + 1
            self._file.write(piece + b"\n")

    def close(self, *, cut_last_row: bool = False, cut_half: bool = False) -> int:
        """Finish the file and return its size; a file without rows is removed."""
        size = self._file.tell()
        if cut_half:
            size = self._file.truncate(size // 2)
        elif cut_last_row and self._last:
            size = self._file.truncate(size - self._last // 2 - 1)
        self._file.close()
        if self.rows == 0:
            self.path.unlink()
        return size

    def _next(self) -> FaultKind:
        kind = next(iter(self._damage))
        self._damage[kind] -= 1
        if self._damage[kind] <= 0:
            del self._damage[kind]
        return kind


def damaged(row: bytes, fault: FaultKind | None, distort: Distort) -> Iterator[bytes]:
    """The rows that stand in the file for one row under `fault`."""
    if fault is None:
        yield row
    elif fault is FaultKind.ROW_DUPLICATE:
        yield row
        yield row
    elif fault is FaultKind.ROW_MALFORMED:
        yield row[: max(1, len(row) // 2)]
    elif fault is FaultKind.ROW_INVALID_UTF8:
        middle = len(row) // 2
        yield row[:middle] + b"\xff\xfe" + row[middle:]
    elif fault is not FaultKind.ROW_MISSING:
        yield distort(row, fault)


def ordered_damage(faults: FaultBook) -> Counter[FaultKind]:
    """What was ordered for the rows of the next result file, taken out of the book."""
    damage: Counter[FaultKind] = Counter()
    for kind in sorted(ROW_FAULTS) if faults else ():
        fault = faults.take(kind)
        if fault is not None:
            damage[kind] += fault.rows
    return damage
