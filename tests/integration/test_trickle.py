"""How many batches a steady trickle makes, over a day of virtual time and a real ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest

from gateway.accounts import Accounts
from gateway.app import Signals
from gateway.config import Batching, Configuration, Polling, ProviderTable, Retries, Route
from gateway.metrics import Metrics
from gateway.pipeline.batcher import Batcher
from gateway.pipeline.collector import Collector
from gateway.pipeline.intake import Incoming, Intake
from gateway.pipeline.poller import Poller
from gateway.pipeline.submitter import Submitter
from gateway.pipeline.waiters import Waiters
from gateway.prices import Prices
from gateway.records import RequestState
from gateway.routing import build_router
from gateway.spool import Spool
from gateway.store.cache import Cache
from gateway.store.ledger import Ledger
from gateway.store.rows import Ask
from gateway.store.sqlite import SqliteDatabase
from gateway.tasks import Tasks
from gateway.testing import FakeClock, FakeProvider, FakeRemote
from gateway.upstream import Upstream

HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class Mill:
    """The pipeline, turned by hand."""

    clock: FakeClock
    remote: FakeRemote
    ledger: Ledger
    intake: Intake
    tasks: Tasks
    workers: tuple[Batcher, Submitter, Poller, Collector]

    async def ask(self, number: int) -> None:
        """One question, whose caller does not wait."""
        body = {"model": "m", "messages": [{"role": "user", "content": f"question {number}"}]}
        await self.intake.accept(
            Incoming(client="", endpoint="/v1/chat/completions", model="m", body=body, ask=Ask(detached=True))
        )

    async def turn(self, *, all_of_them: bool) -> None:
        """Let the batcher do what is due now, or every step."""
        for worker in self.workers if all_of_them else self.workers[:1]:
            await worker.tick()
            while self.tasks.names():
                await self.clock.settle(1)


@pytest.fixture
async def mill(tmp_path: Path) -> AsyncIterator[Mill]:
    """Batches take an hour; everything else is as it comes."""
    clock = FakeClock()
    remote = FakeRemote(clock=clock, turnaround_seconds=HOUR)
    table = ProviderTable(name="fake", kind="fake", settings={"remote": remote, "api_key": "none"})
    configuration = Configuration(
        providers=MappingProxyType({"fake": table}), routes=(Route(model="*", provider="fake"),)
    )
    metrics = Metrics()
    router = build_router(configuration, {"fake": FakeProvider}, clock=clock, directory=tmp_path)
    database = SqliteDatabase.open(tmp_path / "ledger", durability="relaxed")
    ledger = await Ledger.open(database, clock)
    await ledger.begin(exclusive=True)
    cache = Cache.open(tmp_path / "cache", configuration.cache)
    faults: list[str] = []
    tasks = Tasks(lambda name, _: faults.append(name), lambda name, _: faults.append(name))
    waiters = Waiters(ledger, clock)
    events = Signals()
    heard = {"arrived": events.arrived, "unbatched": events.unbatched}
    accounts = Accounts(clock, Retries(), metrics)
    upstream = Upstream(
        ledger=ledger,
        router=router,
        accounts=accounts,
        spool=Spool(directory=tmp_path / "spool"),
        prices=Prices(clock),
        metrics=metrics,
        clock=clock,
        arrived=events.arrived,
        sealed=events.sealed,
    )
    yield Mill(
        clock=clock,
        remote=remote,
        ledger=ledger,
        tasks=tasks,
        intake=Intake(ledger, cache, router, waiters, metrics, clock=clock, tasks=tasks, **heard),
        workers=(
            Batcher(
                ledger, router, accounts, Batching(), metrics, clock=clock, arrived=events.arrived, sealed=events.sealed
            ),
            Submitter(upstream, waiters, tasks, submitted=events.submitted, doubted=events.doubted),
            Poller(
                upstream,
                waiters,
                Polling(),
                Retries(),
                tasks,
                submitted=events.submitted,
                ended=events.ended,
                doubted=events.doubted,
            ),
            Collector(upstream, waiters, cache, Retries(), tasks, ended=events.ended),
        ),
    )
    cache.close()
    await ledger.close()
    assert faults == []


@pytest.mark.timeout(600)
async def test_a_trickle_makes_about_ten_batches_per_turnaround(mill: Mill) -> None:
    """One request every three seconds, for a day: under 60 batches in the first hours, then 8 to 14 per turnaround."""
    began = mill.clock.now()
    for number in range(int(24 * HOUR / 3)):
        await mill.ask(number)
        # Polls are further apart than arrivals.
        await mill.turn(all_of_them=number % 4 == 0)
        mill.clock.jump(3)

    hours = Counter(int((batch.created - began) // HOUR) for batch in mill.remote.batches.values())
    assert hours[0] < 60
    assert all(8 <= hours[hour] <= 14 for hour in range(2, 24)), hours
    assert mill.remote.duplicates() == {}
    ended = (await mill.ledger.requests.tally())[RequestState.SUCCEEDED]
    assert ended >= 21 * HOUR / 3
