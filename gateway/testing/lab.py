"""A provider at work against its own simulator, over real HTTP, on a clock that is turned by hand."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from gateway.provider import Provider, ProviderSettings
from gateway.records import Batch, Call, RemoteBatch, Result, line_id
from gateway.sandbox import SandboxServer, SandboxSettings, Simulator
from gateway.testing.clock import QuickClock

CHAT = "/v1/chat/completions"
MARKER = "abcdefghij0123456789"

#: Longer than every batch of `SIMULATED` takes.
LONG_ENOUGH_SECONDS = 1_000
#: A batch takes two minutes of the clock's time.
SIMULATED = SandboxSettings(validating_seconds=10, running_seconds=100, finalizing_seconds=10)
#: Where nobody listens: the base URL of a provider without a simulator.
NOWHERE = "http://127.0.0.1:9"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """One provider, the simulated account behind it, and the steps of a batch, as the gateway takes them."""

    provider: Provider
    clock: QuickClock
    #: For spools and fetched rows.
    directory: Path
    #: None: the kind has no simulator.
    account: Simulator | None = None
    server: SandboxServer | None = None

    @property
    def simulator(self) -> Simulator:
        """The simulated account: its faults, its ledger, its batches. LookupError when the kind has none."""
        if self.account is None:
            raise LookupError(f"the kind {self.provider.kind} has no simulator")
        return self.account

    def seal(self, *bodies: Mapping[str, object], marker: str = MARKER, endpoint: str = CHAT) -> Batch:
        """A sealed batch of these bodies, its lines on disk."""
        model = str(bodies[0]["model"])
        spool = self.directory / f"{marker}.spool"
        with spool.open("wb") as lines:
            for n, body in enumerate(bodies):
                payload = self.provider.encode(Call(endpoint=endpoint, model=model, body=body))
                lines.write(self.provider.frame(line_id(marker, n), payload) + b"\n")
        return Batch(
            marker=marker,
            endpoint=endpoint,
            model=model,
            count=len(bodies),
            size=spool.stat().st_size,
            spool=spool,
        )

    async def upload(self, *bodies: Mapping[str, object], marker: str = MARKER) -> Batch:
        """A sealed batch whose file is with the provider, as it is just before its create call."""
        batch = self.seal(*bodies, marker=marker)
        return replace(batch, file_id=await self.provider.upload(batch))

    async def submit(self, *bodies: Mapping[str, object], marker: str = MARKER) -> RemoteBatch:
        """A batch that the provider has just taken."""
        return await self.provider.submit(await self.upload(*bodies, marker=marker))

    async def run(self, *bodies: Mapping[str, object]) -> RemoteBatch:
        """A batch that was walked through the provider to its end."""
        return await self.later(await self.submit(*bodies))

    async def later(self, remote: RemoteBatch, seconds: float = LONG_ENOUGH_SECONDS) -> RemoteBatch:
        """The same batch as a poll shows it when `seconds` have gone by."""
        self.clock.jump(seconds)
        return await self.provider.poll(remote)

    @asynccontextmanager
    async def restarted(self) -> AsyncIterator[Provider]:
        """A second instance with the same settings and folder, as after a restart: it knows nothing and has no connections."""
        old = self.provider
        anew = type(old)(old.name, old.settings, self.clock, old.directory)
        try:
            yield anew
        finally:
            await anew.aclose()

    async def rows(self, remote: RemoteBatch) -> list[bytes]:
        """Every row that `fetch` writes, without its newline, in the order they came."""
        to = self.directory / "fetched"
        await self.provider.fetch(remote, to)
        return to.read_bytes().split(b"\n")[:-1]

    async def results(self, remote: RemoteBatch) -> list[Result]:
        """Every row that `fetch` writes, decoded."""
        return [self.provider.decode(row) for row in await self.rows(remote)]


@asynccontextmanager
async def sandboxed(
    provider_class: type[Provider],
    directory: Path,
    *,
    settings: Mapping[str, object] | None = None,
    simulated: SandboxSettings = SIMULATED,
    name: str = "",
) -> AsyncIterator[Lab]:
    """An instance of `provider_class` in front of its own simulator, on a port of its own, both on one quick clock.

    `settings` are the keys of its table; address and key are filled in as `sandbox = true` does it. A kind without a
    simulator gets an address where nobody listens. Everything is closed at the end.
    """
    clock = QuickClock()
    home = directory / "provider"
    home.mkdir(parents=True, exist_ok=True)
    chosen = dict(settings or {})
    simulator_class = simulator_of(provider_class)
    if simulator_class is None:
        provider = provider_class(name or provider_class.kind, _settings(provider_class, chosen, NOWHERE), clock, home)
        yield Lab(provider=provider, clock=clock, directory=directory)
        await provider.aclose()
        return
    simulator = simulator_class(clock=clock, settings=simulated, directory=directory / "sandbox")
    async with SandboxServer([simulator]) as server:
        own = _settings(provider_class, chosen, server.base_url(simulator))
        provider = provider_class(name or provider_class.kind, own, clock, home)
        yield Lab(provider=provider, clock=clock, directory=directory, account=simulator, server=server)
        await provider.aclose()


def simulator_of(provider_class: type[Provider]) -> type[Simulator] | None:
    """The class that `Provider.simulator` names; None when it names none. ImportError or AttributeError when it is not there."""
    if provider_class.simulator is None:
        return None
    module, _, name = provider_class.simulator.partition(":")
    return cast("type[Simulator]", getattr(importlib.import_module(module), name))


def text_of(result: Result) -> str:
    """The text of a result's first choice; empty when it has none."""
    choices = (result.body or {}).get("choices")
    first = choices[0] if isinstance(choices, list) and choices else {}
    message = first.get("message") if isinstance(first, dict) else {}
    content = message.get("content") if isinstance(message, dict) else ""
    return content if isinstance(content, str) else ""


def _settings(provider_class: type[Provider], chosen: dict[str, object], base_url: str) -> ProviderSettings:
    """As routing makes them for a sandboxed table."""
    filled = {**provider_class.sandbox_settings, **chosen}
    values = {**filled, "base_url": base_url, "api_key": filled.get("api_key") or "sandbox"}
    return provider_class.Settings.model_validate(values)
