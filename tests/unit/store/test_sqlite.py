"""The SQLite ledger: the whole conformance suite, and what only a file can do."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.errors import LedgerError, LedgerLocked, LedgerTooNew, StorageFull
from gateway.records import BatchState, RequestState
from gateway.store.database import Database, Session
from gateway.store.disk import DiskRoom
from gateway.store.ledger import Ledger
from gateway.store.lock import DirectoryLock
from gateway.store.rows import Ask
from gateway.store.sqlite import FILE_NAME, SqliteDatabase
from gateway.testing import FakeClock
from tests.unit.store.conformance import LedgerConformance
from tests.unit.store.scenery import CANCELLED, Desk, arrival, left, returned, settled


@pytest.fixture
def clock() -> FakeClock:
    """Time that stands still."""
    return FakeClock()


@pytest.fixture
async def desk(database: Database, clock: FakeClock) -> Desk:
    """A ledger that has begun."""
    ledger = await Ledger.open(database, clock)
    await ledger.begin(exclusive=True)
    return Desk(ledger, clock)


class TestSqlite(LedgerConformance):
    @pytest.fixture
    async def database(self, tmp_path: Path) -> AsyncIterator[Database]:
        """A new one in a directory of its own."""
        database = SqliteDatabase.open(tmp_path / "ledger")
        yield database
        await database.close()


async def opened(database: SqliteDatabase, clock: FakeClock) -> Desk:
    """A ledger on `database`, begun."""
    ledger = await Ledger.open(database, clock)
    await ledger.begin(exclusive=True)
    return Desk(ledger, clock)


def shrink(database: SqliteDatabase, pages: int) -> None:
    """From now on the file may hold `pages` more pages: a disk that is nearly full."""
    connection = database._writer._connection
    [[count]] = connection.execute("PRAGMA page_count").fetchall()
    connection.execute(f"PRAGMA max_page_count = {count + pages}").fetchall()


async def test_everything_survives_reopening(tmp_path: Path, clock: FakeClock) -> None:
    """What was accepted is there when the ledger is opened again, and numbers go on."""
    first = await opened(SqliteDatabase.open(tmp_path), clock)
    [admission] = await first.admit(arrival("q", custom_id="n"))
    await first.ledger.close()
    second = await opened(SqliteDatabase.open(tmp_path), clock)
    found = await second.ledger.requests.find("", "", "n")
    [again] = await second.admit(arrival("q", custom_id="n"))
    [new] = await second.admit(arrival("other"))
    await second.ledger.close()

    assert found is not None
    assert (found.seq, again.fresh) == (admission.seq, False)
    assert new.seq == admission.seq + 1
    assert second.ledger.boot > first.ledger.boot


def test_what_was_accepted_survives_a_kill(tmp_path: Path) -> None:
    """A process that is killed while it accepts loses nothing it has said yes to, and the file stays sound."""
    script = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from gateway.clock import SystemClock
        from gateway.store.ledger import Ledger
        from gateway.store.sqlite import SqliteDatabase
        from tests.unit.store.scenery import arrival

        async def main():
            ledger = await Ledger.open(SqliteDatabase.open(Path(sys.argv[1])), SystemClock())
            await ledger.begin(exclusive=True)
            async def client(number):
                for question in range(100_000):
                    [admission] = await ledger.requests.admit([arrival(f"{number} {question}")])
                    print(admission.seq, flush=True)
            await asyncio.gather(*(client(number) for number in range(8)))

        asyncio.run(main())
        """
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3], text=True) as process:
        assert process.stdout is not None
        accepted = [int(process.stdout.readline()) for _ in range(300)]
        os.kill(process.pid, signal.SIGKILL)
        accepted += [int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]

    async def look() -> set[int]:
        ledger = await Ledger.open(SqliteDatabase.open(tmp_path), FakeClock())
        rows = await ledger.requests.listed(None, [RequestState.QUEUED], limit=1_000_000)
        await ledger.close()
        return {row.seq for row in rows}

    stored = asyncio.run(look())
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        checked = connection.execute("PRAGMA integrity_check").fetchall()
    connection.close()

    assert set(accepted) <= stored
    assert checked == [("ok",)]


