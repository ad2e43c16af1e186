"""Give a caller who asked for several answers all of them at once, where the provider gives one at a time.

Takes parents in `queued` whose children have all ended, or of whom one has failed; leaves them ended, and their
children forgotten. If the process dies half-way, the parent ended with its children forgotten, or nothing happened
and it is found again.
"""

from __future__ import annotations

import asyncio

import structlog

from gateway.clock import Clock
from gateway.delivery import count_ended, kept
from gateway.endings import failure
from gateway.merging import merged
from gateway.metrics import Metrics
from gateway.pipeline.waiters import Waiters
from gateway.store.cache import Cache
from gateway.store.families import Family
from gateway.store.ledger import Ledger

TICK_SECONDS = 1.0
FAMILIES_AT_ONCE = 100


class Families:
    """Looks for families that are complete, every second: their callers have waited for a batch."""

    def __init__(self, ledger: Ledger, waiters: Waiters, cache: Cache, metrics: Metrics, clock: Clock) -> None:
        """Told by nobody: the ledger knows."""
        self._ledger = ledger
        self._waiters = waiters
        self._cache = cache
        self._metrics = metrics
        self._clock = clock

    async def run(self) -> None:
        """Gather for ever."""
        while True:
            if await self.tick() < FAMILIES_AT_ONCE:
                await self._clock.sleep(TICK_SECONDS)

    async def tick(self) -> int:
        """End every parent that may end; returns how many."""
        told = await self._ledger.families.told(FAMILIES_AT_ONCE)
        for family in told:
            await self._end(family)
        return len(told)

    async def _end(self, family: Family) -> None:
        now = self._clock.now()
        try:
            ending = await asyncio.to_thread(merged, family.endings)
        except Exception:  # noqa: BLE001 - what one provider said in one answer must not stop the others
            structlog.get_logger().exception("family_not_merged", request=family.parent, answers=len(family.endings))
            ending = failure(
                "attempts_exhausted",
                "The provider's answers to this request could not be put together in one; the gateway's log has the "
                "details. Ask for one answer at a time.",
            )
        settled = await self._ledger.families.end(family.parent, ending, now)
        if settled is None:
            return
        # Its other children were counted when they ended.
        count_ended(self._metrics, ending.provider, [ending.state] * settled.stopped)
        self._waiters.wake({family.parent: ending})
        entry = kept(settled, ending, now)
        if entry is not None:
            self._cache.write([entry])
