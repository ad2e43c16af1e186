"""The providers and the ledger of a gateway that does not run, for a command that works in its place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.accounts import Accounts
from gateway.clock import Clock
from gateway.config import Configuration
from gateway.metrics import Metrics
from gateway.pipeline.waiters import Waiters
from gateway.plugins import load_plugins
from gateway.prices import Prices
from gateway.routing import Router, build_router
from gateway.run import open_database, start_simulators
from gateway.spool import Spool
from gateway.store.ledger import Ledger
from gateway.store.lock import DirectoryLock
from gateway.tasks import Tasks
from gateway.upstream import Upstream


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a step of the pipeline works with."""

    configuration: Configuration
    router: Router
    upstream: Upstream
    waiters: Waiters
    tasks: Tasks


@asynccontextmanager
async def open_router(
    configuration: Configuration, clock: Clock, prices: Prices, directory: Path, *, simulate: bool
) -> AsyncIterator[Router]:
    """The providers as configured. `simulate`: with simulators of our own, which nobody else may run then; without, those that
    run elsewhere (`sandbox_url`) are all there is. `directory`: the folder of the providers' own folders.
    """
    plugins = load_plugins()
    async with AsyncExitStack() as stack:
        elsewhere = {name: table.sandbox_url for name, table in configuration.providers.items() if table.sandbox_url}
        simulators = await start_simulators(configuration, plugins.kinds, clock, stack) if simulate else elsewhere
        router = build_router(
            configuration,
            plugins.classes(),
            clock=clock,
            directory=directory,
            simulators=simulators,
            prices=prices,
            absences=plugins.absences(configuration.providers.values()),
        )
        stack.push_async_callback(router.aclose)
        yield router


@asynccontextmanager
async def open_bench(configuration: Configuration, lock: DirectoryLock, clock: Clock) -> AsyncIterator[Bench]:
    """Everything but the workers and the door, on the ledger in the locked directory; the lock is given back at the end."""
    prices, metrics, tasks = Prices(clock), Metrics(), Tasks(_ignored, _ignored)
    directory = configuration.storage.directory / "providers"
    async with open_router(configuration, clock, prices, directory, simulate=True) as router:
        ledger = await Ledger.open(open_database(configuration, lock), clock)
        try:
            await ledger.begin(exclusive=True)
            upstream = Upstream(
                ledger=ledger,
                router=router,
                accounts=Accounts(clock, configuration.retries, metrics),
                spool=Spool(directory=configuration.storage.directory / "spool"),
                prices=prices,
                metrics=metrics,
                clock=clock,
                arrived=asyncio.Event(),
                sealed=asyncio.Event(),
            )
            waiters = Waiters(ledger, clock)
            yield Bench(configuration=configuration, router=router, upstream=upstream, waiters=waiters, tasks=tasks)
        finally:
            await tasks.cancel_all()
            await ledger.close()


def _ignored(_name: str, _error: BaseException) -> None:
    """Steps that fail say so in the ledger."""
