"""Share the free places of each provider without batches among its lanes: which request is asked next.

Takes requests in `queued`, the oldest of each lane first; leaves each of them claimed, in the hands of `asking`. If the
process dies half-way, the claims are those of a boot that is over, and the next one claims their requests again.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from gateway.config import Retries
from gateway.configured import ConfiguredProvider
from gateway.pipeline.completer.asking import Asker, Errand, park
from gateway.pipeline.waiters import Waiters
from gateway.store.cache import Cache
from gateway.store.shipping import AskableLane
from gateway.tasks import Tasks, wait_for_event
from gateway.upstream import Upstream

#: Lanes are looked at this often even when nothing is heard.
TICK_SECONDS = 1.0
RIPEN_AT_MOST = 500
#: A lane whose provider is disabled is looked at again after this long.
DISABLED_SECONDS = 60.0


@dataclass(slots=True)
class Desk:
    """What this process asks of one provider at the moment."""

    #: Calls under way, by lane.
    running: Counter[int] = field(default_factory=Counter)
    #: The lane that was served last: among equals, the next one has its turn.
    last_lane: int = 0

    def turn(self, lanes: list[AskableLane]) -> AskableLane:
        """The lane to serve now: with the fewest calls under way, then the one that has waited longest for its turn."""
        return min(lanes, key=lambda lane: (self.running[lane.lane_id], lane.lane_id <= self.last_lane, lane.lane_id))


class Completer:
    """Keeps up to `concurrency` calls under way at each provider without batches, shared fairly among its lanes."""

    def __init__(
        self,
        upstream: Upstream,
        waiters: Waiters,
        cache: Cache,
        retries: Retries,
        tasks: Tasks,
        *,
        unbatched: asyncio.Event,
    ) -> None:
        """Listens to `unbatched`, which is set when a request of such a provider has been queued."""
        self._upstream = upstream
        self._completions = upstream.ledger.completions
        self._asker = Asker(upstream, waiters, cache, retries)
        self._tasks = tasks
        self._unbatched = unbatched
        self._desks: defaultdict[str, Desk] = defaultdict(Desk)

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            self._unbatched.clear()
            pause = await self.tick()
            await wait_for_event(self._upstream.clock, self._unbatched, pause)

    async def tick(self) -> float:
        """Begin as many calls as there is room for; returns the seconds until there may be more without an event.

        While the disk is short nothing is asked: what comes back must be stored.
        """
        if not self._upstream.ledger.database.has_room():
            return TICK_SECONDS
        providers = [provider for provider in self._upstream.router.providers.values() if not provider.batches]
        if not providers:
            return TICK_SECONDS
        now = self._upstream.clock.now()
        while await self._upstream.ledger.requests.ripen(now, RIPEN_AT_MOST) == RIPEN_AT_MOST:
            pass
        return min([await self._serve(provider, now) for provider in providers])

    async def _serve(self, provider: ConfiguredProvider, now: float) -> float:
        """Fill the free places of one provider."""
        lanes = [lane for lane in await self._completions.lanes(provider.name) if lane.retry_at <= now]
        if not lanes:
            return TICK_SECONDS
        plugin = await provider.ready()
        if plugin is None:
            for lane in lanes:
                await park(self._upstream, lane, provider.disabled_reason or "its plugin is gone", DISABLED_SECONDS)
            return TICK_SECONDS
        lanes = [lane for lane in lanes if not await self._estranged(provider, lane)]
        account = self._upstream.accounts.of(provider)
        desk = self._desks[provider.name]
        while lanes and desk.running.total() < plugin.concurrency:
            if not account.may_create():
                return min(TICK_SECONDS, account.seconds_left())
            lane = desk.turn(lanes)
            claimed = await self._completions.claim(lane.lane_id, now)
            if claimed is None:
                lanes.remove(lane)
                continue
            desk.last_lane = lane.lane_id
            desk.running[lane.lane_id] += 1
            errand = Errand(provider=provider, plugin=plugin, account=account, lane=lane, claimed=claimed)
            self._tasks.spawn(f"complete.{claimed.member.seq}", self._run(errand, desk))
        return TICK_SECONDS

    async def _estranged(self, provider: ConfiguredProvider, lane: AskableLane) -> bool:
        """Whether a lane was made for what its provider is not any more; then it waits, and says why."""
        reason = provider.estranged(lane.lane)
        if reason is not None:
            await park(self._upstream, lane, reason, DISABLED_SECONDS)
        return reason is not None

    async def _run(self, errand: Errand, desk: Desk) -> None:
        try:
            await self._asker.run(errand)
        finally:
            desk.running[errand.lane.lane_id] -= 1
            self._unbatched.set()
