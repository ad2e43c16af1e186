"""Families and requests that are asked by themselves, under whatever happens in whatever order: nothing is lost or mixed up."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import tempfile
from pathlib import Path

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import LedgerError
from gateway.merging import merged
from gateway.records import BatchState, RemoteState, RequestState
from gateway.store.ledger import Ledger
from gateway.store.rows import Departure, LaneKey
from gateway.store.shipping import BatchRow, Claimed, Cut, Settlement
from gateway.store.sqlite import FILE_NAME, SqliteDatabase
from gateway.testing import FakeClock
from tests.unit.store.conformance_families import parent
from tests.unit.store.scenery import (
    CANCELLED,
    EXPIRED,
    LANE,
    REFUSED,
    Desk,
    answer,
    arrival,
    failure,
    remote,
    returned,
    settled,
)

SINGLE = LaneKey(provider="single", endpoint="/v1/chat/completions", model="s")
SAID = '{"choices":[{"index":0}],"usage":{"prompt_tokens":1}}'
OPEN = [
    BatchState.SEALED,
    BatchState.SUBMITTING,
    BatchState.SUBMITTED,
    BatchState.RECONCILING,
    BatchState.ENDED,
]
#: What must never be found, each with what it would mean.
NEVER = {
    "an outcome of nobody": "SELECT id FROM results WHERE id NOT IN (SELECT result FROM requests WHERE result IS NOT NULL)",
    "an ending without an outcome": "SELECT seq FROM requests r WHERE r.ended_at IS NOT NULL AND NOT EXISTS ("
    "SELECT 1 FROM results q WHERE q.id = r.result)",
    "a parent that waits for nobody": "SELECT seq FROM requests r WHERE r.due = 2 AND r.state = 'queued' AND NOT EXISTS ("
    "SELECT 1 FROM requests c WHERE c.parent = r.seq)",
    "a child that is sent for nobody": "SELECT c.seq FROM requests c JOIN requests p ON p.seq = c.parent "
    "WHERE p.ended_at IS NOT NULL AND c.state = 'queued' AND NOT EXISTS (SELECT 1 FROM completions k WHERE k.seq = c.seq)",
}
STEPS = (
    *("ask", "seal", "batch", "batch", "batch", "claim", "reply", "gather", "cancel", "leave", "abandon"),
    *("ripen", "forget", "crash", "later", "give_up"),
)


class World:
    """A ledger on which each step does something that may happen; `pick` chooses among what there is."""

    def __init__(self, desk: Desk, file: sqlite3.Connection) -> None:
        self.desk, self.ledger, self.clock, self.file = desk, desk.ledger, desk.clock, file
        #: How many answers each call wants.
        self.asked: dict[int, int] = {}
        self.claims: list[Claimed] = []

    async def ask(self, pick: int) -> None:
        """A call for one answer or several, in a lane with batches or without."""
        times, question = 1 + pick % 4, f"q{len(self.asked)}"
        lane = SINGLE if pick % 3 == 0 else LANE
        call = parent(times, question, lane=lane) if times > 1 else arrival(question, lane=lane)
        [admission] = await self.desk.admit(call)
        self.asked[admission.seq] = times

    async def seal(self, pick: int) -> None:
        """Some of the window."""
        for window in await self.ledger.lanes.windows():
            if window.lane == LANE:
                await self.desk.seal(Cut(max_requests=1 + pick % 5), window.lane_id)

    async def batch(self, pick: int) -> None:
        """The next thing in the life of a batch."""
        rows = await self.ledger.batches.listed(OPEN)
        if not rows:
            return
        batch = await self.desk.claim(rows[pick % len(rows)].id)
        batches, now, way = self.ledger.batches, self.clock.now(), pick % 7
        if batch.state is BatchState.SEALED and way < 3:
            parts = [self.desk.marker(), self.desk.marker()] if way == 1 else []
            await batches.dissolve(batch, now, {0: REFUSED} if way == 0 else {}, parts, now + 5 if way == 2 else None)
        elif batch.state is BatchState.SEALED:
            await batches.release(await batches.intend(batch, now), retry_at=now)
        elif batch.state is BatchState.SUBMITTING and way == 0:
            await batches.doubt(batch, "lost", now)
        elif batch.state is BatchState.SUBMITTED:
            await batches.ended(batch, remote(f"r-{batch.id}", RemoteState.ENDED), now)
        elif batch.state is BatchState.ENDED:
            await self._settle(batch, pick)
        elif way == 1:
            await batches.reseal(batch, now)
        else:
            await batches.submitted(batch, remote(f"r-{batch.id}"), now, now)

    async def _settle(self, batch: BatchRow, pick: int) -> None:
        """Every line, or every other one."""
        with self.ledger.database.reader() as session:
            members = list(self.ledger.batches.members(session, batch.id))
        some = members if pick % 2 else members[::2]
        await self.ledger.batches.settle(
            batch, [self._said(member.n, pick + member.n) for member in some], self.clock.now()
        )
        if len(some) < len(members):
            await self.ledger.batches.release(batch, retry_at=self.clock.now())
        else:
            await self.ledger.batches.collected(batch, self.clock.now())

    def _said(self, n: int, pick: int) -> Settlement:
        if pick % 5 == 0:
            return settled(n, failure(permanent=True))
        return returned(n, self.clock.now() + 3) if pick % 5 == 1 else settled(n, answer(SAID))

    async def claim(self, pick: int) -> None:
        """One request more is asked by itself."""
        for lane in await self.ledger.completions.lanes(SINGLE.provider):
            claim = await self.ledger.completions.claim(lane.lane_id, self.clock.now())
            self.claims += [] if claim is None else [claim]

    async def reply(self, pick: int) -> None:
        """One of those is answered, or was not asked after all."""
        if self.claims:
            claim = self.claims.pop(pick % len(self.claims))
            if pick % 7 == 0:
                await self.ledger.completions.release(claim, self.clock.now())
            else:
                await self.ledger.completions.settle(claim, self._said(0, pick), self.clock.now())

    async def gather(self, pick: int) -> None:
        """Families end; a good one with as many answers as were asked for."""
        for family in await self.ledger.families.told(1 + pick % 3):
            ending = merged(family.endings)
            ended = await self.ledger.families.end(family.parent, ending, self.clock.now())
            if ended is not None and ending.state is RequestState.SUCCEEDED:
                assert len(orjson.loads(ending.body)["choices"]) == self.asked[family.parent]

    async def cancel(self, pick: int) -> None:
        """A caller does not want its answer any more."""
        if self.asked:
            with contextlib.suppress(LedgerError):
                await self.ledger.requests.cancel(list(self.asked)[pick % len(self.asked)], self.clock.now(), CANCELLED)

    async def leave(self, pick: int) -> None:
        """A caller hangs up."""
        if self.asked:
            seq = list(self.asked)[pick % len(self.asked)]
            await self.ledger.requests.depart([Departure(seq=seq, at=self.clock.now(), delivered=False, last=True)])

    async def abandon(self, pick: int) -> None:
        """What nobody waits for is cancelled."""
        await self.ledger.requests.cancel_abandoned(self.clock.now(), CANCELLED, 1 + pick % 9)

    async def ripen(self, pick: int) -> None:
        """Returned lines are due."""
        await self.ledger.requests.ripen(self.clock.now(), 1 + pick % 9)

    async def forget(self, pick: int) -> None:
        """Retention."""
        await self.ledger.requests.forget(self.clock.now() - pick % 9, 10)

    async def crash(self, pick: int) -> None:
        """Another process takes over; not every time, or nothing would ever be long."""
        if pick % 4 == 0:
            await self.ledger.begin(exclusive=True)
            self.claims.clear()

    async def later(self, pick: int) -> None:
        """Time passes."""
        self.clock.jump(1 + pick % 4)

    async def give_up(self, pick: int) -> None:
        """What is queued for long expires."""
        await self.ledger.requests.give_up(self.clock.now() - 10 - pick % 9, EXPIRED, self.clock.now(), 5)

    async def check(self) -> None:
        """What holds at every moment."""
        assert {what: found for what, query in NEVER.items() if (found := self.file.execute(query).fetchall())} == {}
        assert all(totals == recount for totals, recount in await self.desk.totals_and_recount())

    async def finish(self) -> None:
        """Everything goes on until nothing is left to do."""
        for turn in range(600):
            self.clock.jump(4)
            for step in (self.ripen, self.seal, self.claim, self.reply, self.batch, self.gather):
                await step(turn * 5 + 3)
            for batch in await self.ledger.batches.cancelled_whole(10):
                claimed = await self.desk.claim(batch.id)
                if claimed.state is BatchState.SEALED:
                    await self.ledger.batches.dissolve(claimed, self.clock.now(), {})
                else:
                    await self.ledger.batches.mark_cancelling(claimed, self.clock.now())
            if not self.file.execute("SELECT 1 FROM requests WHERE ended_at IS NULL OR parent IS NOT NULL").fetchone():
                return
        raise AssertionError("something never ends")


async def play(steps: list[tuple[str, int]]) -> None:
    """These steps on a new ledger, then whatever is left to do."""
    with tempfile.TemporaryDirectory() as directory:
        clock = FakeClock()
        ledger = await Ledger.open(SqliteDatabase.open(Path(directory), durability="relaxed"), clock)
        await ledger.begin(exclusive=True)
        with contextlib.closing(sqlite3.connect(Path(directory) / FILE_NAME)) as file:
            world = World(Desk(ledger, clock), file)
            try:
                for step, pick in steps:
                    await getattr(world, step)(pick)
                    await world.check()
                await world.finish()
                await world.check()
            finally:
                await ledger.close()


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 1_000)), min_size=20, max_size=120))
def test_whatever_happens_every_request_ends_as_it_should(steps: list[tuple[str, int]]) -> None:
    """Crashes, cancels, refusals and retention in any order: every call ends, with all its answers or with none."""
    asyncio.run(play(steps))
