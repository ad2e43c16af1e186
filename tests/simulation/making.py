"""Puts a gateway together for the simulation: all of the real one but its socket, its clock and its price list."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from aiohttp import web

from gateway.app import SHUTDOWN_SECONDS, Gateway
from gateway.config import Batching, Cache, Configuration, Polling, ProviderTable, Retries, Route, Server, Storage
from gateway.prices import Prices
from gateway.provider import Provider
from gateway.routing import Router, build_router
from tests.simulation.loop import SimulatedLoop
from tests.simulation.pace import PRICES
from tests.simulation.provider import Link, SimulatedProvider, SingleProvider, UnmarkedProvider
from tests.simulation.weather import Weather

START = 1_800_000_000.0
KINDS: dict[str, type[SimulatedProvider]] = {
    "marked": SimulatedProvider,
    "unmarked": UnmarkedProvider,
    "single": SingleProvider,
}
#: No fault at all.
FINE = Weather()


@dataclass(frozen=True, kw_only=True)
class Options:
    """What distinguishes one world from another; printed when it fails."""

    kind: str = "marked"
    shuffled: bool = True
    ambiguous: str = "wait"
    on_disconnect: str = "keep"
    quarantine_seconds: float = 120.0
    give_up_hours: float = 2.0
    max_attempts: int = 3
    #: Of the provider.
    max_requests: int | None = None
    max_open_batches: int | None = None
    max_enqueued_tokens: int | None = None
    most_lines: int | None = None
    turnaround: tuple[float, float] = (20.0, 200.0)
    weather: Weather = FINE


class NoList(Prices):
    """Prices out of the configuration, and no list to load."""

    def _price_list(self, table: ProviderTable, address: str) -> None:  # type: ignore[override]
        return None


class SimulatedClock:
    """The loop's time."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        """Seconds since 1970."""
        return START + self._loop.time()

    def monotonic(self) -> float:
        """Seconds of the loop."""
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        await asyncio.sleep(seconds)


class SimulatedGateway(Gateway):
    """All of the gateway but its socket."""

    make: Callable[[], asyncio.Protocol]

    async def _serve(self, app: web.Application, listener: socket.socket | None) -> None:
        self._runner = web.AppRunner(
            app, handle_signals=False, handler_cancellation=True, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS
        )
        await self._runner.setup()
        assert self._runner.server is not None
        self.make = self.connections.watched(self._runner.server)


def router_of(options: Options, home: Path, link: Link, loop: SimulatedLoop) -> Router:
    """One provider for every model."""
    kinds: dict[str, type[Provider]] = {"simulated": KINDS[options.kind]}
    clock = SimulatedClock(loop)
    settings = configuration(options, home, link)
    return build_router(settings, kinds, clock=clock, directory=home / "providers", prices=NoList(clock))


def configuration(options: Options, home: Path, link: Link) -> Configuration:
    """As `options` say, with times that fit the pace of the simulation."""
    limits = {
        "max_requests": options.max_requests,
        "max_open_batches": options.max_open_batches,
        "max_enqueued_tokens": options.max_enqueued_tokens,
    }
    table = ProviderTable(
        name="p",
        kind="simulated",
        limits={name: limit for name, limit in limits.items() if limit is not None},
        prices=MappingProxyType({"*": PRICES}),
        settings={"api_key": "key", "link": link},
    )
    return Configuration(
        server=Server(on_disconnect=options.on_disconnect),
        storage=Storage(directory=home, min_free_bytes=0, reserve_bytes=0),
        cache=Cache(enabled=False),
        batching=Batching(window_seconds=10.0, idle_seconds=2.0, max_window_seconds=60.0),
        polling=Polling(min_seconds=8.0, max_seconds=30.0),
        retries=Retries(
            max_attempts=options.max_attempts,
            quarantine_seconds=options.quarantine_seconds,
            give_up_hours=options.give_up_hours,
            ambiguous=options.ambiguous,
            backoff_seconds=5.0,
            breaker_seconds=2.0,
            unauthorised_seconds=40.0,
        ),
        providers=MappingProxyType({"p": table}),
        routes=(Route(model="*", provider="p"),),
    )
