"""A whole gateway and a simulated provider in this process, on real sockets: what integration tests talk to."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import httpx2
from openai import AsyncOpenAI

from gateway.app import Gateway
from gateway.clock import SystemClock
from gateway.config import Batching, Configuration, Polling, ProviderTable, Retries, Route, Server, Storage
from gateway.listening import listen
from gateway.plugins import load_plugins
from gateway.prices import Prices
from gateway.routing import build_router
from gateway.sandbox import SandboxServer, SandboxSettings
from gateway.store.sqlite import SqliteDatabase
from gateway_openai.sandbox import OpenAISimulator

#: A batch takes no longer than it must: tests of waiting set their own times.
QUICK = SandboxSettings(validating_seconds=0.0, running_seconds=0.05, finalizing_seconds=0.0)
MODEL = "sim-small"


@dataclass(frozen=True, kw_only=True)
class House:
    """One running gateway in front of one simulator."""

    gateway: Gateway
    simulator: OpenAISimulator
    url: str

    def client(self, *, run: str | None = None, **options: object) -> AsyncOpenAI:
        """The official client, pointed here; without retries unless said otherwise."""
        base = self.url + (f"/run/{run}" if run else "") + "/v1"
        settings: dict[str, object] = {"api_key": "none", "base_url": base, "max_retries": 0, **options}
        return AsyncOpenAI(**settings)  # type: ignore[arg-type]

    def http(self) -> httpx2.AsyncClient:
        """A plain HTTP client, pointed here."""
        return httpx2.AsyncClient(base_url=self.url, timeout=60)

    async def lines(self) -> int:
        """How many lines were ever submitted."""
        return (await self.simulator.submissions()).accepted_lines


def configuration(directory: Path, **sections: object) -> Configuration:
    """Times short enough for a test, one simulated provider for every model."""
    table = ProviderTable(name="sim", kind="openai", sandbox=True, limits={"min_poll_seconds": 0.01})
    settings: dict[str, object] = {
        "server": Server(port=0),
        "storage": Storage(directory=directory),
        "batching": Batching(window_seconds=1.0, idle_seconds=0.05),
        "polling": Polling(min_seconds=0.02, max_seconds=0.1),
        "retries": Retries(backoff_seconds=0.05, breaker_seconds=0.05, quarantine_seconds=0.3),
        "providers": MappingProxyType({"sim": table}),
        "routes": (Route(model="*", provider="sim"),),
        **sections,
    }
    return Configuration(**settings)  # type: ignore[arg-type]


@asynccontextmanager
async def open_house(
    directory: Path, sandbox: SandboxSettings = QUICK, simulator: OpenAISimulator | None = None, **sections: object
) -> AsyncIterator[House]:
    """Start simulator and gateway, and stop both; the ledger stays in `directory`."""
    clock = SystemClock()
    simulator = simulator or OpenAISimulator(clock=clock, name="sim", settings=sandbox)
    async with SandboxServer([simulator]) as server:
        settings = configuration(directory, **sections)
        router = build_router(
            settings,
            load_plugins().classes(),
            clock=clock,
            directory=directory / "providers",
            simulators={"sim": server.base_url(simulator)},
            prices=Prices(clock),
        )
        database = SqliteDatabase.open(directory)
        faults: list[str] = []
        gateway = Gateway(settings, router, database, clock, fail=lambda: faults.append("a worker died"))
        listener = listen("127.0.0.1", 0)
        await gateway.start(listener)
        port = listener.getsockname()[1]
        try:
            yield House(gateway=gateway, simulator=simulator, url=f"http://127.0.0.1:{port}")
        finally:
            await gateway.stop()
        assert not faults


def messages(text: str) -> list[dict[str, str]]:
    """One question."""
    return [{"role": "user", "content": text}]


def patient(**changes: object) -> Retries:
    """The retries of `configuration` with changes."""
    return dataclasses.replace(Retries(backoff_seconds=0.05, breaker_seconds=0.05, quarantine_seconds=0.3), **changes)  # type: ignore[arg-type]
