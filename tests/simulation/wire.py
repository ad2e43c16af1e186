"""HTTP between a caller and the real front door, over transports in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from tests.simulation.loop import SimulatedLoop


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a caller got. Status 0: the connection was cut before any of it."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    #: It came to its orderly end.
    whole: bool = False

    @property
    def custom_id(self) -> str | None:
        """The name of the request that was accepted."""
        return self.headers.get("x-batchway-custom-id")

    @property
    def final(self) -> bool:
        """Whether asking again would be told the same."""
        answered = self.status == 200 or self.headers.get("x-should-retry") == "false"
        return self.whole and self.status != 202 and answered

    def json(self) -> dict[str, object]:
        """The body as an object."""
        content = orjson.loads(self.body)
        assert isinstance(content, dict)
        return content


class Wire(asyncio.Transport):
    """One connection."""

    def __init__(self, loop: SimulatedLoop, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self._closed = False
        self.received = bytearray()
        self.news = asyncio.Event()

    def get_extra_info(self, name: str, default: object = None) -> object:
        """An address of this machine."""
        return ("127.0.0.1", 4711) if name == "peername" else default

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """To the caller."""
        if not self._closed:
            self.received += chunk
            self.news.set()

    def close(self) -> None:
        """Nothing more is said."""
        if not self._closed:
            self._closed = True
            self.news.set()
            self._loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        """As `close`: nothing is buffered."""
        self.close()

    def is_closing(self) -> bool:
        """Whether it has been closed."""
        return self._closed

    def get_write_buffer_size(self) -> int:
        """Nothing is buffered."""
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is buffered."""

    def pause_reading(self) -> None:
        """Callers say everything at once."""

    def resume_reading(self) -> None:
        """Callers say everything at once."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Never changes."""

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The server's."""
        return self._protocol


class Connection:
    """A caller's end of a `Wire`: one request, one reply."""

    def __init__(self, loop: SimulatedLoop, protocol: asyncio.Protocol) -> None:
        self._wire = Wire(loop, protocol)
        self._protocol = protocol
        protocol.connection_made(self._wire)

    async def ask(self, method: str, path: str, headers: Mapping[str, str], body: object = None) -> Reply:
        """Send a request; return what came of it."""
        content = b"" if body is None else orjson.dumps(body)
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *(f"{name}: {text}" for name, text in headers.items())]
        if content:
            lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
        self._protocol.data_received("\r\n".join([*lines, "", ""]).encode() + content)
        while True:
            reply = self.so_far()
            if reply.whole or self._wire.is_closing():
                self.hang_up()
                return reply
            self._wire.news.clear()
            await self._wire.news.wait()

    def hang_up(self) -> None:
        """Go away."""
        self._wire.close()

    def so_far(self) -> Reply:
        """As much as has come."""
        head, found, rest = bytes(self._wire.received).partition(b"\r\n\r\n")
        if not found:
            return Reply()
        first, *others = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): text.strip() for name, _, text in (line.partition(":") for line in others)}
        status = int(first.split()[1])
        if headers.get("transfer-encoding") == "chunked":
            body, whole = _chunks(rest)
        else:
            size = int(headers.get("content-length", "0"))
            body, whole = rest[:size], len(rest) >= size
        return Reply(status=status, headers=headers, body=body, whole=whole)


def _chunks(rest: bytes) -> tuple[bytes, bool]:
    body = b""
    while True:
        size, found, rest = rest.partition(b"\r\n")
        if not found:
            return body, False
        length = int(size, 16)
        if length == 0:
            return body, True
        if len(rest) < length + 2:
            return body + rest[:length], False
        body, rest = body + rest[:length], rest[length + 2 :]