async def test_full_durability_is_asked_of_the_disk(tmp_path: Path) -> None:
    """The default syncs every commit; relaxed does not; neither maps the file or lets a reader write."""
    levels = {}
    for durability in ("full", "relaxed"):
        database = SqliteDatabase.open(tmp_path / durability, durability=durability)  # type: ignore[arg-type]
        connection = database._writer._connection
        levels[durability] = [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("synchronous", "mmap_size", "journal_mode", "wal_autocheckpoint")
        ]
        with pytest.raises(LedgerError), database.reader() as session:
            session.run("lose_name", {"seq": 1})
        await database.close()

    assert levels == {"full": [2, 0, "wal", 0], "relaxed": [1, 0, "wal", 0]}


async def test_no_result_is_left_over(tmp_path: Path, clock: FakeClock) -> None:
    """The outcome that waited for a wished cancel goes when the line is answered after all."""
    desk = await opened(SqliteDatabase.open(tmp_path), clock)
    batch = await desk.claimed(BatchState.ENDED, 2)
    for seq in (1, 2):
        await desk.ledger.requests.cancel(seq, clock.now(), CANCELLED)
    await desk.collect(batch, [settled(0), returned(1)])
    await desk.ledger.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        [[results]] = connection.execute("SELECT count(*) FROM results")
    connection.close()

    assert results == 2


async def test_files_are_the_owners_alone(tmp_path: Path) -> None:
    """Prompts lie in these files: the directory is 0700, the ledger 0600."""
    directory = tmp_path / "ledger"
    database = SqliteDatabase.open(directory)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [directory, *directory.iterdir()]}
    await database.close()

    assert modes.pop("ledger") == 0o700
    assert set(modes.values()) == {0o600}


async def test_a_full_disk_is_said_and_survived(tmp_path: Path, clock: FakeClock) -> None:
    """Without room a write is refused as `StorageFull`, nothing of it is kept, reads go on, and room makes it work again."""
    database = SqliteDatabase.open(tmp_path)
    desk = await opened(database, clock)
    [before] = await desk.admit(arrival("small"))
    shrink(database, 2)
    with pytest.raises(StorageFull):
        await desk.admit(*(arrival("x" * 5000 + str(n)) for n in range(50)))
    rows = await desk.ledger.requests.listed(None)
    shrink(database, 1_000_000)
    [after] = await desk.admit(arrival("again"))
    await database.close()

    assert [row.seq for row in rows] == [before.seq]
    assert after.fresh


async def test_in_a_full_group_each_gets_its_own_answer(tmp_path: Path, clock: FakeClock) -> None:
    """When a group does not fit, what does fit alone is accepted and only the rest is refused."""
    database = SqliteDatabase.open(tmp_path)
    desk = await opened(database, clock)
    shrink(database, 3)
    calls = [desk.admit(arrival("large" + "x" * 500_000)), desk.admit(arrival("small"))]
    large, small = await asyncio.gather(*calls, return_exceptions=True)
    await database.close()

    assert isinstance(large, StorageFull)
    assert not isinstance(small, BaseException)


async def test_new_work_is_refused_before_the_disk_is_full(tmp_path: Path, clock: FakeClock) -> None:
    """Below `min_free_bytes` no request is accepted, whoever waits for one may come again, and what is under way goes on."""
    database = SqliteDatabase.open(tmp_path)
    desk = await opened(database, clock)
    [admission] = await desk.admit(arrival())
    database._disk._min_free_bytes = 1 << 60
    assert not database.has_room()
    [refused, named, detached] = await desk.admit(
        arrival("another"), arrival("a third", custom_id="n"), arrival("a fourth", ask=Ask(detached=True))
    )
    [joined] = await desk.admit(arrival(ask=Ask(retry=True)))
    rows = await desk.ledger.requests.listed(None)
    await desk.ledger.requests.depart([left(admission.seq, 1.0)])
    await desk.answer(admission.seq)
    ending = await desk.ledger.requests.ending(admission.seq)
    await database.close()

    assert [each.full for each in (refused, named, detached, joined)] == [True, True, True, False]
    assert (joined.seq, [row.seq for row in rows]) == (admission.seq, [admission.seq])
    assert ending is not None


async def test_the_reserve_is_given_up_to_finish_work(tmp_path: Path) -> None:
    """A write that finds the disk full is tried again with the reserve freed; there is a real file to free."""
    database = SqliteDatabase.open(tmp_path, reserve_bytes=1 << 20)
    reserve = tmp_path / "reserve"
    assert (reserve.stat().st_size, reserve.stat().st_blocks * 512 >= 1 << 20) == (1 << 20, True)
    found: list[bool] = []

    def op(session: Session) -> int:
        found.append(reserve.exists())
        if found[-1]:
            raise OSError(28, "No space left on device")
        return len(session.rows("lane_ids", {}))

    result = await database.write(op)
    await database.close()

    assert (result, found) == (0, [True, False])


