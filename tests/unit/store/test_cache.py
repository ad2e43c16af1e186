"""The cache may be deleted, cut, corrupted or planted at any time: that costs misses, and never a wrong answer."""

from __future__ import annotations

import os
import pickle
import shutil
import sqlite3
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import diskcache
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.store.cache import Cache, Entry
from gateway.store.cache_values import BytesDisk, open_value, sample_key, seal_value
from gateway.store.cache_writer import WAITING_ENTRIES
from gateway.store.rows import Sample

WHY = b"w" * 32


@dataclass(frozen=True, kw_only=True)
class Settings:
    """As `[cache]` has them."""

    enabled: bool = True
    max_bytes: int = 100 << 20
    ttl_days: float = 1.0


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the cache lies."""
    return tmp_path / "cache"


@pytest.fixture
def cache(directory: Path) -> Iterator[Cache]:
    """An empty one, closed at the end whatever the test did to its files."""
    cache = Cache.open(directory, Settings())
    yield cache
    cache.close()


def entry(ordinal: int = 0, body: bytes = b"an answer", fingerprint: bytes = WHY) -> Entry:
    """An answer to be kept."""
    return Entry(fingerprint=fingerprint, sample=Sample(ordinal=ordinal, body=body, ended_at=5.0))


def keep(cache: Cache, *entries: Entry) -> None:
    """Write, and wait until it is done."""
    cache.write(entries)
    cache.flush()


def test_answers_come_back_by_ordinal(cache: Cache) -> None:
    """Every sample of a question comes back as it was stored, in order, and none of another question."""
    keep(cache, entry(2, b"c"), entry(0, b"a"), entry(0, b"x", fingerprint=b"o" * 32))
    keep(cache, entry(1, b""))

    assert cache.read(WHY) == tuple(
        Sample(ordinal=n, body=body, ended_at=5.0) for n, body in enumerate([b"a", b"", b"c"])
    )
    assert cache.read(b"n" * 32) == ()


def test_the_newest_answer_of_a_place_stands(cache: Cache) -> None:
    """Whatever an older cache had there, the ledger's own answer replaces it."""
    keep(cache, entry(0, b"old"))
    keep(cache, entry(0, b"new"))

    assert [sample.body for sample in cache.read(WHY)] == [b"new"]


def test_answers_outlive_the_process(directory: Path) -> None:
    """A cache that is closed and opened again has what it had, large answers too."""
    large = os.urandom(3 << 20)
    first = Cache.open(directory, Settings())
    first.write([entry(0, large)])
    first.close()
    second = Cache.open(directory, Settings())
    second.flush()
    found = second.read(WHY)
    second.close()

    assert [sample.body for sample in found] == [large]


def test_a_disabled_cache_keeps_nothing(directory: Path) -> None:
    """Switched off it makes no files, and everything is a miss."""
    cache = Cache.open(directory, Settings(enabled=False))
    cache.write([entry()])
    cache.flush()

    assert cache.read(WHY) == ()
    cache.close()
    assert not directory.exists()


def test_answers_grow_old(directory: Path) -> None:
    """After their time they are misses."""
    cache = Cache.open(directory, Settings(ttl_days=-1.0))
    keep(cache, entry())

    assert cache.read(WHY) == ()
    cache.close()


def test_the_cache_stays_within_its_size(directory: Path) -> None:
    """What was stored first goes first, and the newest stays."""
    cache = Cache.open(directory, Settings(max_bytes=2 << 20))
    for n in range(100):
        keep(cache, entry(0, os.urandom(50_000), fingerprint=n.to_bytes(32, "big")))
    size = sum(path.stat().st_size for path in directory.iterdir())

    assert size < 3 << 20
    assert cache.read((0).to_bytes(32, "big")) == ()
    assert len(cache.read((99).to_bytes(32, "big"))) == 1
    cache.close()


def test_reading_writes_nothing(directory: Path, cache: Cache) -> None:
    """A read leaves every file as it was: the policy is by age of storing, not of use."""
    keep(cache, entry())
    cache.read(WHY)
    before = {path: path.read_bytes() for path in directory.iterdir()}
    for _ in range(20):
        assert len(cache.read(WHY)) == 1

    assert {path: path.read_bytes() for path in directory.iterdir()} == before


