"""All stages of the pipeline on one rig, each told when to look: what a gateway does in hours, in some milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.config import Batching, Polling, ProviderTable, Retries, Server, Storage
from gateway.config import Cache as CacheSettings
from gateway.pipeline.collector import Collector
from gateway.pipeline.completer import Completer
from gateway.pipeline.discarder import Discarder
from gateway.pipeline.families import Families
from gateway.pipeline.janitor import Janitor
from gateway.pipeline.poller import Poller
from gateway.pipeline.reconciler import Reconciler
from gateway.pipeline.submitter import Submitter
from gateway.provider import Provider
from gateway.store.cache import Cache
from gateway.testing import FakeClock, FakeProvider
from tests.unit.pipeline.rig import NO_KINDS, NO_LIMITS, NO_TABLES, Rig, open_rig


@dataclass(frozen=True, kw_only=True)
class Works:
    """A rig, and every stage."""

    rig: Rig
    looks: tuple[Callable[[], Awaitable[object]], ...]

    async def look(self) -> None:
        """Every stage looks once; what it begins comes to its end, or waits for the clock."""
        for look in self.looks:
            await look()
            await self.quiet()

    async def quiet(self) -> None:
        """Return when nothing is under way but what waits for the clock."""
        clock, tasks = self.rig.clock, self.rig.tasks
        async with asyncio.timeout(20):
            await clock.settle(2)
            while len(tasks.names()) > clock.sleeping():
                await asyncio.sleep(0.0005)

    async def until_over(self, *, step_seconds: float, at_most_seconds: float) -> float:
        """Turn the clock step by step until every request has ended; for how long that took. Fails when the time is up."""
        began = self.rig.clock.monotonic()
        while not all(state.ended for state in await self.rig.states()):
            passed = self.rig.clock.monotonic() - began
            assert passed < at_most_seconds, f"after {passed / 86_400:.0f} days: {await self.rig.batches()}"
            await self.look()
            await self.rig.clock.advance(step_seconds)
        return self.rig.clock.monotonic() - began


@asynccontextmanager
async def open_works(
    directory: Path,
    *,
    limits: Mapping[str, object] = NO_LIMITS,
    retries: Retries | None = None,
    batching: Batching | None = None,
    plugin: type[FakeProvider] = FakeProvider,
    kinds: Mapping[str, type[Provider]] = NO_KINDS,
    tables: Mapping[str, ProviderTable] = NO_TABLES,
    clock: FakeClock | None = None,
) -> AsyncIterator[Works]:
    """Every stage, none of them running by itself."""
    async with open_rig(directory, limits, retries, plugin, kinds=kinds, tables=tables, clock=clock) as rig:
        cache = Cache.open(directory / "cache", CacheSettings())
        up, waiters, tasks, events = rig.upstream, rig.waiters, rig.tasks, [asyncio.Event() for _ in range(4)]
        submitted, ended, doubted, unbatched = events
        stages = (
            Janitor(up, waiters, Server(), Storage(retention_days=3_650.0), rig.retries).round,
            Discarder(up, rig.retries.quarantine_seconds).round,
            rig.batcher(batching).tick,
            Submitter(up, waiters, tasks, submitted=submitted, doubted=doubted).tick,
            Reconciler(up, waiters, rig.retries, tasks, doubted=doubted, submitted=submitted).tick,
            Poller(up, waiters, Polling(), rig.retries, tasks, submitted=submitted, ended=ended, doubted=doubted).tick,
            Collector(up, waiters, cache, rig.retries, tasks, ended=ended).tick,
            Completer(up, waiters, cache, rig.retries, tasks, unbatched=unbatched).tick,
            Families(rig.ledger, waiters, cache, rig.metrics, rig.clock).tick,
        )
        try:
            yield Works(rig=rig, looks=stages)
        finally:
            await tasks.cancel_all()
            cache.close()