def test_the_reserve_is_made_only_where_there_is_room(tmp_path: Path) -> None:
    """A nearly full disk is not filled further by a reserve, and a given-up one comes back when there is room."""
    crowded = DiskRoom(tmp_path, min_free_bytes=1 << 60, reserve_bytes=4096)
    crowded.refill()
    assert not (tmp_path / "reserve").exists()
    roomy = DiskRoom(tmp_path, min_free_bytes=0, reserve_bytes=4096)
    roomy.refill()
    assert roomy.give_up_reserve()
    assert not roomy.give_up_reserve()
    # A quota may be used up where the disk looks empty.
    assert not roomy.has_room()
    roomy.refill()

    assert (tmp_path / "reserve").stat().st_size == 4096
    assert (crowded.has_room(), roomy.has_room()) == (False, True)


@pytest.mark.parametrize("how", ["answered", "cancelled again after a crash"])
async def test_an_outcome_that_did_not_come_true_is_not_kept(tmp_path: Path, clock: FakeClock, how: str) -> None:
    """The ending stored with a wish to cancel makes room for the one the request really has."""
    desk = await opened(SqliteDatabase.open(tmp_path), clock)
    await desk.queue(1)
    claim = await desk.ledger.completions.claim(1, clock.now())
    assert claim is not None
    await desk.ledger.requests.cancel(1, clock.now(), CANCELLED)
    if how == "answered":
        await desk.ledger.completions.settle(claim, settled(0), clock.now())
    else:
        await desk.ledger.begin(exclusive=True)
        await desk.ledger.requests.cancel(1, clock.now(), CANCELLED)
    await desk.ledger.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        [[results]] = connection.execute("SELECT count(*) FROM results")
    connection.close()

    assert results == 1


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """Whoever comes second is told the directory and the process that has it, after waiting as long as it was told to."""
    database = SqliteDatabase.open(tmp_path)
    naps: list[float] = []
    with pytest.raises(LedgerLocked, match=f"{tmp_path}.*{os.getpid()}"):
        DirectoryLock.acquire(tmp_path, wait_seconds=1.0, sleep=naps.append)
    await database.close()

    assert sum(naps) == pytest.approx(1.0)
    DirectoryLock.acquire(tmp_path, wait_seconds=0).release()


async def test_whoever_waits_gets_the_lock_when_it_is_free(tmp_path: Path) -> None:
    """A restart that overlaps with the end of the process before it waits instead of failing."""
    first = DirectoryLock.acquire(tmp_path)
    with DirectoryLock.acquire(tmp_path, sleep=lambda _: first.release()) as lock:
        database = SqliteDatabase.open(tmp_path, lock=lock)
        await database.close()


async def test_a_later_schema_is_refused_untouched(tmp_path: Path) -> None:
    """A file that a later version wrote is not opened, and the lock is free again afterwards."""
    await SqliteDatabase.open(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LedgerTooNew, match="99"):
        SqliteDatabase.open(tmp_path)

    DirectoryLock.acquire(tmp_path, wait_seconds=0).release()


async def test_a_changed_schema_step_is_refused(tmp_path: Path) -> None:
    """A step that was applied and reads differently today is not passed over in silence."""
    await SqliteDatabase.open(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("UPDATE migrations SET checksum = 'other'")
    connection.close()
    with pytest.raises(LedgerError, match=r"schema\.sql"):
        SqliteDatabase.open(tmp_path)


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    """Something else under the ledger's name is an error that says so, not a traceback of SQLite's."""
    (tmp_path / FILE_NAME).write_bytes(b"not a database, but long enough to look at" * 100)
    with pytest.raises(LedgerError, match="NOTADB"):
        SqliteDatabase.open(tmp_path)


async def test_the_log_does_not_grow_for_ever(tmp_path: Path, clock: FakeClock) -> None:
    """The writer copies the log into the file as it goes, and nothing of it is left after closing."""
    database = SqliteDatabase.open(tmp_path, durability="relaxed")
    desk = await opened(database, clock)
    log = tmp_path / (FILE_NAME + "-wal")
    sizes = []
    for number in range(60):
        await desk.admit(*(arrival(f"{number} {n} " + "x" * 20_000) for n in range(50)))
        sizes.append(log.stat().st_size)
    await database.close()

    assert max(sizes) < 40 << 20 < (tmp_path / FILE_NAME).stat().st_size
    assert not log.exists()
