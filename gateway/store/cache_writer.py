"""The thread that writes the cache: takes what has gathered, one transaction for all of it, and mends what is broken."""

from __future__ import annotations

import contextlib
import queue
import shutil
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import diskcache

from gateway.store.cache_values import (
    file_identity,
    open_value,
    pack_ordinals,
    pack_sample,
    sample_key,
    seal_value,
    unpack_ordinals,
)
from gateway.store.rows import Sample

#: Entries that may wait; what comes on top is dropped and counted.
WAITING_ENTRIES = 20_000
#: Entries of one transaction, about: a read that meets it waits for it.
GROUP_ENTRIES = 200
#: SQLite's words for a file that is not, or no longer, a database of ours. A full disk or a lock is none of them.
_BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_ERROR}
#: What a broken, foreign or missing file may make diskcache raise: anything. None of it may reach a request.
FAULTS = (Exception,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An answer to be remembered."""

    fingerprint: bytes
    sample: Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """Entries to store, a file that was found broken, somebody to tell, or the wish to stop."""

    entries: Sequence[Entry] = ()
    done: threading.Event | None = None
    stop: bool = False
    broken: tuple[int, int] | None = None


@dataclass(slots=True)
class _Group:
    entries: list[Entry] = field(default_factory=list)
    done: list[threading.Event] = field(default_factory=list)
    stop: bool = False
    broken: tuple[int, int] | None = None


class CacheWriter:
    """Owns the writing side. `open_store` makes or opens the files; whatever it raises is a fault, never the end."""

    def __init__(
        self, directory: Path, database: Path, open_store: Callable[[], diskcache.Cache], ttl_seconds: float
    ) -> None:
        """Starts the thread."""
        self._directory = directory
        self._database = database
        self._open_store = open_store
        self._ttl_seconds = ttl_seconds
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._store: diskcache.Cache | None = None
        self._identity: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self._waiting = 0
        #: Entries that were not kept: too many waited, or the files could not be used.
        self.dropped = 0
        #: Directories that were put aside.
        self.renewals = 0
        self._thread = threading.Thread(target=self._run, name="cache-writer", daemon=True)
        self._thread.start()

    def put(self, entries: Sequence[Entry]) -> None:
        """Store these soon. Never waits."""
        with self._lock:
            full = self._waiting + len(entries) > WAITING_ENTRIES
            self._waiting += 0 if full else len(entries)
        if full:
            self.dropped += len(entries)
        else:
            self._jobs.put(_Job(entries=entries))

    def report(self, error: Exception, identity: tuple[int, int] | None) -> None:
        """A read of this file has failed: it is put aside if that means that it is broken."""
        if is_broken(error):
            self._jobs.put(_Job(broken=identity))

    def flush(self) -> None:
        """Block until everything handed over so far is stored or dropped."""
        done = threading.Event()
        self._jobs.put(_Job(done=done))
        done.wait()

    def close(self) -> None:
        """Store what waits, let go of the files, end the thread."""
        self._jobs.put(_Job(stop=True))
        self._thread.join()

    def _run(self) -> None:
        self._usable()
        stop = False
        while not stop:
            group = self._gather()
            if group.broken is not None and group.broken == file_identity(self._database):
                self._renew()
            self._keep(group.entries)
            with self._lock:
                self._waiting -= len(group.entries)
            for done in group.done:
                done.set()
            stop = group.stop
        self._let_go()

    def _gather(self) -> _Group:
        group = _Group()
        job = self._jobs.get()
        while True:
            group.entries.extend(job.entries)
            group.stop |= job.stop
            group.broken = job.broken or group.broken
            if job.done is not None:
                group.done.append(job.done)
            if len(group.entries) >= GROUP_ENTRIES or group.stop:
                return group
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return group

    def _keep(self, entries: Sequence[Entry]) -> None:
        for _ in range(2):
            try:
                if not entries or (self._usable() and self._store_all(entries)):
                    return
            except FAULTS as error:
                if not is_broken(error):
                    break
                self._renew()
        self.dropped += len(entries)

    def _store_all(self, entries: Sequence[Entry]) -> bool:
        if self._store is None:
            return False
        lists: dict[bytes, set[int]] = {}
        with self._store.transact():
            for entry in entries:
                if entry.fingerprint not in lists:
                    known = open_value(entry.fingerprint, self._store.get(entry.fingerprint))
                    lists[entry.fingerprint] = set(unpack_ordinals(known))
                lists[entry.fingerprint].add(entry.sample.ordinal)
                self._set(sample_key(entry.fingerprint, entry.sample.ordinal), pack_sample(entry.sample))
            for fingerprint, ordinals in lists.items():
                self._set(fingerprint, pack_ordinals(ordinals))
        self._store.cull()
        return True

    def _set(self, key: bytes, content: bytes) -> None:
        if self._store is not None:
            self._store.set(key, seal_value(key, content), expire=self._ttl_seconds)

    def _usable(self) -> bool:
        """Whether the file at the path is open; opens it, or puts what cannot be opened aside and begins anew."""
        if self._store is not None and file_identity(self._database) == self._identity:
            return True
        return self._try_to_open() or self._renew()

    def _renew(self) -> bool:
        self._let_go()
        self._put_aside()
        return self._try_to_open()

    def _try_to_open(self) -> bool:
        self._let_go()
        with contextlib.suppress(*FAULTS):
            self._store = self._open_store()
            self._identity = file_identity(self._database)
            self._store.get(b"")
            return True
        self._let_go()
        return False

    def _put_aside(self) -> None:
        # One broken directory is kept for whoever wants to look at it.
        aside = self._directory.with_name(self._directory.name + ".broken")
        with contextlib.suppress(OSError):
            if aside.is_dir() and not aside.is_symlink():
                shutil.rmtree(aside)
            else:
                aside.unlink(missing_ok=True)
            self._directory.rename(aside)
            self.renewals += 1

    def _let_go(self) -> None:
        if self._store is not None:
            with contextlib.suppress(*FAULTS):
                self._store.close()
            self._store = None


def is_broken(error: Exception) -> bool:
    """Whether this fault of a read or a write says that the file is of no use any more."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _BROKEN
