"""The one thread that writes to the SQLite file: commits whatever has gathered, then wakes the loop once."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar, cast

from gateway.errors import LedgerError, StorageFull
from gateway.store.database import Session
from gateway.store.disk import DiskRoom
from gateway.store.sqlite_session import Query, SqliteSession, translated

T = TypeVar("T")

#: A group takes at most this many operations, so that the first of them does not wait for ever.
MAX_GROUP = 1_024
#: The write-ahead log is copied into the database when it is longer than this.
CHECKPOINT_BYTES = 8 << 20
#: A log that readers have kept from starting anew for so long is cut off, which waits for them.
LARGEST_LOG_BYTES = 64 << 20
#: Pages given back to the disk in one commit: about a megabyte.
SHRINK_PAGES = 128
#: Moving pages takes room in the log first; the reserve is not for that.
SHRINK_ROOM_BYTES = 4 << 20
#: Free pages that stay in the file: at least so many, and one of so many of all.
KEPT_PAGES, KEPT_SHARE = 1_024, 10
#: SQLite's word for a file that can be made shorter in steps.
_INCREMENTAL = 2


@dataclass(frozen=True, slots=True)
class Job(Generic[T]):
    """One operation and whom to tell."""

    op: Callable[[Session], T]
    future: asyncio.Future[T]
    bulk: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job: its result, or its error."""

    job: Job[object]
    result: object
    error: Exception | None


class Writer:
    """Owns the writing connection; `submit` from the loop, `close` once."""

    def __init__(
        self, connection: sqlite3.Connection, queries: Mapping[str, Query], path: Path, disk: DiskRoom
    ) -> None:
        """`connection` is used by the writer's own thread only, from now on."""
        self._connection = connection
        self._session = SqliteSession(connection, queries)
        self._wal = path.with_name(path.name + "-wal")
        self._disk = disk
        self._incoming: queue.SimpleQueue[Job[object] | None] = queue.SimpleQueue()
        self._urgent: deque[Job[object]] = deque()
        self._bulk: deque[Job[object]] = deque()
        self._closing = False
        self._next_checkpoint_bytes = CHECKPOINT_BYTES
        self._thread = threading.Thread(target=self._main, name="ledger-writer", daemon=True)
        self._thread.start()

    def submit(self, op: Callable[[Session], T], *, bulk: bool) -> asyncio.Future[T]:
        """Queue `op`; the future is done once its group is durable. Cancelling the future does not undo the write."""
        if self._closing:
            raise LedgerError("the ledger is closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._incoming.put(cast("Job[object]", Job(op, future, bulk)))
        return future

    def stop(self) -> None:
        """No more jobs; what is queued will be finished. Then `join`."""
        if not self._closing:
            self._closing = True
            self._incoming.put(None)

    def join(self) -> None:
        """Block until everything is written and the connection closed."""
        self._thread.join()

    def shrink(self) -> bool:
        """Within a job: move the last pages of the file into free ones, so that it can end earlier; whether that goes on.

        Some free pages stay, for the next rows to come: a file that grows and shrinks every day wins nothing. A file made
        without this possibility keeps them all.
        """
        pages, free, mode = map(self._pragma, ("page_count", "freelist_count", "auto_vacuum"))
        short = not self._disk.has_room()
        kept = 0 if short else max(KEPT_PAGES, pages // KEPT_SHARE)
        if free <= kept or mode != _INCREMENTAL or self._disk.free_bytes() < SHRINK_ROOM_BYTES:
            return False
        for _ in range(min(SHRINK_PAGES, free - kept)):
            # Of one statement that moves many pages, Python's module runs the first step only.
            self._connection.execute("PRAGMA incremental_vacuum(1)").fetchall()
        more = free - kept > SHRINK_PAGES
        if not more:
            # The file itself gets shorter when the log is copied into it.
            self._next_checkpoint_bytes = 1
        return more

    def _pragma(self, name: str) -> int:
        return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])

    def _main(self) -> None:
        stopping = False
        while True:
            stopping = self._gather(wait=not (self._bulk or self._urgent or stopping)) or stopping
            if stopping and not (self._urgent or self._bulk):
                break
            if self._urgent:
                self._finish([self._urgent.popleft() for _ in range(min(len(self._urgent), MAX_GROUP))])
            # One bulk job after each group: callers wait for one at most, and bulk work never starves.
            if self._bulk:
                self._finish([self._bulk.popleft()])
            self._checkpoint()
        self._close()

    def _gather(self, *, wait: bool) -> bool:
        # Whatever has come in since the last commit makes the next group: no timer, and no waiting for company.
        stopping = False
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._incoming.get(block=wait)
                wait = False
                if job is None:
                    stopping = True
                else:
                    (self._bulk if job.bulk else self._urgent).append(job)
        return stopping

    def _finish(self, jobs: list[Job[object]]) -> None:
        deliver(self._commit(jobs))

    def _commit(self, jobs: Sequence[Job[object]]) -> list[Outcome]:
        try:
            return self._transaction(jobs)
        except Exception as error:  # noqa: BLE001 - each caller gets its own, the writer lives on
            if len(jobs) == 1:
                return [self._retried(jobs[0], translated(error))]
            return [outcome for job in jobs for outcome in self._commit([job])]

    def _retried(self, job: Job[object], error: Exception) -> Outcome:
        # The reserve on the disk is there for this moment: results must still reach their callers.
        if isinstance(error, StorageFull) and self._disk.give_up_reserve():
            try:
                return self._transaction([job])[0]
            except Exception as second:  # noqa: BLE001
                error = translated(second)
        return Outcome(job, None, error)

    def _transaction(self, jobs: Sequence[Job[object]]) -> list[Outcome]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            outcomes = [Outcome(job, job.op(self._session), None) for job in jobs]
            self._connection.execute("COMMIT")
        except BaseException:
            # SQLite has rolled back by itself after some faults.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return outcomes

    def _checkpoint(self) -> None:
        # A log that is copied whole starts anew at the front of its file, so a file that grows again has a full log.
        size = self._wal_bytes()
        if size < self._next_checkpoint_bytes:
            return
        mode = "TRUNCATE" if size > LARGEST_LOG_BYTES else "PASSIVE"
        with contextlib.suppress(sqlite3.Error):
            busy, frames, copied = self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
            size = self._wal_bytes() + (CHECKPOINT_BYTES // 4 if busy or frames != copied else 1)
            self._next_checkpoint_bytes = max(size, CHECKPOINT_BYTES)
        self._disk.refill()

    def _wal_bytes(self) -> int:
        try:
            return self._wal.stat().st_size
        except OSError:
            return 0

    def _close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()


def deliver(outcomes: Sequence[Outcome]) -> None:
    """Tell the loop of a whole group in one call."""
    if outcomes:
        # The loop may be gone already; then nobody waits for an answer.
        with contextlib.suppress(RuntimeError):
            outcomes[0].job.future.get_loop().call_soon_threadsafe(_resolve, outcomes)


def _resolve(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        future = outcome.job.future
        if future.done():
            continue
        if outcome.error is not None:
            future.set_exception(outcome.error)
        else:
            future.set_result(outcome.result)
