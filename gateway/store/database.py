"""What a database must do for the ledger: run named queries in transactions, durably, for many callers at once.

The rooms know nothing of SQL dialects: they speak of queries by name, and each database brings its own text for them
(`gateway/store/<dialect>/*.sql`). Rows come back as plain tuples, in the order the query names its columns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import orjson

T = TypeVar("T")

#: What a database takes and gives for one column.
Value = None | int | float | str | bytes
#: One row as the driver gives it. The drivers are untyped here: whoever unpacks a row says what is in it.
Row = tuple[Any, ...]
Params = Mapping[str, Value]


def json_array(values: Iterable[int | str]) -> str:
    """How a query is given a list: it joins with the elements of one JSON text."""
    return orjson.dumps(list(values)).decode()


class Session(Protocol):
    """Queries of one transaction (write), or of one read. Not to be kept beyond it."""

    def row(self, query: str, params: Params) -> Row | None:
        """The first row of the named query, or None."""
        ...

    def rows(self, query: str, params: Params) -> list[Row]:
        """All rows of the named query."""
        ...

    def run(self, query: str, params: Params) -> int:
        """How many rows the named query changed."""
        ...

    def run_many(self, query: str, params: Iterable[Params]) -> int:
        """Run the named query once for each of `params`; how many rows changed in all."""
        ...


class Database(Protocol):
    """One ledger's database. Errors: `StorageFull` when there is no room, `LedgerError` for every other fault of it."""

    async def write(self, op: Callable[[Session], T], *, bulk: bool = False) -> T:
        """Run `op` in a transaction; its result is returned only once that is durable.

        `op` runs on another thread and may run twice, so it is a function of the database alone: when one op of a group
        raises, the group is rolled back and each op is run again in a transaction of its own, and each caller gets its
        own exception. A caller that is cancelled while it waits does not undo the write. `bulk` ops yield to all others.
        """
        ...

    async def read(self, op: Callable[[Session], T]) -> T:
        """Run `op` on what is committed, in the loop: for quick, indexed reads. Each query may see a later commit."""
        ...

    def reader(self) -> AbstractContextManager[Session]:
        """A read-only session of its own for a worker thread."""
        ...

    def has_room(self) -> bool:
        """Whether new work may be accepted; finished work is written as long as there is any room at all."""
        ...

    async def tend(self) -> bool:
        """One small step of upkeep, for quiet moments; whether there is more to do. Callers' writes come before it."""
        ...

    async def close(self) -> None:
        """Finish what is queued, then close; later calls raise `LedgerError`."""
        ...


async def read_aside(database: Database, op: Callable[[Session], T]) -> T:
    """Run `op` in a worker thread, on a session of its own: for reads that may look through many rows."""

    def read() -> T:
        with database.reader() as session:
            return op(session)

    return await asyncio.to_thread(read)
