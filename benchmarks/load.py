"""The load generator: raw HTTP/1.1 over asyncio, cheap, and the same for floor and gateway.

start, mark, stop     callers in a closed loop: each sends its next request when its answer is there
open, send, answers   one request on each of many connections, and later the answer to each
"""

from __future__ import annotations

import asyncio
import sys
import time
from array import array
from collections.abc import Callable, Mapping
from typing import cast

from benchmarks.bodies import KILOBYTE, Bodies
from benchmarks.servants import Command, serve

#: Connections that are made at the same time.
CONNECT_AT_ONCE = 200
PATH = "/v1/chat/completions"
_LAST_CHUNK = b"\r\n0\r\n\r\n"


class Caller(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    __slots__ = ("answered", "buffer", "expected", "lost", "sent_at", "transport")

    def __init__(self, answered: Callable[[Caller, bool], None]) -> None:
        self.answered = answered
        self.buffer = b""
        self.expected = b""
        self.lost = False
        self.sent_at = 0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to write."""
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """An answer that was waited for does not come any more."""
        self.lost = True
        if self.sent_at:
            self.answered(self, False)  # noqa: FBT003

    def send(self, request: bytes, expected: bytes) -> None:
        """Send a request whose answer must hold `expected`."""
        self.buffer = b""
        self.expected = expected
        self.sent_at = time.perf_counter_ns()
        assert self.transport is not None
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Tell of a whole answer."""
        answer = self.buffer + data if self.buffer else data
        if not _is_whole(answer):
            self.buffer = answer
            return
        self.buffer = b""
        if not self.sent_at:
            return
        self.answered(self, answer.startswith(b"HTTP/1.1 20") and self.expected in answer)


def _is_whole(answer: bytes) -> bool:
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return False
    at = answer.find(b"Content-Length: ", 0, end)
    if at < 0:
        return answer.endswith(_LAST_CHUNK)
    stop = answer.find(b"\r\n", at)
    return len(answer) - end - 4 >= int(answer[at + 16 : stop])


class Loops:
    """Callers in closed loops."""

    def __init__(self) -> None:
        self._callers: list[Caller] = []
        self._running = False

    async def start(
        self,
        *,
        port: int,
        connections: int,
        tag: str,
        vary: bool,
        headers: Mapping[str, str],
        pause_ms: float = 0.0,
        method: str = "POST",
        path: str = PATH,
        most: int = sys.maxsize,
    ) -> dict[str, float]:
        """Begin: all send the same body, or each request another one (`vary`); `most` requests in all."""
        self._left = most
        self._bodies, self._vary, self._pause = Bodies(tag=tag), vary, pause_ms / 1000
        self._head = _head(port, method, path, headers, KILOBYTE if method == "POST" else 0)
        self._method = method
        self._next = 0
        self._fixed = self._request()
        self._running = True
        self._reset()
        self._callers = await _connect(port, connections, self._answered)
        for caller in self._callers:
            self._send(caller)
        return {}

    async def mark(self) -> dict[str, float]:
        """Count from now on."""
        self._reset()
        return {}

    async def stop(self) -> dict[str, float]:
        """End; what was measured since the mark."""
        seconds = time.perf_counter() - self._since
        self._running = False
        times = sorted(self._times)
        for caller in self._callers:
            caller.sent_at = 0
            if caller.transport is not None:
                caller.transport.abort()
        await asyncio.sleep(0)
        return {
            "requests": len(times),
            "per_second": len(times) / seconds,
            "wrong": self._wrong,
            "p50_ms": _quantile(times, 0.50),
            "p99_ms": _quantile(times, 0.99),
            "max_ms": _quantile(times, 1.0),
        }

    def _reset(self) -> None:
        self._times: array[int] = array("Q")
        self._wrong = 0
        self._since = time.perf_counter()

    def _request(self) -> bytes:
        if self._method != "POST":
            return self._head
        return self._head + self._bodies.of(self._next)

    def _send(self, caller: Caller) -> None:
        if not self._left or not self._running or caller.lost:
            caller.sent_at = 0
            return
        self._left -= 1
        if self._vary:
            self._next += 1
        caller.send(self._request() if self._vary else self._fixed, b"")

    def _answered(self, caller: Caller, right: bool) -> None:  # noqa: FBT001 - a callback's argument
        if not self._running:
            return
        self._times.append(time.perf_counter_ns() - caller.sent_at)
        self._wrong += not right
        if caller.lost:
            caller.sent_at = 0
        elif self._pause:
            asyncio.get_running_loop().call_later(self._pause, self._send, caller)
        else:
            self._send(caller)


class Crowd:
    """One request on each of many connections, all at once."""

    def __init__(self) -> None:
        self._callers: list[Caller] = []

    async def open(self, port: int, count: int) -> dict[str, float]:
        """Connect."""
        self._port = port
        self._callers = await _connect(port, count, self._answered)
        return {}

    async def send(
        self, tag: str, headers: Mapping[str, str], size: int = KILOBYTE, path: str = PATH
    ) -> dict[str, float]:
        """Send every caller's own request, all at once; the clock of `answers` starts here."""
        self._waiting = len(self._callers)
        self._right = 0
        self._done = asyncio.Event()
        bodies, head = Bodies(tag=tag, size=size), _head(self._port, "POST", path, headers, size)
        self._began = time.perf_counter()
        for number, caller in enumerate(self._callers):
            caller.send(head + bodies.of(number), bodies.name(number))
            if size > KILOBYTE and number % 20 == 0:
                await asyncio.sleep(0)
        return {}

    async def answers(self, seconds: float = 120.0) -> dict[str, float]:
        """Wait until every caller has its answer; from the first request sent to the last answer read."""
        async with asyncio.timeout(seconds):
            await self._done.wait()
        return {"seconds": self._last - self._began, "right": self._right, "wrong": len(self._callers) - self._right}

    async def close(self) -> dict[str, float]:
        """Hang up."""
        for caller in self._callers:
            caller.sent_at = 0
            if caller.transport is not None:
                caller.transport.abort()
        self._callers = []
        await asyncio.sleep(0.05)
        return {}

    def _answered(self, caller: Caller, right: bool) -> None:  # noqa: FBT001 - a callback's argument
        caller.sent_at = 0
        self._waiting -= 1
        self._right += right
        if not self._waiting:
            self._last = time.perf_counter()
            self._done.set()


async def _connect(port: int, count: int, answered: Callable[[Caller, bool], None]) -> list[Caller]:
    loop = asyncio.get_running_loop()
    callers: list[Caller] = []
    while len(callers) < count:
        share = min(CONNECT_AT_ONCE, count - len(callers))
        made = await asyncio.gather(
            *(loop.create_connection(lambda: Caller(answered), "127.0.0.1", port) for _ in range(share))
        )
        callers += [caller for _, caller in made]
    return callers


def _head(port: int, method: str, path: str, headers: Mapping[str, str], size: int) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    if method == "POST":
        lines += ["Content-Type: application/json", f"Content-Length: {size}"]
    lines += [f"{name}: {text}" for name, text in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _quantile(ordered: list[int], share: float) -> float:
    """In milliseconds."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] / 1e6 if ordered else 0.0


async def _commands() -> Mapping[str, Command]:
    loops, crowd = Loops(), Crowd()
    return {
        "start": loops.start, "mark": loops.mark, "stop": loops.stop,
        "open": crowd.open, "send": crowd.send, "answers": crowd.answers, "close": crowd.close,
    }  # fmt: skip


if __name__ == "__main__":
    serve(_commands)
