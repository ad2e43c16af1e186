"""A ledger that is opened when the machine's clock shows an earlier time than when it was closed."""

from __future__ import annotations

from pathlib import Path

from gateway.records import BatchState
from gateway.store.ledger import Ledger
from gateway.store.sqlite import SqliteDatabase
from gateway.testing import FakeClock
from tests.unit.store.scenery import Desk


async def opened(directory: Path, clock: FakeClock) -> Desk:
    """The ledger there, begun."""
    ledger = await Ledger.open(SqliteDatabase.open(directory), clock)
    await ledger.begin(exclusive=True)
    return Desk(ledger, clock)


async def test_a_clock_that_was_set_back_keeps_nobody_waiting(tmp_path: Path) -> None:
    """After a start with an earlier clock all that is waited for comes as soon as was meant, not hours later."""
    first = await opened(tmp_path, early := FakeClock())
    [batch, over] = [await first.claimed(BatchState.SUBMITTED, 1), await first.claimed(BatchState.SEALED, 1)]
    later = early.now() + 100
    await first.ledger.batches.release(batch, retry_at=later)
    await first.ledger.batches.dissolve(over, early.now(), {}, not_before=later)
    await first.queue(1)
    await first.ledger.lanes.park(1, "full", later, None, 1)
    await first.ledger.close()

    clock = FakeClock(early.now() - 6 * 3600)
    second = await opened(tmp_path, clock)
    assert await second.ledger.batches.claim([BatchState.SUBMITTED], clock.now(), 10) == []
    await clock.advance(101)
    claimed = await second.ledger.batches.claim([BatchState.SUBMITTED], clock.now(), 10)
    undiscarded = await second.ledger.batches.undiscarded(clock.now(), 10)
    due = await second.ledger.requests.ripen(clock.now(), 10)
    [window] = await second.ledger.lanes.windows()
    await second.ledger.close()

    assert ([row.id for row in claimed], [row.id for row in undiscarded], due) == ([batch.id], [over.id], 1)
    assert max(window.retry_at, window.last_arrival_at, window.oldest_at) <= clock.now()


async def test_a_second_start_sets_nothing_back_again(tmp_path: Path) -> None:
    """What was moved at the first start with an earlier clock, or is due later since, stays where it is at the next."""
    first = await opened(tmp_path, early := FakeClock())
    batch = await first.claimed(BatchState.SUBMITTED, 1)
    await first.ledger.close()

    clock = FakeClock(early.now() - 6 * 3600)
    second = await opened(tmp_path, clock)
    await second.ledger.batches.release(await second.claim(batch.id), retry_at=clock.now() + 7 * 3600)
    await second.ledger.close()
    third = await opened(tmp_path, clock)
    found = await third.ledger.batches.get(batch.id)
    await third.ledger.close()

    assert found is not None
    assert found.retry_at == clock.now() + 7 * 3600


async def test_what_was_due_before_the_clock_was_set_back_stays_due(tmp_path: Path) -> None:
    """A small step back, or none, moves nothing."""
    first = await opened(tmp_path, early := FakeClock())
    batch = await first.claimed(BatchState.SUBMITTED, 1)
    later = early.now() + 100
    await first.ledger.batches.release(batch, retry_at=later)
    await first.ledger.close()

    second = await opened(tmp_path, FakeClock(early.now() - 30))
    found = await second.ledger.batches.get(batch.id)
    await second.ledger.close()

    assert found is not None
    assert found.retry_at == later
