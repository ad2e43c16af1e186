"""A whole gateway on a clock that is turned by hand, in front of a provider in memory; and a caller with a raw socket."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import orjson

from gateway.app import Gateway
from gateway.config import Configuration, ProviderTable, Route, Server, Storage
from gateway.listening import listen
from gateway.prices import Prices
from gateway.records import RequestState
from gateway.routing import Router, build_router
from gateway.store.rows import Ending
from gateway.store.sqlite import SqliteDatabase
from gateway.testing import FakeClock, FakeProvider, FakeRemote

CHAT = "/v1/chat/completions"
#: A hang, not a slow test, is what this ends.
PATIENCE_SECONDS = 20.0
#: As short as a grace gets: half a second.
HURRIED = {"x-stainless-read-timeout": "0.6"}


def ending_of(text: str = "hi", status: int = 200) -> Ending:
    """A completion that says `text`, or a failure."""
    message = {"role": "assistant", "content": text}
    body: dict[str, object] = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "id": "x"}
    if status == 200:
        return Ending(state=RequestState.SUCCEEDED, status=200, code=None, body=orjson.dumps(body), provider="fake")
    error = {"message": text, "type": "invalid_request_error", "param": None, "code": "provider_refused"}
    return Ending(
        state=RequestState.FAILED,
        status=status,
        code="provider_refused",
        body=orjson.dumps({"error": error}),
        provider="fake",
    )


@dataclass(frozen=True, kw_only=True)
class House:
    """One running gateway."""

    gateway: Gateway
    clock: FakeClock
    remote: FakeRemote
    port: int
    callers: list[Caller] = field(default_factory=list)

    async def caller(self) -> Caller:
        """A new connection; closed with the house."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 24)
        self.callers.append(Caller(reader=reader, writer=writer))
        return self.callers[-1]

    async def exchange(self, request: bytes) -> Answer:
        """Send these bytes on a connection of their own, and read one response."""
        caller = await self.caller()
        try:
            await caller.send(request)
            return await caller.answer()
        finally:
            await caller.close()

    async def waiting(self, count: int = 1) -> list[int]:
        """The requests that callers wait for, once there are so many callers."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.gateway.waiters) < count:
                await asyncio.sleep(0.005)
        return [request.seq for request in await self.gateway.ledger.requests.listed(None) if not request.state.ended]

    async def walk(self, seconds: float = 600.0) -> None:
        """Turn the clock, second by second, until nobody waits any more; threads and sockets get their time in between."""
        end = self.clock.monotonic() + seconds
        while len(self.gateway.waiters):
            assert self.clock.monotonic() < end, "somebody still waits"
            await self.clock.advance(0.5)
            await asyncio.sleep(0.005)

    async def left(self) -> None:
        """Return when no caller waits any more."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.gateway.waiters):
                await asyncio.sleep(0.005)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One response as it came over the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    #: Whether the response came to its orderly end.
    whole: bool
    version: str = "HTTP/1.1"

    @property
    def code(self) -> str:
        """The error's code; the error object is checked on the way."""
        error: dict[str, str] = orjson.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error["code"]


@dataclass(frozen=True, kw_only=True)
class Caller:
    """One end of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, content: bytes) -> None:
        """Send these bytes as they are."""
        self.writer.write(content)
        await self.writer.drain()

    async def head(self) -> tuple[str, int, dict[str, str]]:
        """Version, status and headers (lower case) of the next response."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            raw = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode().split("\r\n")[:-2]
        version, status, _ = first.split(" ", 2)
        pairs = [line.split(": ", 1) for line in lines]
        return version, int(status), {name.lower(): value for name, value in pairs}

    async def chunk(self) -> bytes | None:
        """The next chunk; b"" is the last one, None a connection that was cut."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                size = int(await self.reader.readuntil(b"\r\n"), 16)
                return (await self.reader.readexactly(size + 2))[:-2]
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def answer(self) -> Answer:
        """One whole response; one that was cut says so."""
        version, status, headers = await self.head()
        body, whole = await self.rest(headers)
        return Answer(status=status, headers=headers, body=body, whole=whole, version=version)

    async def rest(self, headers: Mapping[str, str]) -> tuple[bytes, bool]:
        """The body of a response whose head has been read, and whether it is whole."""
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while chunk := await self.chunk():
                body += chunk
            return body, chunk == b""
        async with asyncio.timeout(PATIENCE_SECONDS):
            if "content-length" in headers:
                return await self.reader.readexactly(int(headers["content-length"])), True
            return await self.reader.read(), True

    async def gone(self) -> bytes:
        """What comes until the other side closes."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await self.reader.read()
        except ConnectionError:
            return b""

    async def close(self) -> None:
        """Hang up."""
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


def request_bytes(
    method: str = "POST",
    target: str = CHAT,
    *,
    body: bytes | None = None,
    version: str = "HTTP/1.1",
    host: str | None = "localhost",
    headers: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """A request as it goes over the wire; `host` None leaves the header out."""
    lines = [f"{method} {target} {version}"]
    if host is not None:
        lines.append(f"Host: {host}")
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape") + (body or b"")


def question(text: str = "hello", **fields: object) -> bytes:
    """A chat completion's body."""
    return orjson.dumps({"model": "fake-model", "messages": [{"role": "user", "content": text}], **fields})


@asynccontextmanager
async def open_house(directory: Path, remote: FakeRemote | None = None, **sections: object) -> AsyncIterator[House]:
    """Start a gateway and stop it again; its workers stand still until the clock is turned."""
    clock = FakeClock()
    remote = remote or FakeRemote(clock=clock)
    table = ProviderTable(name="fake", kind="fake", settings={"api_key": "fake-key", "remote": remote})
    configuration = dataclasses.replace(
        Configuration(
            server=Server(port=0),
            storage=Storage(directory=directory),
            providers=MappingProxyType({"fake": table}),
            routes=(Route(model="fake-*", provider="fake"),),
        ),
        **sections,  # type: ignore[arg-type]
    )
    faults: list[str] = []
    gateway = Gateway(
        configuration, router_of(configuration, clock, directory), SqliteDatabase.open(directory), clock,
        fail=lambda: faults.append("a worker died"),
    )  # fmt: skip
    listener = listen("127.0.0.1", 0)
    await gateway.start(listener)
    house = House(gateway=gateway, clock=clock, remote=remote, port=listener.getsockname()[1])
    try:
        yield house
    finally:
        await gateway.stop()
        for caller in house.callers:
            await caller.close()
    assert not faults


def router_of(configuration: Configuration, clock: FakeClock, directory: Path) -> Router:
    """Routes to the provider in memory."""
    return build_router(
        configuration, {"fake": FakeProvider}, clock=clock, directory=directory / "providers", prices=Prices(clock)
    )
