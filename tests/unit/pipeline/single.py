"""A server without batches, in memory, and the completer in front of it."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import orjson
from msgspec.structs import replace
from pydantic import InstanceOf

from gateway.clock import Clock
from gateway.config import Cache as CacheSettings
from gateway.config import ProviderTable, Retries
from gateway.pipeline.completer import Completer
from gateway.provider import ProviderSettings, UnbatchedProvider, envelope
from gateway.records import Call, ErrorBody, Result
from gateway.store.cache import Cache
from gateway.store.rows import Admission, Ending, LaneKey
from gateway.testing import FakeClock
from tests.unit.pipeline.rig import CHAT, Rig, arrival, open_rig

TOKENS = {"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000}


@dataclass(kw_only=True)
class Server:
    """What it was asked, and what it says: its script by prompt, else the answer."""

    script: dict[str, deque[Exception | Result]] = field(default_factory=lambda: defaultdict(deque))
    #: What every call meets, while it is set.
    down: Exception | None = None
    asked: list[str] = field(default_factory=list)
    running: int = 0
    most: int = 0
    #: Calls are answered while it is set.
    open: asyncio.Event = field(default_factory=asyncio.Event)
    #: Only prompts that begin like this wait for it.
    held: str = ""

    async def answer(self, model: str, prompt: str) -> Result:
        """One call."""
        self.asked.append(prompt)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if prompt.startswith(self.held):
                await self.open.wait()
            return self._said(model, prompt)
        finally:
            self.running -= 1

    def _said(self, model: str, prompt: str) -> Result:
        outcome: Exception | Result | None = self.down
        if outcome is None and self.script[prompt]:
            outcome = self.script[prompt].popleft()
        if isinstance(outcome, Exception):
            raise outcome
        message = {"role": "assistant", "content": f"echo: {prompt}"}
        body = {"model": model, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": TOKENS}
        return outcome or Result(line_id=None, status=200, body=body)


class SingleSettings(ProviderSettings):
    """A `SingleProvider` is configured with its server."""

    server: InstanceOf[Server]
    concurrency: int = 4


class SingleProvider(UnbatchedProvider):
    """Asks the server in memory."""

    kind: ClassVar[str] = "single"
    Settings: ClassVar[type[ProviderSettings]] = SingleSettings

    def __init__(self, name: str, settings: ProviderSettings, clock: Clock, directory: Path) -> None:
        super().__init__(name, settings, clock, directory)
        assert isinstance(settings, SingleSettings)
        self.server, self.concurrency, self.completion_seconds = settings.server, settings.concurrency, 30.0

    def encode(self, call: Call) -> bytes:
        """The body as it is."""
        return envelope(call.endpoint, orjson.dumps(dict(call.body)))

    async def complete(self, call: Call) -> Result:
        """What the server says to the last message."""
        messages = call.body["messages"]
        assert isinstance(messages, list)
        return await self.server.answer(call.model, messages[-1]["content"])


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A rig with the completer and the server."""

    rig: Rig
    server: Server
    completer: Completer
    cache: Cache
    unbatched: asyncio.Event

    async def queue(self, *texts: str, model: str = "m") -> list[Admission]:
        """Record one request for each text, in this model's lane."""
        lane = LaneKey(provider="single", endpoint=CHAT, model=model)
        return await self.rig.ledger.requests.admit([replace(arrival(text), lane=lane) for text in texts])

    async def round(self) -> None:
        """One look at the lanes, and the end of every call that has been begun and is answered now."""
        await self.completer.tick()
        await self.quiet()

    async def quiet(self) -> None:
        """Return when everything under way is over, or waits for the server or the clock."""
        clock, tasks = self.rig.clock, self.rig.tasks
        async with asyncio.timeout(20):
            await clock.settle()
            while len(tasks.names()) != self.server.running + clock.sleeping():
                await asyncio.sleep(0.001)
                await clock.settle()

    async def finish_quick(self) -> None:
        """Look again until nothing is begun any more, though some calls are under way."""
        async with asyncio.timeout(20):
            while True:
                asked = len(self.server.asked)
                await self.round()
                await self.round()
                if len(self.server.asked) == asked:
                    return

    async def finish(self) -> None:
        """Look again until nothing is under way and nothing is begun any more."""
        async with asyncio.timeout(20):
            while True:
                asked, busy = len(self.server.asked), bool(self.rig.tasks.names())
                await self.round()
                if len(self.server.asked) == asked and not busy:
                    return


@asynccontextmanager
async def open_shop(
    directory: Path,
    server: Server | None = None,
    *,
    concurrency: int = 4,
    retries: Retries | None = None,
    clock: FakeClock | None = None,
) -> AsyncIterator[Shop]:
    """A shop whose server answers at once; no worker runs."""
    server = server or Server()
    server.open.set()
    settings = {"api_key": "fake-key", "server": server, "concurrency": concurrency}
    tables = {"single": ProviderTable(name="single", kind="single", settings=settings)}
    async with open_rig(
        directory, retries=retries, kinds={"single": SingleProvider}, tables=tables, clock=clock
    ) as rig:
        cache = Cache.open(directory / "cache", CacheSettings())
        unbatched = asyncio.Event()
        completer = Completer(rig.upstream, rig.waiters, cache, rig.retries, rig.tasks, unbatched=unbatched)
        try:
            yield Shop(rig=rig, server=server, completer=completer, cache=cache, unbatched=unbatched)
        finally:
            await rig.tasks.cancel_all()
            cache.close()


def failed(status: int, *, retriable: bool, message: str = "said so") -> Result:
    """An answer that is none."""
    error = ErrorBody(message=message, type="some_error")
    return Result(line_id=None, status=status, error=error, retriable=retriable)


async def ending_of(shop: Shop, seq: int) -> Ending:
    """How a request ended that has."""
    ending = await shop.rig.ledger.requests.ending(seq)
    assert ending is not None
    return ending
