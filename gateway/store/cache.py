"""The long memory of answers: diskcache, read in the loop, written by a thread of its own. May be deleted at any time.

Nothing that happens to it fails a request or gives a wrong answer: every fault is a miss, and a directory that cannot
be used is put aside and begun anew. Its files are neither mapped into memory nor in WAL mode (whose index is mapped):
a mapped file that somebody truncates kills the process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import diskcache
from diskcache.core import DBNAME

from gateway.store.cache_values import BytesDisk, file_identity, open_value, sample_key, unpack_ordinals, unpack_sample
from gateway.store.cache_writer import FAULTS, CacheWriter, Entry
from gateway.store.rows import Sample

__all__ = ["Cache", "CacheSettings", "Entry"]

#: Answers of one fingerprint that a read brings back, besides the last.
READ_AT_MOST = 1_000
#: A read that meets a commit waits for it, this long; then it is a miss.
READ_SECONDS = 0.1
WRITE_SECONDS = 5.0
_DAY_SECONDS = 86_400.0

#: diskcache keeps these in its file. Reads never write; a lost commit is a miss, so nothing is synced.
_SETTINGS = {
    "eviction_policy": "least-recently-stored",
    "statistics": 0,
    "tag_index": 0,
    # Culling is done once a group, not once a value.
    "cull_limit": 0,
    "sqlite_mmap_size": 0,
    "sqlite_journal_mode": "truncate",
    "sqlite_synchronous": 0,
    "sqlite_cache_size": 512,
}


class CacheSettings(Protocol):
    """What `[cache]` says."""

    @property
    def enabled(self) -> bool:
        """Whether there is a cache at all."""
        ...

    @property
    def max_bytes(self) -> int:
        """The size at which the answers that were stored first go."""
        ...

    @property
    def ttl_days(self) -> float:
        """How long an answer is kept."""
        ...


class Cache:
    """`open`, then `read` and `write` from one thread; `close` from the same one if it can be."""

    def __init__(self, directory: Path, settings: CacheSettings, has_room: Callable[[], bool]) -> None:
        """Use `open`."""
        self._has_room = has_room
        self._directory = directory
        self._database = directory / DBNAME
        self._max_bytes = settings.max_bytes
        self._reader: diskcache.Cache | None = None
        self._identity: tuple[int, int] | None = None
        self._writer: CacheWriter | None = None
        #: Reads that failed, which is not the same as finding nothing.
        self.faults = 0
        if settings.enabled:
            ttl_seconds = settings.ttl_days * _DAY_SECONDS
            self._writer = CacheWriter(directory, self._database, lambda: self._opened(WRITE_SECONDS), ttl_seconds)

    @classmethod
    def open(cls, directory: Path, settings: CacheSettings, has_room: Callable[[], bool] = lambda: True) -> Cache:
        """A cache in `directory`, made in mode 0700. Never raises: what cannot be used is a cache of misses.

        While there is no room it is only read: what is left on the disk is for the ledger.
        """
        return cls(directory, settings, has_room)

    @property
    def dropped(self) -> int:
        """Answers that were not kept: too many waited, or the files could not be used."""
        return 0 if self._writer is None else self._writer.dropped

    def read(self, fingerprint: bytes) -> tuple[Sample, ...]:
        """Every stored answer of a fingerprint that checks out, by ordinal; quick enough for the loop. Never raises."""
        if self._writer is None:
            return ()
        try:
            store = self._to_read()
            return () if store is None else _samples(store, fingerprint)
        except FAULTS as error:
            if not isinstance(error, diskcache.Timeout):
                self.faults += 1
                self._forget_reader()
                self._writer.report(error, self._identity)
            return ()

    def write(self, entries: Iterable[Entry]) -> None:
        """Remember answers, soon. Never raises and never waits."""
        batch = list(entries)
        if self._writer is None or not batch:
            return
        if self._has_room():
            self._writer.put(batch)
        else:
            self._writer.dropped += len(batch)

    def flush(self) -> None:
        """Block until everything written so far is stored or dropped; for tests and tools."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Store what waits, then let go of the files. Never raises."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._forget_reader()

    def _to_read(self) -> diskcache.Cache | None:
        # The file may have been deleted, or begun anew: then the open one is no longer the cache.
        identity = file_identity(self._database)
        if self._reader is None or identity != self._identity:
            self._forget_reader()
            if identity is None:
                return None
            self._identity = identity
            self._reader = self._opened(READ_SECONDS)
        return self._reader

    def _forget_reader(self) -> None:
        if self._reader is not None:
            with contextlib.suppress(*FAULTS):
                self._reader.close()
            self._reader = None

    def _opened(self, timeout: float) -> diskcache.Cache:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory.chmod(0o700)
        return diskcache.Cache(
            str(self._directory), timeout=timeout, disk=BytesDisk, size_limit=self._max_bytes, **_SETTINGS
        )


def _samples(store: diskcache.Cache, fingerprint: bytes) -> tuple[Sample, ...]:
    ordinals = unpack_ordinals(open_value(fingerprint, store.get(fingerprint)))
    # The last one always comes: a new sample's ordinal lies above every known one.
    wanted = [*ordinals[:READ_AT_MOST], *ordinals[READ_AT_MOST:][-1:]]
    found = (
        (ordinal, open_value(key, store.get(key))) for ordinal in wanted if (key := sample_key(fingerprint, ordinal))
    )
    samples = (unpack_sample(ordinal, content) for ordinal, content in found if content is not None)
    return tuple(sample for sample in samples if sample is not None)
