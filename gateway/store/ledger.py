"""The ledger: the durable truth, room by room.

    requests   what was asked, where it stands, how it ended
    slots      the samples of a question
    lanes      what waits to be batched
    families   requests that ask for several answers
    batches    what was sealed, and its way to the provider and back
    completions  what is asked one by one
    bills      what was paid
    boots      the processes that hold and claim

Every write is durable when its call returns. Rooms know named queries only; the database behind them is a `Database`.
"""

from __future__ import annotations

from gateway.clock import Clock
from gateway.store.batches import Batches
from gateway.store.bills import Bills
from gateway.store.boots import Boots
from gateway.store.completions import Completions
from gateway.store.database import Database
from gateway.store.families import Families
from gateway.store.lanes import Lanes
from gateway.store.requests import Requests
from gateway.store.slots import Slots


class Ledger:
    """Holds the rooms. `open`, `begin`, `renew` every few seconds, `close`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Use `open`."""
        self.database = database
        self.boots = Boots(database, clock)
        self.requests = Requests(database, clock, self.boots)
        self.slots = Slots(database, self.boots)
        self.lanes = Lanes(database, clock)
        self.families = Families(database)
        self.batches = Batches(database, clock, self.boots)
        self.completions = Completions(database, self.boots)
        self.bills = Bills(database)

    @classmethod
    async def open(cls, database: Database, clock: Clock) -> Ledger:
        """A ledger on an open database, whose schema is up to date by then."""
        return cls(database, clock)

    @property
    def boot(self) -> int:
        """This process's boot; raises `LedgerError` before `begin`."""
        return self.boots.id

    async def begin(self, *, exclusive: bool) -> int:
        """Start a boot. `exclusive`: no other process can be at work here, so all other boots end now."""
        return await self.boots.begin(exclusive=exclusive)

    async def renew(self) -> None:
        """Say that this process is alive; every `RENEW_SECONDS`."""
        await self.boots.renew()

    async def close(self) -> None:
        """Finish what is queued, end this boot, close the database."""
        try:
            await self.boots.end()
        finally:
            await self.database.close()
