"""The ledger in one SQLite file: one thread writes and checkpoints, the loop reads what is committed."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, TypeVar

from gateway.errors import StorageFull
from gateway.store.database import Session
from gateway.store.disk import DiskRoom
from gateway.store.lock import DirectoryLock
from gateway.store.migrations import copy_before, migrate
from gateway.store.queries import load_queries, schema_statements
from gateway.store.sqlite_session import (
    Query,
    SqliteSession,
    connect_reader,
    connect_writer,
    errors_translated,
    prepared,
    translated,
)
from gateway.store.sqlite_writer import Writer

T = TypeVar("T")

DIALECT = "sqlite"
FILE_NAME = "ledger.sqlite"
#: Steps of the schema, oldest first; one that has a stored ledger (tests/fixtures) is never changed, only followed by another.
MIGRATIONS = ("schema.sql", "schema-2.sql")
PAGE_SIZE = 8192
WRITER_CACHE_BYTES = 16 << 20
READER_CACHE_BYTES = 8 << 20


class SqliteDatabase:
    """A `Database` in a directory of its own, which it locks: no other process may work with it."""

    def __init__(
        self,
        *,
        lock: DirectoryLock,
        path: Path,
        writer: Writer,
        reader: sqlite3.Connection,
        disk: DiskRoom,
        queries: Mapping[str, Query],
    ) -> None:
        """Use `open`."""
        self._lock = lock
        self._path = path
        self._writer = writer
        self._reader = reader
        self._queries = queries
        self._session = SqliteSession(reader, self._queries)
        self._disk = disk

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        durability: Literal["full", "relaxed"] = "full",
        min_free_bytes: int = 0,
        reserve_bytes: int = 0,
        lock_wait_seconds: float = 0.0,
        lock: DirectoryLock | None = None,
    ) -> SqliteDatabase:
        """Open or make the ledger in `directory`, bring its schema up to date, start the writer.

        With `durability="full"` a commit survives the loss of power; "relaxed" may lose the last ones to it, never to a
        crash of the process. `lock`: one already held on the directory; it is released by `close` either way.
        Raises `LedgerLocked`, `LedgerTooNew`, `StorageFull` or `LedgerError`, and then leaves nothing open.
        """
        lock = lock or DirectoryLock.acquire(directory, wait_seconds=lock_wait_seconds)
        path = directory / FILE_NAME
        disk = DiskRoom(directory, min_free_bytes=min_free_bytes, reserve_bytes=reserve_bytes)
        with contextlib.ExitStack() as undo:
            undo.callback(lock.release)
            disk.refill()
            try:
                connection, reader = _connections(path, durability, disk)
            except StorageFull:
                # What is finished can be delivered all the same, and so can this be said.
                if not disk.give_up_reserve():
                    raise
                connection, reader = _connections(path, durability, disk)
            undo.pop_all()
        queries = prepared(load_queries(DIALECT))
        writer = Writer(connection, queries, path, disk)
        return cls(lock=lock, path=path, writer=writer, reader=reader, disk=disk, queries=queries)

    @property
    def library_version(self) -> str:
        """Of the SQLite in use; before 3.51.3 two connections that write at once can corrupt the file. We have one."""
        return sqlite3.sqlite_version

    async def write(self, op: Callable[[Session], T], *, bulk: bool = False) -> T:
        """Run `op` on the writer; returns once it is durable."""
        return await self._writer.submit(op, bulk=bulk)

    async def read(self, op: Callable[[Session], T]) -> T:
        """Run `op` at once, in the loop; does not suspend."""
        try:
            return op(self._session)
        except sqlite3.Error as error:
            raise translated(error) from error

    @contextlib.contextmanager
    def reader(self) -> Iterator[Session]:
        """A connection of its own for a worker thread, closed at the end."""
        with errors_translated(), contextlib.closing(connect_reader(self._path, cache_bytes=2 << 20)) as connection:
            yield SqliteSession(connection, self._queries)

    def has_room(self) -> bool:
        """Whether the disk has more than `min_free_bytes`."""
        return self._disk.has_room()

    async def tend(self) -> bool:
        """Make the reserve again if it can be, and give one piece of the file that nothing is in back to the disk.

        Whether there is more to give back; nothing is waited for longer than for a small write.
        """
        # Not on the writer either: a slow disk may take seconds for it, and commits would wait.
        await asyncio.to_thread(self._disk.refill)
        return await self._writer.submit(lambda _session: self._writer.shrink(), bulk=True)

    async def close(self) -> None:
        """Finish what is queued, copy the log into the file, close, release the lock. Blocks for these few ms."""
        # The writer closes last: a connection that cannot write would leave the log behind.
        self._reader.close()
        self._writer.stop()
        self._writer.join()
        self._lock.release()


def _connections(path: Path, durability: str, disk: DiskRoom) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """The writer's connection, with the schema up to date, and the loop's."""
    with contextlib.ExitStack() as undo, errors_translated():
        writer = connect_writer(path, durability=durability, page_size=PAGE_SIZE, cache_bytes=WRITER_CACHE_BYTES)
        undo.callback(writer.close)
        steps = {name: schema_statements(DIALECT, name) for name in MIGRATIONS}
        migrate(writer, steps, lambda found, step: copy_before(found, path, step, disk.free_bytes()))
        reader = connect_reader(path, cache_bytes=READER_CACHE_BYTES)
        undo.pop_all()
    return writer, reader