def test_only_the_owner_reads_the_directory(directory: Path) -> None:
    """Answers are private: 0700, even where the directory was there before."""
    directory.mkdir(mode=0o755)
    cache = Cache.open(directory, Settings())
    cache.close()

    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_too_long_a_queue_drops_and_counts(directory: Path, cache: Cache) -> None:
    """Whoever writes faster than the disk never waits: what does not fit is dropped, and counted."""
    cache.write([entry()] * (WAITING_ENTRIES + 1))
    cache.flush()

    assert cache.dropped == WAITING_ENTRIES + 1
    assert cache.read(WHY) == ()


def delete_all(directory: Path) -> None:
    """As somebody clearing space does."""
    shutil.rmtree(directory)


def delete_files(directory: Path) -> None:
    """The directory stays."""
    for path in directory.iterdir():
        path.unlink()


def empty_files(directory: Path) -> None:
    """Cut to nothing, in place."""
    for path in directory.iterdir():
        os.truncate(path, 0)


def halve_files(directory: Path) -> None:
    """Cut in half, in place."""
    for path in directory.iterdir():
        os.truncate(path, path.stat().st_size // 2)


def scribble(directory: Path) -> None:
    """Every byte replaced, in place."""
    for path in directory.iterdir():
        with path.open("r+b") as file:
            file.write(b"\xa5" * path.stat().st_size)


def scribble_past_the_header(directory: Path) -> None:
    """A database by its first page, garbage behind."""
    for path in directory.iterdir():
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xa5" * max(0, path.stat().st_size - 4096))


def replace_by_a_file(directory: Path) -> None:
    """Something else under the cache's name."""
    shutil.rmtree(directory)
    directory.write_bytes(b"a file")


def drop_tables(directory: Path) -> None:
    """A sound database, but not ours any more."""
    with sqlite3.connect(directory / "cache.db") as connection:
        connection.execute("DROP TABLE Cache")
    connection.close()


ACCIDENTS = [
    delete_all,
    delete_files,
    empty_files,
    halve_files,
    scribble,
    scribble_past_the_header,
    replace_by_a_file,
    drop_tables,
]


@pytest.mark.parametrize("accident", ACCIDENTS)
def test_accidents_in_use_cost_misses_only(directory: Path, cache: Cache, accident: Callable[[Path], None]) -> None:
    """Whatever happens to the files while they are open, reads give the right answer or none, and writing works again."""
    good = {n.to_bytes(32, "big"): os.urandom(2_000) for n in range(50)}
    keep(cache, *(entry(0, body, print_) for print_, body in good.items()))
    assert all(cache.read(print_) for print_ in good)
    accident(directory)
    for print_, body in good.items():
        assert [sample.body for sample in cache.read(print_)] in ([], [body])
    cache.flush()
    keep(cache, entry(0, b"after"))
    keep(cache, entry(1, b"later"))

    assert [sample.body for sample in cache.read(WHY)] == [b"after", b"later"]


@pytest.mark.parametrize("accident", ACCIDENTS)
def test_accidents_before_the_start_cost_misses_only(directory: Path, accident: Callable[[Path], None]) -> None:
    """Whatever is found at the start, the cache opens, at worst empty, and works."""
    first = Cache.open(directory, Settings())
    keep(first, *(entry(0, b"x" * 2_000, n.to_bytes(32, "big")) for n in range(50)))
    first.close()
    accident(directory)
    second = Cache.open(directory, Settings())
    second.flush()
    for n in range(50):
        assert [sample.body for sample in second.read(n.to_bytes(32, "big"))] in ([], [b"x" * 2_000])
    keep(second, entry(0, b"after"))
    found = second.read(WHY)
    second.close()

    assert [sample.body for sample in found] == [b"after"]


def test_what_cannot_be_used_is_put_aside(directory: Path, cache: Cache) -> None:
    """A broken directory is kept once for whoever wants to look, under a name that says so."""
    keep(cache, entry())
    scribble(directory)
    cache.read(WHY)
    cache.flush()

    assert (directory.with_name("cache.broken") / "cache.db").read_bytes().startswith(b"\xa5")


def test_a_place_that_cannot_be_is_a_cache_of_misses(tmp_path: Path) -> None:
    """Below a file there can be no directory: nothing is raised, and what is written is counted as dropped."""
    (tmp_path / "file").write_bytes(b"")
    cache = Cache.open(tmp_path / "file" / "cache", Settings())
    keep(cache, entry())

    assert (cache.read(WHY), cache.dropped) == ((), 1)
    cache.close()


class Bomb:
    """Makes a directory when somebody unpickles it."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.trace),)


def test_a_planted_pickle_is_never_unpickled(directory: Path, cache: Cache, tmp_path: Path) -> None:
    """Rows that claim to be pickles, as values or as keys, are misses; so are rows that name files."""
    keep(cache, entry(), entry(0, b"other", b"o" * 32))
    trace = tmp_path / "exploded"
    pickled = pickle.dumps(Bomb(trace))
    (directory / "planted.val").write_bytes(pickled)
    with sqlite3.connect(directory / "cache.db") as connection:
        for mode in (1, 2, 3, 4):
            connection.execute("UPDATE Cache SET mode = ?, value = ? WHERE key = ?", (mode, pickled, WHY))
            connection.commit()
            assert cache.read(WHY) == ()
        connection.execute("UPDATE Cache SET mode = 4, filename = 'planted.val', value = NULL WHERE key = ?", (WHY,))
        connection.execute("INSERT INTO Cache (key, raw, mode, value) VALUES (?, 0, 1, ?)", (pickled, b"x"))
    connection.close()

    assert cache.read(WHY) == ()
    assert [sample.body for sample in cache.read(b"o" * 32)] == [b"other"]
    keep(cache, entry(1, b"on top"))
    assert not trace.exists()
    pickle.loads(pickled)
    assert trace.exists()


def test_the_disk_knows_bytes_only(tmp_path: Path) -> None:
    """Whatever is not bytes is refused on the way in, as a key and as a value."""
    store = diskcache.Cache(str(tmp_path), disk=BytesDisk)
    for key, value in [(b"k", "text"), (b"k", 1), (b"k", {"a": 1}), ("k", b"v"), (1, b"v")]:
        with pytest.raises(TypeError):
            store.set(key, value)
    store.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), place=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_value_with_one_wrong_byte_is_a_miss(content: bytes, place: int, flip: int) -> None:
    """Half a value, a changed byte anywhere, another version or another key: all are misses."""
    value = seal_value(WHY, content)
    broken = bytearray(value)
    broken[place % len(value)] ^= flip

    assert open_value(WHY, value) == content
    assert open_value(WHY, bytes(broken)) is None
    assert open_value(WHY, value[: place % len(value)]) is None
    assert open_value(WHY, value + b"x") is None
    assert open_value(sample_key(WHY, 0), value) is None
    assert open_value(WHY, None) is None


def test_an_answer_under_another_key_is_a_miss(directory: Path, cache: Cache) -> None:
    """An index that leads to another question's answer is found out."""
    keep(cache, entry(0, b"mine"), entry(0, b"theirs", b"o" * 32))
    with sqlite3.connect(directory / "cache.db") as connection:
        [[theirs]] = connection.execute("SELECT value FROM Cache WHERE key = ?", (sample_key(b"o" * 32, 0),))
        connection.execute("UPDATE Cache SET value = ? WHERE key = ?", (theirs, sample_key(WHY, 0)))
    connection.close()

    assert cache.read(WHY) == ()


def test_a_sample_that_is_gone_hides_no_other(directory: Path, cache: Cache) -> None:
    """Each sample stands for itself: a lost or foreign one is left out."""
    keep(cache, *(entry(n, b"%d" % n) for n in range(3)))
    with sqlite3.connect(directory / "cache.db") as connection:
        connection.execute("UPDATE Cache SET value = ? WHERE key = ?", (struct.pack(">d", 1.0), sample_key(WHY, 1)))
    connection.close()

    assert [sample.ordinal for sample in cache.read(WHY)] == [0, 2]
