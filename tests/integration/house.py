"""A whole gateway and a simulated provider in this process, on real sockets: what integration tests talk to."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import httpx2
from openai import AsyncOpenAI

from gateway.app import Gateway
from gateway.clock import SystemClock
from gateway.config import Batching, Configuration, Polling, ProviderTable, Retries, Route, Server, Storage, Waiting
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


class WarpClock(SystemClock):
    """The machine's clock, which a test can put forward; whoever sleeps goes on sleeping."""

    def __init__(self) -> None:
        """In step with the machine."""
        self.ahead = 0.0

    def now(self) -> float:
        """The machine's time and what it was put forward by."""
        return super().now() + self.ahead

    def monotonic(self) -> float:
        """As `now`."""
        return super().monotonic() + self.ahead

    def jump(self, seconds: float) -> None:
        """Put it forward."""
        self.ahead += seconds


@dataclass(frozen=True, kw_only=True)
class House:
    """One running gateway in front of one simulator."""

    gateway: Gateway
    simulator: OpenAISimulator
    url: str
    clock: WarpClock
    #: Pointed here; as many connections as there are callers.
    http: httpx2.AsyncClient

    def client(self, *, run: str | None = None, **options: object) -> AsyncOpenAI:
        """The official client, pointed here; without retries unless said otherwise."""
        base = self.url + (f"/run/{run}" if run else "") + "/v1"
        settings: dict[str, object] = {"api_key": "none", "base_url": base, "max_retries": 0, **options}
        return AsyncOpenAI(**settings)  # type: ignore[arg-type]

    async def ask(self, text: str, *, run: str = "", **options: object) -> Answered:
        """One question through plain HTTP; the caller bears minutes of silence."""
        headers = {"x-stainless-read-timeout": "600", **options.pop("headers", {})}  # type: ignore[dict-item]
        response = await self.http.post(
            f"{run}/v1/chat/completions",
            json={"model": MODEL, "messages": messages(text), **options},
            headers=headers,
        )
        return Answered(status=response.status_code, body=response.json(), headers=dict(response.headers))

    async def until(self, condition: Callable[[], Awaitable[bool]], *, seconds: float = 20.0) -> None:
        """Return when `condition` holds; fail when it does not within a deadline that only a hang reaches."""
        async with asyncio.timeout(seconds):
            while not await condition():
                await asyncio.sleep(0.01)

    async def skip_until(self, asked: asyncio.Future[list[Answered]]) -> None:
        """Put the clock forward, a minute at a time, until all callers have their answers."""

        async def over() -> bool:
            self.clock.jump(60)
            await asyncio.sleep(0.05)
            return asked.done()

        await self.until(over, seconds=60)

    async def wasted_and_billed(self) -> tuple[int, int]:
        """Billed lines nobody could use, and all billed lines (no price is known for the simulated model)."""
        bills = await self.gateway.ledger.bills.totals()
        return sum(bill.wasted_lines for bill in bills), sum(bill.unpriced_lines for bill in bills)

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
        # `ask` wants true statuses, however slow the machine is: nothing is committed to it for a minute.
        "waiting": Waiting(grace_seconds=60.0),
        "providers": MappingProxyType({"sim": table}),
        "routes": (Route(model="*", provider="sim"),),
        **sections,
    }
    return Configuration(**settings)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What a caller got."""

    status: int
    body: dict[str, dict[str, str]]
    headers: dict[str, str]

    @property
    def text(self) -> str:
        """The answer's words."""
        choices: list[dict[str, dict[str, str]]] = self.body["choices"]  # type: ignore[assignment]
        return choices[0]["message"]["content"]

    @property
    def code(self) -> str:
        """The error's code."""
        return self.body["error"]["code"]


@asynccontextmanager
async def open_house(
    directory: Path, sandbox: SandboxSettings = QUICK, simulator: OpenAISimulator | None = None, **sections: object
) -> AsyncIterator[House]:
    """Start simulator and gateway, and stop both; the ledger stays in `directory`."""
    clock = WarpClock()
    simulator = simulator or OpenAISimulator(clock=SystemClock(), name="sim", settings=sandbox)
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
        url = f"http://127.0.0.1:{port}"
        try:
            async with httpx2.AsyncClient(
                base_url=url, timeout=90, limits=httpx2.Limits(max_connections=None), verify=False
            ) as http:
                yield House(gateway=gateway, simulator=simulator, url=url, clock=clock, http=http)
        finally:
            await gateway.stop()
        assert not faults


def messages(text: str) -> list[dict[str, str]]:
    """One question."""
    return [{"role": "user", "content": text}]


def patient(**changes: object) -> Retries:
    """The retries of `configuration` with changes."""
    return dataclasses.replace(Retries(backoff_seconds=0.05, breaker_seconds=0.05, quarantine_seconds=0.3), **changes)  # type: ignore[arg-type]
