"""`batchway`, with every commit of its ledger counted in the file that COMMIT_COUNT names.

In WAL mode with synchronous = FULL a commit is one fdatasync; checkpoints, a few for each 8 MB, come on top.
"""

from __future__ import annotations

import mmap
import os
import sqlite3
from functools import partial

from gateway.cli import main


def _counting(memory: mmap.mmap) -> type[sqlite3.Connection]:
    class Counting(sqlite3.Connection):
        """Counts what it commits."""

        def execute(self, sql: str, /, *parameters: object) -> sqlite3.Cursor:
            """As ever."""
            if sql == "COMMIT":
                memory[:8] = (int.from_bytes(memory[:8], "little") + 1).to_bytes(8, "little")
            return super().execute(sql, *parameters)  # type: ignore[arg-type]

    return Counting


def _main() -> None:
    with open(os.environ["COMMIT_COUNT"], "r+b") as file:  # noqa: PTH123 - a descriptor is all that is wanted
        memory = mmap.mmap(file.fileno(), 8)
    sqlite3.connect = partial(sqlite3.connect, factory=_counting(memory))  # type: ignore[assignment]
    main()


if __name__ == "__main__":
    _main()
