"""One small life of a gateway on a disk that fails, a second one on a disk that is well, and what must hold after both."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import httpcore2  # noqa: F401 - loaded before the fork
import httpx2
import structlog

import gateway_openai.provider  # noqa: F401 - loaded before the fork
from gateway.app import Gateway
from gateway.clock import SystemClock
from gateway.config import Batching, Configuration, Polling, Retries, Storage
from gateway.errors import LedgerError
from gateway.listening import listen
from gateway.plugins import load_plugins
from gateway.prices import Prices
from gateway.routing import Router, build_router
from gateway.run import open_database
from gateway.sandbox import SandboxServer, SandboxSettings
from gateway.store.sqlite import FILE_NAME
from gateway_openai.sandbox import OpenAISimulator
from tests.disk.forge import Disk, Fault
from tests.integration.house import MODEL, configuration, messages

#: The gateway's seconds are so much shorter than ours.
SPEED = 10.0
QUICK = SandboxSettings(validating_seconds=0.0, running_seconds=0.01, finalizing_seconds=0.0)
#: For how long a life on a failing disk is watched before it is ended, and one on a good disk before it has failed.
FIRST_SECONDS = 3.0
#: On a full disk little more will happen.
FULL_SECONDS = 0.7
SECOND_SECONDS = 60.0
DETACHED = ("one, in the background", "two, in the background")
WAITING = ("three, on the line", "four, on the line")


class FastClock(SystemClock):
    """Time flies, for whoever asks this clock."""

    def __init__(self) -> None:
        self._began = time.time()
        self._origin = time.monotonic()

    def now(self) -> float:
        """As if it had been running fast since it was made."""
        return self._began + self.monotonic()

    def monotonic(self) -> float:
        """Likewise, from 0."""
        return (time.monotonic() - self._origin) * SPEED

    async def sleep(self, seconds: float) -> None:
        """A shorter nap."""
        await asyncio.sleep(seconds / SPEED)


@dataclass(frozen=True, kw_only=True)
class World:
    """What outlives the gateway: the provider, the clock, the directory; and what the clients know."""

    directory: Path
    simulator: OpenAISimulator
    provider_url: str
    clock: FastClock
    durability: str = "full"
    min_free_bytes: int = 1 << 20
    #: The word the gateway gave for a question: an id (202), or the whole answer (200).
    accepted: dict[str, str] = field(default_factory=dict)
    answered: dict[str, dict[str, object]] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)

    def settings(self) -> Configuration:
        """Short times, by the fast clock."""
        return configuration(
            self.directory,
            storage=Storage(
                directory=self.directory,
                durability=self.durability,
                reserve_bytes=1 << 20,
                min_free_bytes=self.min_free_bytes,
            ),
            batching=Batching(window_seconds=1.0, idle_seconds=0.5),
            polling=Polling(min_seconds=0.2, max_seconds=1.0),
            retries=Retries(backoff_seconds=1.0, breaker_seconds=1.0, quarantine_seconds=1.0),
        )

    def router(self) -> Router:
        """To the one provider."""
        return build_router(
            self.settings(),
            load_plugins().classes(),
            clock=self.clock,
            directory=self.directory / "providers",
            simulators={"sim": self.provider_url},
            prices=Prices(self.clock),
        )


@asynccontextmanager
async def a_life(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    """A gateway from start to stop. Raises `LedgerError` if it cannot start."""
    settings, router = world.settings(), world.router()
    database = open_database(settings)
    gateway = Gateway(settings, router, database, world.clock, fail=lambda: world.complaints.append("a worker died"))
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        await gateway.start(listener)
    except LedgerError:
        listener.close()
        await gateway.tasks.cancel_all()
        await database.close()
        raise
    async with httpx2.AsyncClient(base_url=url, timeout=SECOND_SECONDS, verify=False) as http:
        try:
            yield http
        finally:
            await gateway.stop()


async def ask(world: World, http: httpx2.AsyncClient, text: str, **headers: str) -> None:
    """Ask once; remember what the gateway gave its word for, complain of anything that is no clear answer or error."""
    try:
        response = await http.post(
            "/v1/chat/completions",
            json={"model": MODEL, "messages": messages(text)},
            headers={"x-stainless-read-timeout": "600", **headers},
        )
    except httpx2.HTTPError as error:
        world.complaints.append(f"{text}: {error!r}")
        return
    if response.status_code == 202:
        world.accepted[text] = response.headers["location"]
    else:
        heard(world, text, response)


def heard(world: World, text: str, response: httpx2.Response) -> None:
    """Judge one whole response to a question."""
    body = response.json()
    if response.status_code == 200:
        said = body["choices"][0]["message"]["content"]
        if text not in said:
            world.complaints.append(f"{text}: got somebody else's answer: {said}")
        if world.answered.setdefault(text, body) != body:
            world.complaints.append(f"{text}: the answer has changed")
    elif response.status_code < 400 or set(body.get("error", ())) != {"message", "type", "param", "code"}:
        world.complaints.append(f"{text}: neither an answer nor an error: {response.status_code} {body}")
    elif body["error"]["code"] not in {"storage_full", "storage_failed", "stopping"}:
        world.complaints.append(f"{text}: an error that says nothing of the disk: {body}")


async def look(world: World, http: httpx2.AsyncClient, text: str) -> None:
    """Wait for what was accepted, as long as this life lasts."""
    while text in world.accepted and text not in world.answered:
        response = await http.get(world.accepted[text])
        if response.status_code != 202:
            heard(world, text, response)
        await asyncio.sleep(0.02)


async def first_life(world: World, seconds: float) -> None:
    """On the failing disk: whatever happens is said clearly, and nothing hangs."""
    try:
        async with a_life(world) as http:
            asked = [ask(world, http, text, prefer="respond-async") for text in DETACHED]
            waiting = [asyncio.ensure_future(ask(world, http, text)) for text in WAITING]
            await asyncio.gather(*asked)
            looking = [asyncio.ensure_future(look(world, http, text)) for text in DETACHED]
            await asyncio.wait([*waiting, *looking], timeout=seconds)
            for each in looking:
                each.cancel()
            left = asyncio.gather(*waiting, *looking, return_exceptions=True)
            await asyncio.sleep(0)
        for outcome in await left:
            if isinstance(outcome, Exception):
                world.complaints.append(repr(outcome))
    except LedgerError as error:
        if not str(error).strip():
            world.complaints.append("it did not start, and did not say why")


async def second_life(world: World) -> None:
    """On a disk that is well: everybody gets an answer, and who had one gets it again."""
    async with a_life(world) as http, asyncio.timeout(SECOND_SECONDS):
        before = dict(world.answered)
        world.answered.clear()
        known = [text for text in DETACHED if text in world.accepted]
        others = [text for text in (*WAITING, *DETACHED) if text not in known]
        retry = {"x-stainless-retry-count": "1"}
        await asyncio.gather(
            *(look(world, http, text) for text in known), *(ask(world, http, text, **retry) for text in others)
        )
        for text in (*WAITING, *DETACHED):
            if text not in world.answered:
                world.complaints.append(f"{text}: no answer on a disk that is well")
            elif before.get(text, world.answered[text]) != world.answered[text]:
                world.complaints.append(f"{text}: the answer has changed")


async def lives(directory: Path, disk: Disk, fault: Fault) -> str:
    """Both lives, and what is left of them; returns what did not hold."""
    clock = FastClock()
    data = directory / "data"
    data.mkdir(mode=0o700)
    simulator = OpenAISimulator(clock=SystemClock(), name="sim", settings=QUICK, directory=directory / "provider")
    async with SandboxServer([simulator]) as server:
        url = server.base_url(simulator)
        world = World(directory=data, simulator=simulator, provider_url=url, clock=clock)
        disk.arm(fault)
        await first_life(world, FULL_SECONDS if fault.manner == "full" else FIRST_SECONDS)
        struck = disk.disarm()
        await second_life(world)
        repeated = (await simulator.submissions()).repeated
        if repeated:
            world.complaints.append(f"asked twice: {repeated}")
    with closing(sqlite3.connect(data / FILE_NAME)) as connection:
        sound = connection.execute("PRAGMA integrity_check").fetchall()
    if sound != [("ok",)]:
        world.complaints.append(f"the ledger is damaged: {sound}")
    return "; ".join(world.complaints) if struck[0] else "nothing was counted"


def prepare() -> None:
    """Load before the fork, once, whatever a life loads; no thread may have been started by then."""
    with tempfile.TemporaryDirectory() as place:
        world = World(directory=Path(place), simulator=None, provider_url="http://127.0.0.1:1", clock=FastClock())  # type: ignore[arg-type]
        router = world.router()
        router.warm()
        assert router.providers["sim"].instance is not None
    httpx2.AsyncClient(verify=False)


def whole_life(directory: Path, disk: Disk, fault: Fault) -> str:
    """A scenario for `forge.sweep`."""
    quietly(directory / "log")
    return asyncio.run(lives(directory, disk, fault))


def quietly(path: Path) -> None:
    """Let the log go to a file, and what libraries say of connections that break."""
    log = path.open("w")
    os.dup2(log.fileno(), 2)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(log))
