"""The ledger's schema is taken forward step by step, never back, and never without a copy of what was there before.

Floor 2. A step is one transaction: a process that dies in it leaves the schema as it was, and the next start does it again.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import structlog

from gateway.errors import LedgerError, LedgerTooNew, StorageFull
from gateway.store.sqlite_file import APPLICATION_ID

#: Beside the copy itself: a step writes something too.
ROOM_FOR_A_STEP_BYTES = 1 << 20


def migrate(
    connection: sqlite3.Connection,
    steps: Mapping[str, Sequence[str]],
    keep_copy: Callable[[sqlite3.Connection, int], object],
) -> None:
    """Take the schema forward, one transaction a step. Each step is remembered with its checksum.

    A ledger that has had steps before is first handed to `keep_copy`, with the number of the step that is about to be done.
    Raises `LedgerTooNew` when the file has had more steps than we know, `LedgerError` when an earlier step differs, and what
    `keep_copy` raises; nothing was changed then.
    """
    version = schema_version(connection)
    if version > len(steps):
        raise LedgerTooNew(
            f"the ledger has schema {version}, this Batchway knows up to {len(steps)}: "
            "run the version that wrote it, or a later one"
        )
    checksums = {name: hashlib.sha256("\n".join(statements).encode()).hexdigest() for name, statements in steps.items()}
    known = dict(connection.execute("SELECT version, checksum FROM migrations").fetchall()) if version else {}
    for number, name in enumerate(list(steps)[:version], start=1):
        if known.get(number) != checksums[name]:
            raise LedgerError(f"the ledger was made with another {name} than this Batchway has: it is left untouched")
    if 0 < version < len(steps):
        keep_copy(connection, version + 1)
    for number, name in list(enumerate(steps, start=1))[version:]:
        _apply(connection, number, steps[name], checksums[name])
        if version:
            structlog.get_logger().info("ledger_upgraded", schema=number, step=name)
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID:d}")


def schema_version(connection: sqlite3.Connection) -> int:
    """How many steps the ledger has had; 0: it is new."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def copy_before(connection: sqlite3.Connection, path: Path, step: int, free_bytes: int) -> Path:
    """Copy the ledger at `path` to `ledger.sqlite.before-STEP` beside it, whole and on disk; returns where it is.

    Nobody removes it. A copy that is there and holds what the ledger still holds is enough; an older one stays, and the new
    one has a number after its name. Raises `StorageFull`, before anything is written, if there is no room.
    """
    size = _pragma(connection, "page_count") * _pragma(connection, "page_size")
    target = _free_name(connection, path.with_name(f"{path.name}.before-{step}"))
    log = structlog.get_logger().bind(path=str(target), bytes=size, before_schema=step)
    if target.exists():
        log.info("ledger_copy_kept")
        return target
    if free_bytes < size + ROOM_FOR_A_STEP_BYTES:
        raise StorageFull(
            f"the ledger has to be copied before its schema is taken to {step}: that needs {size} bytes in {path.parent}, "
            f"and {free_bytes} are free. Nothing was changed: free some space and start again, or go on with the version before"
        )
    log.info("ledger_copying")
    partial = target.with_name(target.name + ".part")
    try:
        _copy(connection, partial)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    partial.replace(target)
    _sync_folder(path.parent)
    log.info("ledger_copied", advice="it is never removed: delete it when the new version has proved itself")
    return target


def _copy(connection: sqlite3.Connection, partial: Path) -> None:
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)
    with closing(sqlite3.connect(partial)) as copy:
        connection.backup(copy)
    with partial.open("rb+") as file:
        os.fsync(file.fileno())


def _free_name(connection: sqlite3.Connection, first: Path) -> Path:
    """A copy that is as new as the ledger, or a name that nobody has."""
    target, number = first, 1
    while target.exists() and _latest_boot(target) != _boots(connection):
        target, number = first.with_name(f"{first.name}.{number}"), number + 1
    return target


def _latest_boot(path: Path) -> int | None:
    """Each process that writes begins with a boot: with the same latest one, two copies of a ledger are alike."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as copy:
            return _boots(copy)
    except sqlite3.Error:
        return None


def _boots(connection: sqlite3.Connection) -> int | None:
    row = connection.execute("SELECT max(id) FROM boots").fetchone()
    return None if row is None or row[0] is None else int(row[0])


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _sync_folder(folder: Path) -> None:
    """So that the new name survives the loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _apply(connection: sqlite3.Connection, number: int, statements: Sequence[str], checksum: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if number == 1:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID:d}")
            connection.execute("CREATE TABLE migrations (version INTEGER PRIMARY KEY, checksum TEXT NOT NULL)")
        for statement in statements:
            connection.execute(statement)
        connection.execute("INSERT INTO migrations VALUES (?, ?)", (number, checksum))
        connection.execute(f"PRAGMA user_version = {number:d}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
