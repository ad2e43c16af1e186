"""Collect one batch after the other: claim, fetch, settle, drop its files.

Takes batches in `ended`, leaves them in `collected`. If the process dies half-way, its claims die with it: each batch is
claimed again, and goes on from what is on disk and in the ledger.
"""

from __future__ import annotations

import asyncio

from gateway.config import Retries
from gateway.delivery import Delivery
from gateway.errors import PluginFault
from gateway.pipeline.collector.fetching import Fetcher
from gateway.pipeline.collector.settling import Settler
from gateway.pipeline.waiters import Waiters
from gateway.records import BatchState
from gateway.store.cache import Cache
from gateway.store.shipping import BatchRow
from gateway.tasks import Tasks, wait_for_event
from gateway.troubles import PARK_SECONDS, trouble
from gateway.turns import Turns
from gateway.upstream import Upstream

#: Batches of each account fetched at the same time: a download that hangs holds up nobody else's.
AT_ONCE = 2
#: Batches settled at the same time, of all accounts: that is work for this process.
SETTLED_AT_ONCE = 2
TICK_SECONDS = 2.0
#: Batches with results on a short disk that are looked at together.
LOOK_AT_MOST = 100


class Collector:
    """Claims ended batches and takes each through fetch, settle and wake."""

    def __init__(
        self,
        upstream: Upstream,
        waiters: Waiters,
        cache: Cache,
        retries: Retries,
        tasks: Tasks,
        *,
        ended: asyncio.Event,
    ) -> None:
        """Listens to `ended`, tells by `upstream.arrived` when requests went back."""
        self._upstream = upstream
        self._ledger = upstream.ledger
        delivery = Delivery(wake=waiters.wake, cache=cache, metrics=upstream.metrics)
        self._fetcher = Fetcher(upstream, retries)
        self._settler = Settler(upstream, delivery, retries, tasks)
        self._ended = ended
        self._turns = Turns(upstream, tasks, "collect", (BatchState.ENDED,), at_once=AT_ONCE, over=ended)
        self._settling = asyncio.Semaphore(SETTLED_AT_ONCE)

    async def run(self) -> None:
        """Collect for ever."""
        while True:
            self._ended.clear()
            if not await self.tick():
                await wait_for_event(self._upstream.clock, self._ended, TICK_SECONDS)

    async def tick(self) -> int:
        """Begin with every batch that is ready, as far as its account has room; returns how many."""
        if self._ledger.database.has_room():
            return await self._turns.begin(self.collect)
        return await self._collect_fetched()

    async def _collect_fetched(self) -> int:
        """As `tick` while the disk is short: only batches whose results are on it already."""
        now = self._upstream.clock.now()
        begun = 0
        for batch in await self._ledger.batches.fetched_already(now, LOOK_AT_MOST):
            if not self._turns.has_room(batch):
                continue
            claimed = await self._ledger.batches.claim_one(batch.id, [BatchState.ENDED])
            if claimed is not None:
                self._turns.give(claimed, self._guarded)
                begun += 1
        return begun

    async def _guarded(self, batch: BatchRow) -> None:
        await self._upstream.guard(batch, self.collect(batch))

    async def collect(self, batch: BatchRow) -> None:
        """Take one claimed batch as far as it goes now."""
        side = await self._upstream.side(batch)
        if side is None:
            return
        fetched = await self._fetcher.fetch(batch, side)
        if fetched is None:
            return
        batch = fetched.batch
        try:
            async with self._settling:
                if fetched.again_in is None:
                    await self._settler.settle_all(batch, side, fetched.answered)
                else:
                    await self._settler.settle_answers(batch, side, fetched.answered)
        except PluginFault as error:
            # Of a file that is not whole the next one may be better, and has what others still wait for.
            if fetched.again_in is None:
                await self._upstream.park(batch, trouble(error), PARK_SECONDS)
                return
        if fetched.again_in is not None:
            await self._fetcher.again_later(fetched, fetched.again_in)
            return
        await self._ledger.batches.collected(batch, self._upstream.clock.now())
        self._upstream.metrics.batches_collected.of(batch.lane.provider).inc()
        self._upstream.log(batch).info("batch_collected", requests=batch.count)
        await asyncio.to_thread(self._upstream.spool.drop, batch.marker)
        self._upstream.arrived.set()
