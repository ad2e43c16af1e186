"""Is the file at the ledger's place a ledger? Looked at before anything is written: what is not ours stays as it is."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import LedgerError

#: What the ledger's file says it is, where SQLite keeps room for that: "bway".
APPLICATION_ID = 0x62776179
#: Ledgers of early versions say nothing.
_UNNAMED = 0
_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first 100 bytes of a database of SQLite's, as far as they matter here."""

    page_size: int
    #: As of the last change that kept it up to date; 0: unknown.
    pages: int
    application_id: int

    @classmethod
    def of(cls, content: bytes) -> Header | None:
        """None: not a database of SQLite's."""
        if len(content) < _HEADER_BYTES or not content.startswith(_MAGIC):
            return None
        page_size = int.from_bytes(content[16:18], "big")
        counted = content[24:28] == content[92:96]
        return cls(
            page_size=65_536 if page_size == 1 else page_size,
            pages=int.from_bytes(content[28:32], "big") if counted else 0,
            application_id=int.from_bytes(content[68:72], "big"),
        )


def refuse_foreign_file(path: Path) -> None:
    """Raise `LedgerError` if a file lies at `path` that is not SQLite's, is cut off, or is another application's."""
    log_bytes = _size(path.with_name(path.name + "-wal"))
    file_bytes = _size(path)
    if not file_bytes and not log_bytes:
        return
    if not file_bytes:
        # SQLite would throw the log away.
        raise _refused(path, "it is empty, but its log is not: the file was cut off or deleted")
    with path.open("rb") as file:
        header = Header.of(file.read(_HEADER_BYTES))
    if header is None:
        raise _refused(path, "it is not an SQLite database (NOTADB)")
    if header.application_id not in (_UNNAMED, APPLICATION_ID):
        raise _refused(path, f"it belongs to another application (application_id {header.application_id:#x})")
    # With a log beside it, pages may still be there that have not been copied into the file.
    if not log_bytes and file_bytes < header.page_size * header.pages:
        raise _refused(path, f"it is cut off: {file_bytes} bytes of {header.page_size * header.pages} are left")


def refuse_foreign_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Raise `LedgerError` if the database has tables, and none of them says that they are the ledger's."""
    if connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID:
        return
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and not {"migrations", "boots", "lanes"} <= tables:
        raise _refused(path, f"it holds tables of another application ({', '.join(sorted(tables)[:5])})")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _refused(path: Path, reason: str) -> LedgerError:
    return LedgerError(
        f"{path} cannot be used as the ledger: {reason}. It is left untouched: "
        "move it away or restore it from a backup, or set another [storage] directory"
    )
