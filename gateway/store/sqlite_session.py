"""One SQLite connection as a `Session`, how it is opened, and what its errors mean."""

from __future__ import annotations

import contextlib
import errno
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import cast

from gateway.errors import LedgerError, StorageFull
from gateway.store.database import Params, Row, Value
from gateway.store.sqlite_file import refuse_foreign_file, refuse_foreign_tables

#: Every query is prepared once per connection.
CACHED_STATEMENTS = 256
_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")
#: What SQLite and the kernel say when there is no room. The third: the index of the write-ahead log could not grow.
_FULL_CODES = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}
_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT}


class Query:
    """A statement with its parameters by place: binding twenty of them by name costs 1.5 us more."""

    __slots__ = ("bind", "sql")

    def __init__(self, statement: str) -> None:
        """`statement` names its parameters `:name`."""
        names = list(dict.fromkeys(_PARAMETER.findall(statement)))
        self.sql = _PARAMETER.sub(lambda match: f"?{names.index(match[1]) + 1}", statement)
        self.bind = _binder(names)


def _binder(names: Sequence[str]) -> Callable[[Params], tuple[Value, ...]]:
    if len(names) > 1:
        return itemgetter(*names)
    return lambda params: tuple(params[name] for name in names)


class SqliteSession:
    """Runs named queries on one connection."""

    __slots__ = ("_connection", "_queries")

    def __init__(self, connection: sqlite3.Connection, queries: Mapping[str, Query]) -> None:
        """`queries` are the statements by name."""
        self._connection = connection
        self._queries = queries

    def row(self, query: str, params: Params) -> Row | None:
        """The first row of the named query, or None."""
        found = self._queries[query]
        return cast("Row | None", self._connection.execute(found.sql, found.bind(params)).fetchone())

    def rows(self, query: str, params: Params) -> list[Row]:
        """All rows of the named query."""
        found = self._queries[query]
        return self._connection.execute(found.sql, found.bind(params)).fetchall()

    def run(self, query: str, params: Params) -> int:
        """How many rows the named query changed."""
        found = self._queries[query]
        return self._connection.execute(found.sql, found.bind(params)).rowcount

    def run_many(self, query: str, params: Iterable[Params]) -> int:
        """Run the named query once for each of `params`; how many rows changed in all."""
        found = self._queries[query]
        return max(self._connection.executemany(found.sql, map(found.bind, params)).rowcount, 0)


def connect_writer(path: Path, *, durability: str, page_size: int, cache_bytes: int) -> sqlite3.Connection:
    """The one connection that writes and checkpoints; the file is made with mode 0600 if need be.

    Raises `LedgerError` for a file that is not a ledger, and leaves it as it is.
    """
    refuse_foreign_file(path)
    path.touch(mode=0o600)
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=CACHED_STATEMENTS
    )
    try:
        refuse_foreign_tables(connection, path)
        _tune(connection, durability=durability, page_size=page_size, cache_bytes=cache_bytes)
    except BaseException:
        connection.close()
        raise
    return connection


def _tune(connection: sqlite3.Connection, *, durability: str, page_size: int, cache_bytes: int) -> None:
    for pragma in (
        f"page_size = {page_size}",
        # Of a new file only: what retention frees can go back to the disk in small steps.
        "auto_vacuum = INCREMENTAL",
        "journal_mode = WAL",
        # The writer checkpoints when nobody waits for it.
        "wal_autocheckpoint = 0",
        f"synchronous = {'FULL' if durability == 'full' else 'NORMAL'}",
        "mmap_size = 0",
        f"cache_size = {-cache_bytes // 1024}",
        "temp_store = MEMORY",
        "busy_timeout = 5000",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def connect_reader(path: Path, *, cache_bytes: int) -> sqlite3.Connection:
    """A connection that cannot write."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=CACHED_STATEMENTS,
    )
    for pragma in ("query_only = 1", "mmap_size = 0", f"cache_size = {-cache_bytes // 1024}", "busy_timeout = 5000"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


def translated(error: Exception) -> Exception:
    """The gateway's own exception for a fault of the database or the disk; any other error as it is."""
    code = getattr(error, "sqlite_errorcode", None)
    if code in _FULL_CODES or (isinstance(error, OSError) and error.errno in _FULL_ERRNOS):
        return StorageFull("no room on the disk of the ledger: nothing was written; free some space, then try again")
    if isinstance(error, sqlite3.Error):
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        return LedgerError(f"the ledger's database failed ({name}): {error}; nothing was written")
    if isinstance(error, OSError) and error.errno is not None:
        return LedgerError(f"the ledger's files cannot be used: {error}; nothing was written")
    return error


@contextlib.contextmanager
def errors_translated() -> Iterator[None]:
    """Turns faults of the database within into the gateway's own exceptions."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        own = translated(error)
        if own is error:
            raise
        raise own from error


def prepared(statements: Mapping[str, str]) -> dict[str, Query]:
    """Statements by name as `Query`."""
    return {name: Query(statement) for name, statement in statements.items()}
