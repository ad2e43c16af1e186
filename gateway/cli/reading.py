"""The ledger as commands read it: beside a running gateway or without one, without its lock, and never written to."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from gateway.cli.output import is_there
from gateway.clock import SystemClock
from gateway.config import Storage
from gateway.errors import LedgerError, LedgerTooNew
from gateway.records import RequestState
from gateway.store.database import Session
from gateway.store.ledger import Ledger
from gateway.store.queries import load_queries
from gateway.store.rows import Request
from gateway.store.sqlite import DIALECT, FILE_NAME, MIGRATIONS
from gateway.store.sqlite_session import SqliteSession, connect_reader, errors_translated, prepared

T = TypeVar("T")

_CACHE_BYTES = 2 << 20
#: Requests are read backwards in blocks of so many.
_BLOCK = 2_000


class ReadOnlyDatabase:
    """A `Database` on the SQLite ledger of a gateway that may be running in another process; every write is refused."""

    def __init__(self, path: Path) -> None:
        """Use `open_ledger`."""
        self._path = path
        self._queries = prepared(load_queries(DIALECT))

    async def write(self, op: Callable[[Session], T], *, bulk: bool = False) -> T:
        """Raise `LedgerError`."""
        raise LedgerError("commands only read the ledger; the running gateway writes it")

    async def read(self, op: Callable[[Session], T]) -> T:
        """Run `op` on what is committed now."""
        with self.reader() as session:
            return op(session)

    @contextlib.contextmanager
    def reader(self) -> Iterator[Session]:
        """A connection that cannot write, closed at the end."""
        with (
            _named(self._path),
            contextlib.closing(connect_reader(self._path, cache_bytes=_CACHE_BYTES)) as connection,
        ):
            yield SqliteSession(connection, self._queries)

    def has_room(self) -> bool:
        """Nothing is written, so there is."""
        return True

    async def tend(self) -> bool:
        """Nothing is to be done: the running gateway does it."""
        return False

    async def close(self) -> None:
        """Nothing stays open."""


def open_ledger(storage: Storage) -> Ledger:
    """The ledger that `storage` names, for reading. Raises `LedgerError` if there is none that this version can read."""
    if storage.ledger:
        raise LedgerError("storage.ledger: only SQLite (an empty string) is supported by this version")
    path = storage.directory / FILE_NAME
    if not is_there(path):
        raise LedgerError(
            f"there is no ledger in {storage.directory}: no gateway has run with this configuration yet "
            "(--config names another one)"
        )
    _check_version(path)
    return Ledger(ReadOnlyDatabase(path), SystemClock())


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """What SQLite raises of a file, with the file's name and what to do."""
    try:
        with errors_translated():
            yield
    except LedgerError as error:
        advice = "If another program holds it, try again when that is done; `batchway doctor` looks at it closely."
        raise LedgerError(f"{path} cannot be read: {error}. {advice}") from error


def _check_version(path: Path) -> None:
    with _named(path), contextlib.closing(connect_reader(path, cache_bytes=_CACHE_BYTES)) as connection:
        version = _version(connection)
    if version > len(MIGRATIONS):
        raise LedgerTooNew(f"{path} was written by a later version of Batchway: read it with that one")
    if version < len(MIGRATIONS):
        raise LedgerError(
            f"{path} was written by an earlier version of Batchway: start the gateway once to bring it up"
        )


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


async def latest_requests(
    ledger: Ledger, *, client: str | None, states: Sequence[RequestState], batch: int | None, limit: int
) -> list[Request]:
    """The latest requests of that client (None: any), in those states, in that batch (None: any); newest first."""
    row = await ledger.database.read(lambda session: session.row("next_seq", {}))
    below = 1 if row is None else int(row[0])
    found: list[Request] = []
    while below > 1 and len(found) < limit:
        after = max(0, below - 1 - _BLOCK)
        block = await ledger.requests.listed(client, states, _BLOCK, after)
        found += (each for each in reversed(block) if each.seq < below and (batch is None or each.batch == batch))
        below = after + 1
    return found[:limit]
