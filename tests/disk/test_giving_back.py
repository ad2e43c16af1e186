"""What retention deletes goes back to the disk, in steps that nobody has to wait for."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from gateway.store.sqlite import FILE_NAME, SqliteDatabase
from gateway.store.sqlite_writer import KEPT_PAGES, SHRINK_PAGES
from tests.disk.test_ledger_file import opened
from tests.unit.store.scenery import CANCELLED, Desk, arrival

LARGE = "x" * 100_000


async def forgotten(desk: Desk, count: int) -> None:
    """Accept so many large requests, and let retention take all of them but the last."""
    for first in range(0, count, 50):
        admitted = await desk.admit(*(arrival(f"{n} {LARGE}") for n in range(first, first + 50)))
        for admission in admitted:
            await desk.ledger.requests.cancel(admission.seq, 1.0, CANCELLED)
    await desk.clock.advance(1_000)
    while await desk.ledger.requests.forget(desk.clock.now() + 1e9, 100):
        pass


async def test_the_file_gets_shorter_in_small_steps(tmp_path: Path) -> None:
    """After retention the file shrinks to little more than what is in it, about a megabyte a step, and stays whole."""
    desk = await opened(tmp_path)
    await forgotten(desk, 250)
    database = desk.ledger.database
    steps = [pages(database)]
    while await database.tend():
        steps.append(pages(database))
    steps.append(pages(database))
    [again] = await desk.admit(arrival("still here"))
    size = (tmp_path / FILE_NAME).stat().st_size
    await desk.ledger.close()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        [[sound]] = connection.execute("PRAGMA integrity_check").fetchall()

    assert steps[0] > 3_000
    assert steps[-1] < 1_500 > KEPT_PAGES
    assert max(before - after for before, after in pairwise(steps)) <= SHRINK_PAGES + 2
    assert size < 1_500 * 8192
    assert (sound, again.fresh) == ("ok", True)


def pages(database: object) -> int:
    """How many the file has."""
    assert isinstance(database, SqliteDatabase)
    [[count]] = database._reader.execute("PRAGMA page_count").fetchall()
    return int(count)


async def test_on_a_short_disk_everything_free_is_given_back(tmp_path: Path) -> None:
    """Where there is no room for new work, no free page is kept for it."""
    desk = await opened(tmp_path)
    database = desk.ledger.database
    assert isinstance(database, SqliteDatabase)
    await forgotten(desk, 150)
    while await database.tend():
        pass
    kept = pages(database)
    database._disk._min_free_bytes = 1 << 60
    while await database.tend():
        pass
    left = pages(database)
    await desk.ledger.close()

    assert left < kept // 2


async def test_a_file_made_without_it_is_left_as_it_is(tmp_path: Path) -> None:
    """A ledger that cannot be made shorter in steps is not rewritten at one go: its free pages are used again."""
    desk = await opened(tmp_path)
    await forgotten(desk, 150)
    await desk.ledger.close()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
        connection.execute("VACUUM")
    old = await opened(tmp_path)
    await forgotten(old, 100)
    before = pages(old.ledger.database)
    more = await old.ledger.database.tend()
    after = pages(old.ledger.database)
    await forgotten(old, 100)
    again = pages(old.ledger.database)
    await old.ledger.close()

    assert (more, before) == (False, after)
    assert again < before * 1.2
