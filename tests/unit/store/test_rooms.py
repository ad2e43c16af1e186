"""What the disk room and the cache do with what they find: a spent reserve, a file in the way, a planted file name."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.errors import LedgerError
from gateway.store.cache import Cache, Entry
from gateway.store.cache_values import BytesDisk
from gateway.store.disk import DiskRoom
from gateway.store.rows import Sample
from gateway.store.sqlite import FILE_NAME, SqliteDatabase

WHY = b"w" * 32


@dataclass(frozen=True, kw_only=True)
class Settings:
    """As `[cache]` has them."""

    enabled: bool = True
    max_bytes: int = 100 << 20
    ttl_days: float = 1.0


def test_a_spent_reserve_means_no_room(tmp_path: Path) -> None:
    """Where the reserve had to be given up no new work is taken before it is there again, whatever the free space says."""
    disk = DiskRoom(tmp_path, min_free_bytes=0, reserve_bytes=4096)
    disk.refill()
    assert disk.has_room()
    assert disk.give_up_reserve()
    assert not disk.has_room()
    disk.refill()
    assert disk.has_room()


def test_a_file_where_the_cache_belongs_is_put_aside(tmp_path: Path) -> None:
    """Whatever lies there is kept under another name, and the cache begins anew."""
    directory = tmp_path / "cache"
    directory.write_text("somebody's notes")
    cache = Cache.open(directory, Settings())
    cache.write([Entry(fingerprint=WHY, sample=Sample(ordinal=0, body=b"an answer", ended_at=5.0))])
    cache.flush()

    assert [sample.body for sample in cache.read(WHY)] == [b"an answer"]
    assert (tmp_path / "cache.broken").read_text() == "somebody's notes"
    cache.close()


def test_a_planted_file_name_deletes_nothing(tmp_path: Path) -> None:
    """A row that names a file must not have it deleted when the row goes: the cache has no files."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    BytesDisk(str(tmp_path)).remove("victim")

    assert victim.exists()


def test_an_empty_database_of_another_application_is_left_alone(tmp_path: Path) -> None:
    """It has no tables yet, and somebody waits to make them: the ledger is not put into it."""
    path = tmp_path / FILE_NAME
    with closing(sqlite3.connect(path)) as theirs:
        theirs.execute("PRAGMA application_id = 4660")
        theirs.commit()
    before = path.read_bytes()
    with pytest.raises(LedgerError):
        SqliteDatabase.open(tmp_path)

    assert path.read_bytes() == before
