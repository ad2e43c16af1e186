"""Servers that answer as they are told, for what no simulator says: pages of a proxy, redirects, nonsense, nothing at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: What is still being answered when a server stops gets this long.
_SHUTDOWN_SECONDS = 0.1


@asynccontextmanager
async def served(answer: Answer | web.Application) -> AsyncIterator[str]:
    """The address, without a path, of a server that answers everything by `answer`, or as this application does."""
    if isinstance(answer, web.Application):
        app = answer
    else:
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def saying(text: str, *, status: int = 200, content_type: str = "application/json") -> AbstractAsyncContextManager[str]:
    """The address, without a path, of a server that says `text` to everything, when it has read it."""

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=status, text=text, content_type=content_type)

    return served(answer)


@asynccontextmanager
async def deaf() -> AsyncIterator[str]:
    """The address, without a path, of a server that takes every connection, and neither reads nor answers."""
    connections: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: connections.append(writer), "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        for writer in connections:
            writer.close()
        server.close()
