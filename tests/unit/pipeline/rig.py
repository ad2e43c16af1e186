"""The pipeline's parts on a real ledger, a clock that is turned by hand and a provider in memory."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import orjson

from gateway.accounts import Accounts
from gateway.config import Batching, Configuration, ProviderTable, Retries, Route
from gateway.metrics import Metrics
from gateway.pipeline.batcher import Batcher
from gateway.pipeline.waiters import Waiters
from gateway.prices import Prices
from gateway.provider import Provider, envelope
from gateway.records import BatchState, RequestState, new_marker
from gateway.routing import Router, build_router
from gateway.spool import Spool
from gateway.store.ledger import Ledger
from gateway.store.rows import Admission, Arrival, Ask, LaneKey
from gateway.store.shipping import BatchRow, Cut
from gateway.store.sqlite import SqliteDatabase
from gateway.tasks import Tasks
from gateway.testing import FakeClock, FakeProvider, FakeRemote
from gateway.upstream import Upstream

CHAT = "/v1/chat/completions"
NO_LIMITS: Mapping[str, object] = MappingProxyType({})
NO_KINDS: Mapping[str, type[Provider]] = MappingProxyType({})
NO_TABLES: Mapping[str, ProviderTable] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Rig:
    """What a step of the pipeline works with."""

    ledger: Ledger
    clock: FakeClock
    remote: FakeRemote
    router: Router
    accounts: Accounts
    metrics: Metrics
    upstream: Upstream
    waiters: Waiters
    tasks: Tasks
    faults: list[str]
    retries: Retries

    def batcher(self, batching: Batching | None = None) -> Batcher:
        """A batcher that has not looked yet."""
        return Batcher(
            self.ledger,
            self.router,
            self.accounts,
            batching or Batching(),
            metrics=self.metrics,
            clock=self.clock,
            arrived=self.upstream.arrived,
            sealed=self.upstream.sealed,
        )

    async def admit(self, *texts: str, tokens: int = 100, provider: str = "fake") -> list[Admission]:
        """Record one request for each text, in one commit."""
        return await self.ledger.requests.admit([arrival(text, tokens, provider) for text in texts])

    async def errands(self) -> None:
        """Return when nothing runs that a tick has begun."""
        async with asyncio.timeout(10):
            while self.tasks.names():
                await asyncio.sleep(0.001)

    async def batches(self, *states: BatchState) -> list[BatchRow]:
        """All batches in these states (or in any), the oldest first."""
        return list(reversed(await self.ledger.batches.listed(states or tuple(BatchState))))

    async def batch(self) -> BatchRow:
        """The one batch there is."""
        (found,) = await self.batches()
        return found

    async def states(self) -> list[RequestState]:
        """The state of every request, in the order of acceptance."""
        return [request.state for request in await self.ledger.requests.listed(None)]


def arrival(text: str, tokens: int = 100, provider: str = "fake") -> Arrival:
    """An unnamed call."""
    body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": text}]})
    return Arrival(
        client="",
        custom_id=None,
        lane=LaneKey(provider=provider, endpoint=CHAT, model="m"),
        fingerprint=hashlib.sha256(text.encode()).digest(),
        body_hash=hashlib.sha256(body).digest(),
        payload=envelope(CHAT, body),
        size=len(body) + 100,
        tokens=tokens,
        ask=Ask(),
    )


def configured(
    remote: FakeRemote, limits: Mapping[str, object], retries: Retries, tables: Mapping[str, ProviderTable]
) -> Configuration:
    """The fake, one provider whose kind is not installed, and `tables`."""
    settings = {"api_key": "fake-key", "remote": remote}
    providers = {
        **tables,
        "fake": ProviderTable(name="fake", kind="fake", settings=settings, limits=limits),
        "gone": ProviderTable(name="gone", kind="uninstalled"),
    }
    routes = (Route(model="m", provider="fake"),)
    return Configuration(providers=MappingProxyType(providers), routes=routes, retries=retries)


@asynccontextmanager
async def open_rig(
    directory: Path,
    limits: Mapping[str, object] = NO_LIMITS,
    retries: Retries | None = None,
    plugin: type[FakeProvider] = FakeProvider,
    *,
    kinds: Mapping[str, type[Provider]] = NO_KINDS,
    tables: Mapping[str, ProviderTable] = NO_TABLES,
    clock: FakeClock | None = None,
) -> AsyncIterator[Rig]:
    """Open a ledger and what stands around it; no worker runs. `kinds` and `tables` come beside the fake's own."""
    clock = clock or FakeClock()
    remote = FakeRemote(clock=clock)
    configuration = configured(remote, limits, retries or Retries(), tables)
    prices = Prices(clock)
    router = build_router(
        configuration, {"fake": plugin, **kinds}, clock=clock, directory=directory / "providers", prices=prices
    )
    # As after the first moments of a start: no call waits for an SDK to be loaded.
    router.warm()
    ledger = await Ledger.open(SqliteDatabase.open(directory / "ledger"), clock)
    await ledger.begin(exclusive=True)
    metrics, faults = Metrics(), list[str]()
    accounts = Accounts(clock, configuration.retries, metrics)
    tasks = Tasks(
        lambda name, error: faults.append(f"{name}: {error!r}"), lambda name, error: faults.append(f"{name}: {error!r}")
    )
    upstream = Upstream(
        ledger=ledger,
        router=router,
        accounts=accounts,
        spool=Spool(directory=directory / "spool"),
        prices=prices,
        metrics=metrics,
        clock=clock,
        arrived=asyncio.Event(),
        sealed=asyncio.Event(),
    )
    try:
        yield Rig(
            ledger=ledger,
            clock=clock,
            remote=remote,
            router=router,
            accounts=accounts,
            metrics=metrics,
            upstream=upstream,
            waiters=Waiters(ledger, clock),
            tasks=tasks,
            faults=faults,
            retries=configuration.retries,
        )
    finally:
        await tasks.cancel_all()
        await ledger.close()


async def sealed(rig: Rig, *texts: str, tokens: int = 100) -> BatchRow:
    """One batch of these requests, claimed."""
    await rig.admit(*texts, tokens=tokens)
    (window,) = await rig.ledger.lanes.windows()
    provider = rig.router.providers["fake"]
    batch = await rig.ledger.batches.seal(
        window.lane_id, Cut(), new_marker(), provider.account, provider.home, rig.clock.now()
    )
    assert batch is not None
    return await claimed(rig)


async def claimed(rig: Rig) -> BatchRow:
    """The newest batch, claimed whatever its state."""
    newest = (await rig.batches())[-1]
    batch = await rig.ledger.batches.claim_one(newest.id)
    assert batch is not None
    return batch
