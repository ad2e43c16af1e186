"""The real ledger on a real SQLite file, written in the loop at seeded moments instead of on a thread."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TypeVar, cast
from unittest.mock import patch

from gateway.errors import LedgerError
from gateway.store.database import Session
from gateway.store.disk import DiskRoom
from gateway.store.lock import DirectoryLock
from gateway.store.queries import load_queries
from gateway.store.sqlite import DIALECT, FILE_NAME, PAGE_SIZE, SqliteDatabase
from gateway.store.sqlite_session import Query, connect_reader, connect_writer, prepared
from gateway.store.sqlite_writer import Job, Writer, deliver
from tests.simulation.loop import SimulatedLoop

T = TypeVar("T")

CACHE_BYTES = 1 << 20


@cache
def statements() -> Mapping[str, Query]:
    """The ledger's own; read once."""
    return prepared(load_queries(DIALECT))


class NoThread:
    """In the place of the writer's own thread."""

    def __init__(self, **_: object) -> None:
        """Runs nothing."""

    def start(self) -> None:
        """Nothing."""


class SimulatedWriter(Writer):
    """Commits groups as the real one does, one after the other; every commit is a moment at which the process may die."""

    def __init__(self, loop: SimulatedLoop, connection: sqlite3.Connection, path: Path, disk: DiskRoom) -> None:
        with patch.object(threading, "Thread", NoThread):
            super().__init__(connection, statements(), path, disk)
        self._loop = loop
        self._busy = False

    def submit(self, op: Callable[[Session], T], *, bulk: bool) -> asyncio.Future[T]:
        """Queue `op`; it is committed some moment later, with what has gathered by then."""
        if self._closing:
            raise LedgerError("the ledger is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        (self._bulk if bulk else self._urgent).append(cast("Job[object]", Job(op, future, bulk)))
        self._wake()
        return future

    def stop(self) -> None:
        """Commit what is queued, then close."""
        self._closing = True
        while (self._urgent or self._bulk) and not self._loop.dead:
            self._work()
        if not self._loop.dead:
            self._close()

    def join(self) -> None:
        """There is no thread."""

    def _wake(self) -> None:
        if not self._busy and (self._urgent or self._bulk):
            self._busy = True
            chance = self._loop.random.random()
            self._loop.call_later(0.0 if chance < 0.8 else chance * 0.2, self._turn)

    def _turn(self) -> None:
        self._busy = False
        if not self._closing:
            self._work()
            self._wake()

    def _work(self) -> None:
        if self._urgent:
            # A group is whatever had come in by the time the last commit was over.
            count = 1 + int(self._loop.random.random() * len(self._urgent))
            jobs = [self._urgent.popleft() for _ in range(count)]
        else:
            jobs = [self._bulk.popleft()]
        if self._loop.moment("before commit"):
            return
        outcomes = self._commit(jobs)
        if not self._loop.moment("after commit"):
            deliver(outcomes)


class SimulatedDatabase(SqliteDatabase):
    """The real one in `directory`, on `loop`."""

    @classmethod
    def on(cls, loop: SimulatedLoop, directory: Path) -> SimulatedDatabase:
        """Open or make it."""
        path = directory / FILE_NAME
        if not path.exists():
            shutil.copy(_empty_ledger(directory.parent.parent), path)
        connection = connect_writer(path, durability="relaxed", page_size=PAGE_SIZE, cache_bytes=CACHE_BYTES)
        connection.execute("PRAGMA synchronous = OFF")
        disk = DiskRoom(directory, min_free_bytes=0, reserve_bytes=0)
        database = cls(
            lock=DirectoryLock.acquire(directory, wait_seconds=0),
            path=path,
            writer=SimulatedWriter(loop, connection, path, disk),
            reader=connect_reader(path, cache_bytes=CACHE_BYTES),
            disk=disk,
            queries=statements(),
        )
        database._connection = connection
        return database

    _connection: sqlite3.Connection

    @contextlib.contextmanager
    def reader(self) -> Iterator[Session]:
        """The one for all: nothing runs beside the loop."""
        yield self._session

    def drop(self) -> None:
        """The process has died: what was not committed never was."""
        self._connection.close()
        self._reader.close()
        self._lock.release()


def _empty_ledger(directory: Path) -> Path:
    """A file with the schema and nothing else, made once for each `directory`."""
    home = directory / "empty"
    if not home.exists():
        asyncio.run(SqliteDatabase.open(home, durability="relaxed").close())
    return home / FILE_NAME
