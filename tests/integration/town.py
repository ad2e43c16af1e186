"""One gateway in front of simulated providers of several kinds, in this process, on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion

from gateway.app import Gateway
from gateway.cli.demo.cast import Part
from gateway.config import Batching, Polling, ProviderTable, Waiting
from gateway.listening import listen
from gateway.plugins import load_plugins
from gateway.prices import Prices
from gateway.routing import build_router
from gateway.sandbox import SandboxServer, SandboxSettings, Simulator
from gateway.store.sqlite import SqliteDatabase
from tests.integration.house import WarpClock, configuration

QUICK = SandboxSettings(validating_seconds=0.05, running_seconds=0.5, finalizing_seconds=0.05, jitter=0.5)
#: Tables beside those that are named as their kind: the other one of two ways to hand a batch over.
OTHER_WAYS: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {"gemini-inline": {"inline_max_bytes": 1_000_000}, "mistral-by-file": {"inline_max_requests": 0}}
)


@dataclass(frozen=True, kw_only=True)
class Town:
    """One gateway in front of all simulated providers."""

    gateway: Gateway
    client: AsyncOpenAI
    cast: Sequence[Part]
    simulators: Mapping[str, Simulator]
    #: Of the gateway and of the simulators alike.
    clock: WarpClock

    async def ask(self, kind: str, body: Mapping[str, object]) -> ChatCompletion:
        """One call, at the provider of this kind."""
        model = next(part.model for part in self.cast if part.kind == kind)
        answer: ChatCompletion = await self.client.chat.completions.create(model=f"{kind}/{model}", **body)  # type: ignore[call-overload]
        return answer

    async def until(self, condition: Callable[[], Awaitable[bool]], *, jump_seconds: float = 0.0) -> None:
        """Return when `condition` holds, the clock put forward by so much before each look; fail when it never does."""
        async with asyncio.timeout(60):
            while not await condition():
                self.clock.jump(jump_seconds)
                await asyncio.sleep(0.05)


@asynccontextmanager
async def town(
    directory: Path, cast: Sequence[Part], simulated: SandboxSettings = QUICK, **sections: object
) -> AsyncIterator[Town]:
    """Start all of it, and stop it; `sections` are of the gateway's configuration."""
    clock = WarpClock()
    simulators = {part.kind: part.simulator_class(clock=clock, name=part.kind, settings=simulated) for part in cast}
    tables = {
        part.kind: ProviderTable(
            name=part.kind,
            kind=part.provider_class.kind,
            sandbox=True,
            limits={"min_poll_seconds": 0.01},
            settings=OTHER_WAYS.get(part.kind, {}),
        )
        for part in cast
    }
    chosen: dict[str, object] = {
        "providers": MappingProxyType(tables),
        "routes": (),
        "batching": Batching(window_seconds=1.0, idle_seconds=0.2),
        "polling": Polling(min_seconds=0.1, max_seconds=0.5),
        "waiting": Waiting(grace_seconds=60.0),
        **sections,
    }
    settings = configuration(directory, **chosen)
    async with SandboxServer(list(simulators.values())) as server:
        router = build_router(
            settings,
            load_plugins().classes(),
            clock=clock,
            directory=directory / "providers",
            simulators={name: server.base_url(simulator) for name, simulator in simulators.items()},
            prices=Prices(clock),
        )
        faults: list[str] = []
        gateway = Gateway(
            settings, router, SqliteDatabase.open(directory), clock, fail=lambda: faults.append("a worker died")
        )
        listener = listen("127.0.0.1", 0)
        await gateway.start(listener)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        try:
            async with AsyncOpenAI(base_url=url, api_key="any", max_retries=0, timeout=100) as client:
                yield Town(gateway=gateway, client=client, cast=cast, simulators=simulators, clock=clock)
        finally:
            await gateway.stop()
        assert not faults
