"""The SQLite ledger: the whole conformance suite, and what only a file can do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.store.database import Database
from gateway.store.ledger import Ledger
from gateway.store.sqlite import SqliteDatabase
from gateway.testing import FakeClock
from tests.unit.store.conformance import LedgerConformance
from tests.unit.store.scenery import Desk


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
