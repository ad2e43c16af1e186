"""The writer's order: nobody hears of what is not committed, and callers do not wait behind bulk work."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from gateway.errors import LedgerError
from gateway.store.database import Session
from gateway.store.disk import DiskRoom
from gateway.store.sqlite_writer import Writer


class Faulty:
    """A connection that does as its database does, but for commits, which may fail."""

    def __init__(self, path: Path) -> None:
        self._real = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.fails = False

    @property
    def in_transaction(self) -> bool:
        """As the database says."""
        return self._real.in_transaction

    def execute(self, statement: str, *params: object) -> sqlite3.Cursor:
        """Run it, unless it is a commit that is to fail."""
        if self.fails and statement == "COMMIT":
            raise sqlite3.OperationalError("disk I/O error")
        return self._real.execute(statement, *params)

    def close(self) -> None:
        """Let go of the file."""
        self._real.close()


@asynccontextmanager
async def open_writer(path: Path) -> AsyncIterator[tuple[Writer, Faulty]]:
    """A writer without queries."""
    connection = Faulty(path)
    disk = DiskRoom(path.parent, min_free_bytes=0, reserve_bytes=0)
    writer = Writer(cast("sqlite3.Connection", connection), {}, path, disk)
    try:
        yield writer, connection
    finally:
        writer.stop()
        await asyncio.to_thread(writer.join)


async def test_nobody_is_told_before_the_commit(tmp_path: Path) -> None:
    """Whoever's write could not be committed is told so, although its own statements went well."""
    async with open_writer(tmp_path / "x.sqlite") as (writer, connection):
        connection.fails = True
        told = [writer.submit(lambda _session: "written", bulk=False) for _ in range(3)]
        outcomes = await asyncio.gather(*told, return_exceptions=True)
        connection.fails = False

        assert [type(outcome) for outcome in outcomes] == [LedgerError] * 3
        assert await writer.submit(lambda _session: "written", bulk=False) == "written"


async def test_callers_are_not_behind_bulk_work(tmp_path: Path) -> None:
    """However much bulk work is queued, a caller waits for one piece of it at most."""
    order: list[str] = []
    gate = threading.Event()

    def job(name: str) -> Iterator[str]:
        order.append(name)
        yield name

    def first(_session: Session) -> None:
        gate.wait(20)

    async with open_writer(tmp_path / "x.sqlite") as (writer, _):
        held = writer.submit(first, bulk=False)
        bulk = [writer.submit(lambda _session, n=n: next(job(f"bulk {n}")), bulk=True) for n in range(9)]
        caller = writer.submit(lambda _session: next(job("caller")), bulk=False)
        gate.set()
        await asyncio.gather(held, caller, *bulk)

    assert order.index("caller") <= 1


@pytest.mark.parametrize("bulk", [True, False])
async def test_a_closed_writer_takes_nothing(bulk: bool, tmp_path: Path) -> None:
    """What comes after the stop is refused, not forgotten."""
    async with open_writer(tmp_path / "x.sqlite") as (writer, _):
        writer.stop()
        with pytest.raises(LedgerError):
            writer.submit(lambda _session: None, bulk=bulk)


async def test_what_came_before_the_stop_is_written(tmp_path: Path) -> None:
    """Writes that the writer finds together with the order to stop, behind one that took long, are done all the same."""
    order: list[str] = []
    gate = threading.Event()
    async with open_writer(tmp_path / "x.sqlite") as (writer, _):
        told = [writer.submit(lambda _session: gate.wait(10), bulk=False)]
        told += [writer.submit(lambda _session: order.append("caller") is None, bulk=False)]
        told += [writer.submit(lambda _session: order.append("bulk") is None, bulk=True)]
        writer.stop()
        gate.set()
        await asyncio.to_thread(writer.join)

        assert order == ["caller", "bulk"]
        assert await asyncio.gather(*told) == [True, True, True]
