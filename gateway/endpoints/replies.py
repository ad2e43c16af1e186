"""Ways of keeping a caller waiting: blanks before JSON, chunks of a stream, or silence.

What is known within the grace goes out whole, with its true status (`plain`). After it the caller gets one of these;
each has begin, beat, finish and fail. Real clients were measured: JSON parsers skip leading white space, and timeouts
count silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Protocol

import orjson
from aiohttp import web
from multidict import CIMultiDict

from gateway.endpoints.events import DONE, Thread, error_event
from gateway.errors import ENDINGS, Rule
from gateway.store.rows import Ending

#: One space as a chunk of HTTP/1.1's chunked encoding.
_BLANK = b"1\r\n \r\n"
#: A caller that has not read this much is given no more beats.
_UNREAD_AT_MOST = 65_536
_NO_BUFFERING = {"cache-control": "no-store, no-transform", "x-accel-buffering": "no"}
_FAILED = Rule(status=500, type="server_error", should_retry=False, when="")


class Reply(Protocol):
    """One way of keeping a caller waiting."""

    async def begin(self) -> None:
        """Say something, so that the caller goes on waiting."""
        ...

    def beat(self) -> None:
        """A sign of life; never waits for the caller to read."""
        ...

    async def finish(self, ending: Ending, headers: Mapping[str, str]) -> bool:
        """Deliver an answer; whether the caller got it whole."""
        ...

    async def fail(self, ending: Ending, headers: Mapping[str, str]) -> bool:
        """Deliver a failure; whether the caller was told what it was."""
        ...

    def abort(self) -> None:
        """Cut the connection: the caller must not take what it has for an answer."""
        ...

    @property
    def response(self) -> web.StreamResponse:
        """What the handler returns."""
        ...


async def plain(request: web.Request, ending: Ending, headers: Mapping[str, str]) -> web.StreamResponse:
    """The whole ending with its true status; returns once it is written."""
    response = web.Response(
        status=ending.status, body=ending.body, content_type="application/json", headers={**headers, **_retry(ending)}
    )
    await response.prepare(request)
    await response.write_eof()
    return response


async def replayed(
    request: web.Request, thread: Thread, ending: Ending, headers: Mapping[str, str]
) -> web.StreamResponse:
    """A whole answer as a stream; returns once it is written. Without chunks, so for HTTP/1.0 callers too."""
    events = b"".join((thread.opening(), *thread.replay(orjson.loads(ending.body))))
    response = web.Response(body=events, headers={**headers, **_NO_BUFFERING, "content-type": "text/event-stream"})
    await response.prepare(request)
    await response.write_eof()
    return response


def ending_headers(ending: Ending) -> dict[str, str]:
    """What is known of an ended request: its batch and its money, where the price is known."""
    headers = {}
    if ending.batch is not None:
        headers["x-batchway-batch-id"] = str(ending.batch)
    if ending.cost_usd is not None:
        headers["x-batchway-cost-usd"] = f"{ending.cost_usd:.9f}"
    if ending.saved_usd is not None:
        headers["x-batchway-saved-usd"] = f"{ending.saved_usd:.9f}"
    return headers


class Silent:
    """For HTTP/1.0 callers, who know no chunks: nothing until the true status."""

    def __init__(self, request: web.Request, thread: Thread | None) -> None:
        """Nothing is sent. `thread`: the caller wants a stream, and would read plain JSON as an empty one."""
        self._request = request
        self._thread = thread
        self.response: web.StreamResponse = web.Response()

    async def begin(self) -> None:
        """Nothing."""

    def beat(self) -> None:
        """Nothing."""

    async def finish(self, ending: Ending, headers: Mapping[str, str]) -> bool:
        """The answer, whole."""
        if self._thread is None:
            self.response = await plain(self._request, ending, headers)
        else:
            self.response = await replayed(self._request, self._thread, ending, headers)
        return True

    async def fail(self, ending: Ending, headers: Mapping[str, str]) -> bool:
        """The failure, with its true status."""
        self.response = await plain(self._request, ending, headers)
        return True

    def abort(self) -> None:
        """Cut the connection."""
        _cut(self._request)


class Blanks:
    """A 200 with white space before the JSON."""

    def __init__(self, request: web.Request, headers: Mapping[str, str]) -> None:
        """Nothing is sent until `begin`."""
        self._request = request
        self.response = _chunked("application/json", headers)

    async def begin(self) -> None:
        """Status, headers and the first blank."""
        await self.response.prepare(self._request)
        await self.response.write(b" ")

    def beat(self) -> None:
        """One more blank."""
        _write(self._request.transport, _BLANK)

    async def finish(self, ending: Ending, headers: Mapping[str, str]) -> bool:
        """The JSON in one piece, and the orderly end."""
        await self.response.write_eof(ending.body)
        return True

    async def fail(self, ending: Ending, headers: Mapping[str, str]) -> bool:
        """Cut the connection without the last chunk: an error object in a 200 would be taken for an answer.

        The caller's retry gets the stored ending with its true status.
        """
        self.abort()
        return False

    def abort(self) -> None:
        """Cut the connection."""
        _cut(self._request)


class Events:
    """A stream whose heartbeats are chunks of content without content."""

    def __init__(self, request: web.Request, thread: Thread, headers: Mapping[str, str]) -> None:
        """Nothing is sent until `begin`."""
        self._request = request
        self._thread = thread
        self.response = _chunked("text/event-stream", headers)

    async def begin(self) -> None:
        """Status, headers and the opening event."""
        await self.response.prepare(self._request)
        await self.response.write(self._thread.opening())

    def beat(self) -> None:
        """One chunk of nothing."""
        event = self._thread.beat()
        _write(self._request.transport, b"%x\r\n%b\r\n" % (len(event), event))

    async def finish(self, ending: Ending, headers: Mapping[str, str]) -> bool:
        """The completion told again, and the orderly end."""
        await self._close(self._thread.replay(orjson.loads(ending.body)))
        return True

    async def fail(self, ending: Ending, headers: Mapping[str, str]) -> bool:
        """The failure as an event: a cut stream would hide it, and is never tried again by clients."""
        await self._close((error_event(ending.body), DONE))
        return True

    async def _close(self, events: Iterable[bytes]) -> None:
        await self.response.write_eof(b"".join(events))

    def abort(self) -> None:
        """Cut the connection."""
        _cut(self._request)


def _chunked(content_type: str, headers: Mapping[str, str]) -> web.StreamResponse:
    response = web.StreamResponse(
        status=200, headers=CIMultiDict({**headers, **_NO_BUFFERING, "content-type": content_type})
    )
    response.enable_chunked_encoding()
    return response


def _retry(ending: Ending) -> Mapping[str, str]:
    """Whether the caller's client should try a failure again: it never helps, the gateway has tried already."""
    if ending.code is None and ending.status == 200:
        return {}
    should_retry = ENDINGS.get(ending.code or "", _FAILED).should_retry
    return {} if should_retry is None else {"x-should-retry": "true" if should_retry else "false"}


def _write(transport: asyncio.Transport | None, chunk: bytes) -> None:
    """Put bytes on the wire without waiting; nothing for a caller that is gone or does not read."""
    if transport is None or transport.is_closing() or transport.get_write_buffer_size() > _UNREAD_AT_MOST:
        return
    transport.write(chunk)


def _cut(request: web.Request) -> None:
    transport = request.transport
    if transport is not None:
        transport.abort()
