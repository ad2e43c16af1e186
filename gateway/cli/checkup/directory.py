"""The storage directory: whose it is, how much room there is, what lies in it that nobody needs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from gateway.cli.checkup.findings import Finding, note, ok, problem, sized
from gateway.cli.output import AS_WHO_RUNS_IT, is_there
from gateway.config import Cache, Storage
from gateway.endpoints.keys import TOKEN_FILE
from gateway.records import BatchState, is_marker
from gateway.store.checks import BatchName
from gateway.store.disk import DiskRoom

#: Files that hold texts or keys.
_PRIVATE = ("ledger.sqlite", "ledger.sqlite-wal", TOKEN_FILE, "lock", "reserve")
_OVER = (BatchState.COLLECTED, BatchState.DISSOLVED)
_CACHE_FILE = "cache.db"
#: How copies of the ledger are called that upgrades make.
_COPY = "ledger.sqlite.before-"


def lock_owner(directory: Path) -> int | None:
    """The process that works with the directory; 0 when its number is not known, None: nobody does."""
    try:
        descriptor = os.open(directory / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        return int(text) if text.isdecimal() else 0
    finally:
        os.close(descriptor)
    return None


def closed(directory: Path) -> Finding | None:
    """What to say of a directory that this user cannot look into; None: it can, or there is none."""
    try:
        is_there(directory / "lock")
    except OSError as error:
        advice = AS_WHO_RUNS_IT if isinstance(error, PermissionError) else "set another [storage] directory"
        return problem("directory", f"{directory} cannot be looked into: {error.strerror}", advice)
    return None


def check_directory(storage: Storage) -> Iterator[Finding]:
    """The directory itself, its room and its reserve."""
    directory = storage.directory
    if not directory.is_dir():
        yield note("directory", f"{directory} is not there yet", "the first start makes it")
        return
    yield _permissions(directory)
    yield _room(storage)


def _permissions(directory: Path) -> Finding:
    mine = os.geteuid()
    found = [(directory, 0o077), *((directory / name, 0o077) for name in _PRIVATE)]
    open_to_all = [path for path, mask in found if path.exists() and stat.S_IMODE(path.stat().st_mode) & mask]
    others = [path for path, _ in found if path.exists() and path.stat().st_uid != mine]
    if open_to_all:
        names = ", ".join(str(path) for path in open_to_all)
        return problem(
            "directory",
            f"others may read {names}: requests, answers and the operator's token",
            f"chmod -R go-rwx {directory}",
        )
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        return problem("directory", f"{directory} cannot be written by this user", AS_WHO_RUNS_IT)
    if others:
        return note("directory", f"{others[0]} belongs to another user", AS_WHO_RUNS_IT)
    return ok("directory", f"{directory}, its owner's alone")


def _room(storage: Storage) -> Finding:
    room = DiskRoom(storage.directory, min_free_bytes=storage.min_free_bytes, reserve_bytes=storage.reserve_bytes)
    free, needed = room.free_bytes(), storage.min_free_bytes
    reserved = (storage.directory / "reserve").exists() or not storage.reserve_bytes
    said = f"{sized(free)} free, new requests are refused below {sized(needed)}"
    if not room.has_room():
        return problem("room", said, "free some space: until then only what is finished is delivered")
    if not reserved:
        missing = "the reserve file is gone: it was given up when the disk was full, or the gateway has not run yet"
        return note("room", f"{said}; {missing}", "it is made again when there is room for it and more")
    if free < 4 * needed:
        return note("room", said, "free some space before it comes to that")
    return ok("room", f"{said}; the reserve is there" if storage.reserve_bytes else said)


def left_over(directory: Path) -> list[Path]:
    """Batch files and half-made copies that lie there now. Ask before the ledger is read: files come after their batch."""
    found: list[Path] = []
    with contextlib.suppress(OSError):
        found += (path for path in (directory / "spool").iterdir() if path.is_file())
        found += directory.glob(f"{_COPY}*.part")
    return sorted(found)


def orphan_files(files: Iterable[Path], names: Sequence[BatchName]) -> list[Path]:
    """Those of `files` that are of batches which are over, or were never finished: nobody will read them."""
    over = {name.marker for name in names if name.state in _OVER and name.discarded}
    return [path for path in files if _marker_of(path) in over or path.name.startswith(_COPY)]


def lost_files(files: Iterable[Path], names: Sequence[BatchName]) -> list[Path]:
    """Those of `files` that are of batches which the ledger does not know: paid answers may be in them."""
    known = {name.marker for name in names}
    return [path for path in files if (marker := _marker_of(path)) is not None and marker not in known]


def _marker_of(path: Path) -> str | None:
    marker, _, kind = path.name.partition(".")
    return marker if is_marker(marker) and kind.removesuffix(".part") in ("jsonl", "rows", "proof") else None


def check_files(files: Sequence[Path], names: Sequence[BatchName]) -> Iterator[Finding]:
    """What to say of files that no batch needs."""
    orphans, lost = orphan_files(files, names), lost_files(files, names)
    if orphans:
        yield problem(
            "files",
            f"{len(orphans)} files that nobody will read, {_listed(orphans)}",
            "batchway doctor --repair deletes them, while the gateway is stopped",
        )
    if lost:
        yield note(
            "files",
            f"{len(lost)} files of batches that the ledger does not know, {_listed(lost)}",
            "of a ledger that was restored or lost: paid answers may be in *.rows, so they are yours to delete",
        )
    if not orphans and not lost:
        yield ok("files", f"{len(files)} files of batches, all of them needed")


def _listed(paths: Sequence[Path]) -> str:
    size = sum(path.stat().st_size for path in paths if path.exists())
    return f"{sized(size)}: {paths[0].name}{', ...' if paths[1:] else ''}"


def check_copies(directory: Path) -> Iterator[Finding]:
    """Copies of the ledger that upgrades left."""
    copies = [path for path in directory.glob(f"{_COPY}*") if not path.name.endswith(".part")]
    if copies:
        size = sum(path.stat().st_size for path in copies)
        names = ", ".join(sorted(path.name for path in copies))
        yield note("copies", f"{names}, {sized(size)}", "delete them when this version has proved itself")


def check_cache(directory: Path, cache: Cache) -> Finding:
    """The long memory of answers; nothing is lost with it."""
    if not cache.enabled:
        return ok("cache", "off")
    if not (directory / _CACHE_FILE).exists():
        return ok("cache", "nothing in it yet")
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    try:
        with closing(sqlite3.connect(f"{(directory / _CACHE_FILE).absolute().as_uri()}?mode=ro", uri=True)) as rows:
            [(count,)] = rows.execute("SELECT count(*) FROM Cache").fetchall()
    except sqlite3.Error as error:
        return problem(
            "cache",
            f"{directory} cannot be read: {error}",
            "nothing is lost: the gateway puts it aside and begins a new one; or delete it while the gateway is stopped",
        )
    return ok("cache", f"{count} entries, {sized(size)} of {sized(cache.max_bytes)}")
