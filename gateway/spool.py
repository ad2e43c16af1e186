"""Files of batches on disk: the spool that is sent, the rows that were fetched.

Floor 3. Both are named after the batch's marker and can be made anew: the spool from the ledger, the rows from the
provider. Whole files only: written under a temporary name, synced, renamed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

#: Bulk work in a thread runs this long, then leaves the interpreter to the event loop.
SLICE_SECONDS = 0.002
REST_SECONDS = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Spool:
    """The folder of batch files."""

    directory: Path

    def lines(self, marker: str) -> Path:
        """Where the lines of a batch are, framed, as they are sent."""
        return self.directory / f"{marker}.jsonl"

    def rows(self, marker: str) -> Path:
        """Where the fetched rows of a batch are."""
        return self.directory / f"{marker}.rows"

    def proof(self, marker: str) -> Path:
        """Where the rows of a remote batch are while it is found out whether it is this one."""
        return self.directory / f"{marker}.proof"

    def write_lines(self, marker: str, lines: Iterable[bytes]) -> int:
        """Write the spool of a batch; returns its bytes. Runs in a thread; whole and on disk when it returns."""
        return write_whole(self.lines(marker), in_slices(lines))

    def adopt_rows(self, marker: str, partial: Path) -> None:
        """Give a download that is complete its name. Runs in a thread; whole and on disk when it returns.

        The ledger is about to say that it is here: after a loss of power an empty file would be taken for a batch without
        results, and its lines be sent, and paid, again.
        """
        with partial.open("rb") as file:
            sync(file.fileno())
        partial.replace(self.rows(marker))

    def drop(self, marker: str) -> None:
        """Delete what is left of a batch that is settled."""
        for path in (self.lines(marker), self.rows(marker), self.proof(marker)):
            with suppress(FileNotFoundError):
                path.unlink()


def write_whole(path: Path, lines: Iterable[bytes]) -> int:
    """Write `lines`, each with a newline, to `path` at once or not at all; returns the bytes."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    try:
        with partial.open("wb", buffering=1 << 18) as file:
            for line in lines:
                file.write(line)
                file.write(b"\n")
            size = file.tell()
            # What is still in the buffer is not in the file.
            file.flush()
            sync(file.fileno())
        partial.replace(path)
    except BaseException:
        # On a full disk half a spool would stand in the way of everything else.
        partial.unlink(missing_ok=True)
        raise
    return size


def read_rows(path: Path) -> Iterator[bytes]:
    """Every row of a fetched file, without line ends; a last row that was cut off comes as it is. Empty rows are left out.

    Splits on newline bytes only: other separators of Unicode may stand in an answer.
    """
    with path.open("rb", buffering=1 << 18) as file:
        for line in file:
            row = line.rstrip(b"\r\n")
            if row:
                yield row


def sync(descriptor: int) -> None:
    """Force a file's bytes to the disk."""
    os.fdatasync(descriptor) if hasattr(os, "fdatasync") else os.fsync(descriptor)


def in_slices(items: Iterable[T], rest: Callable[[float], None] = time.sleep) -> Iterator[T]:
    """`items`, with a pause after each slice of CPU time: a busy thread otherwise starves the event loop (measured)."""
    began = time.thread_time()
    for item in items:
        yield item
        if time.thread_time() - began >= SLICE_SECONDS:
            rest(REST_SECONDS)
            began = time.thread_time()
