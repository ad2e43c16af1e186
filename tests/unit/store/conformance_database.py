"""The contract of `Database`: groups, faults, readers, closing; and of boots."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import LedgerError
from gateway.records import BatchState
from gateway.store.boots import LEASE_SECONDS
from gateway.store.database import Database, Session
from gateway.store.ledger import Ledger
from gateway.testing import FakeClock
from tests.unit.store.scenery import CANCELLED, Desk, arrival, left


def add_lane(session: Session, model: str) -> int:
    """A small write."""
    return session.run("add_lane", {"provider": "p", "endpoint": "e", "model": model, "kind": ""})


def lanes(session: Session) -> int:
    """How many lanes there are."""
    return len(session.rows("lane_ids", {}))


class DatabaseConformance:
    """Inherited by `LedgerConformance`."""

    async def test_a_write_is_seen_by_every_reader_once_it_returns(self, database: Database) -> None:
        """What a write returned is committed: the loop's reads and a thread's reader both see it."""
        await database.write(lambda session: add_lane(session, "a"))

        def read_aside() -> int:
            with database.reader() as session:
                return lanes(session)

        assert await database.read(lanes) == 1
        assert await asyncio.to_thread(read_aside) == 1

    async def test_one_failing_operation_does_not_take_others_with_it(self, database: Database) -> None:
        """In a group, each operation gets its own result or its own exception, and only the failing one is undone."""

        def fail(session: Session) -> int:
            add_lane(session, "never")
            raise ZeroDivisionError

        operations = [
            database.write(lambda session: add_lane(session, "a")),
            database.write(fail),
            database.write(lambda session: add_lane(session, "b")),
        ]
        results = await asyncio.gather(*operations, return_exceptions=True)

        assert results[0] == results[2] == 1
        assert isinstance(results[1], ZeroDivisionError)
        assert await database.read(lanes) == 2

    async def test_a_faulty_statement_is_a_ledger_error_and_the_writer_lives_on(self, database: Database) -> None:
        """A fault of the database reaches its caller as `LedgerError`, and the next write works."""
        with pytest.raises(LedgerError):
            await database.write(
                lambda session: session.run("insert_payload", {"seq": 1, "body": None, "metadata": None})
            )

        assert await database.write(lambda session: add_lane(session, "a")) == 1

    async def test_a_cancelled_caller_does_not_undo_its_write(self, database: Database) -> None:
        """A caller that goes away while its write is under way changes nothing about the write."""
        task = asyncio.ensure_future(database.write(lambda session: add_lane(session, "a")))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await database.write(lambda session: add_lane(session, "b"))

        assert await database.read(lanes) == 2

    async def test_bulk_work_is_done_even_while_others_keep_coming(self, database: Database) -> None:
        """Bulk operations yield to others and are not starved by them."""
        bulk = [asyncio.ensure_future(database.write(lanes, bulk=True)) for _ in range(20)]
        urgent = [asyncio.ensure_future(database.write(lanes)) for _ in range(200)]

        assert await asyncio.gather(*bulk, *urgent) == [0] * 220

    async def test_closing_finishes_what_is_queued(self, database: Database) -> None:
        """Writes handed over before `close` are done; later ones are refused."""
        writes = [asyncio.ensure_future(database.write(lambda session: add_lane(session, "a"))) for _ in range(50)]
        await asyncio.sleep(0)
        await database.close()

        assert sum(await asyncio.gather(*writes)) == 1
        with pytest.raises(LedgerError):
            await database.write(lanes)

    async def test_a_boot_that_stops_renewing_lets_go(self, database: Database, clock: FakeClock) -> None:
        """Another process's holds and claims are its own while it renews its lease, and free when the lease is over."""
        other, mine = Ledger(database, clock), Ledger(database, clock)
        await other.begin(exclusive=False)
        await mine.begin(exclusive=False)
        desk = Desk(other, clock)
        [first] = await desk.admit(arrival())
        await desk.queue(1)
        batch = await desk.claim((await desk.seal()).id)

        async def look() -> tuple[bool, int]:
            [slot] = await mine.slots.of(arrival().fingerprint, "", None, clock.now())
            return slot.held, len(await mine.batches.claim([BatchState.SEALED], clock.now(), 10))

        clock.jump(LEASE_SECONDS - 1)
        await other.renew()
        clock.jump(LEASE_SECONDS - 1)
        assert await look() == (True, 0)
        clock.jump(2)
        assert await look() == (False, 1)
        assert (await mine.batches.get(batch.id)).epoch == batch.epoch + 1  # type: ignore[union-attr]
        assert first.seq > 0

    async def test_an_exclusive_start_ends_all_others(self, database: Database, clock: FakeClock) -> None:
        """Where a lock proves every other process dead, their holds and claims end with the first transaction."""
        other, mine = Ledger(database, clock), Ledger(database, clock)
        await other.begin(exclusive=True)
        desk = Desk(other, clock)
        await desk.admit(arrival())
        await desk.queue(1)
        await desk.claim((await desk.seal()).id)
        await mine.begin(exclusive=True)
        [slot] = await mine.slots.of(arrival().fingerprint, "", None, clock.now())

        assert (slot.held, slot.left_at) == (False, clock.now())
        assert len(await mine.batches.claim([BatchState.SEALED], clock.now(), 10)) == 1

    async def test_holds_of_dead_boots_are_buried(self, database: Database, clock: FakeClock) -> None:
        """Burying turns holds of dead boots into the moment their callers were left, living ones stay, and it ends."""
        other, mine = Ledger(database, clock), Ledger(database, clock)
        await other.begin(exclusive=True)
        await Desk(other, clock).queue(5)
        died_at = clock.now()
        await mine.begin(exclusive=True)
        await mine.requests.admit([arrival("mine")])
        clock.jump(100)

        assert [await mine.boots.bury(3), await mine.boots.bury(3), await mine.boots.bury(3)] == [3, 2, 0]
        [held] = await mine.slots.of(arrival("mine").fingerprint, "", None, clock.now())
        assert held.held
        assert len(await mine.requests.cancel_abandoned(died_at, CANCELLED, 10)) == 5

    async def test_a_ledger_without_a_boot_says_so(self, database: Database, clock: FakeClock) -> None:
        """Whoever forgets `begin` is told, before anything is written."""
        with pytest.raises(LedgerError, match="begin"):
            await Ledger(database, clock).requests.depart([left(1, 0.0)])
