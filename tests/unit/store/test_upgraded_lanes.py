"""What the lanes of an earlier version are known to be for."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from gateway.store.sqlite import FILE_NAME, SqliteDatabase
from tests.fixtures.stored import fixture_of, unpack


async def test_a_rehearsal_stays_one_in_an_upgrade(tmp_path: Path) -> None:
    """Of a lane of schema 1 it is known whether its latest batch was a simulator's; others may be any provider's."""
    unpack(fixture_of(1), tmp_path)
    # Lane 3 has two batches in the stored ledger.
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as rows:
        rows.execute("UPDATE batches SET base_url = 'sandbox:sim' WHERE lane = 5")
        first = "(SELECT min(id) FROM batches WHERE lane = 3)"
        assert rows.execute(f"UPDATE batches SET base_url = 'sandbox:sim' WHERE id = {first}").rowcount
        lanes = rows.execute("SELECT id FROM lanes").fetchall()
    await SqliteDatabase.open(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as rows:
        assert dict(rows.execute("SELECT id, kind FROM lanes")) == {
            lane: "sandbox:" if lane == 5 else "" for (lane,) in lanes
        }
