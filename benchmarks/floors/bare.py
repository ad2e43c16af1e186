"""The bare aiohttp server: a 1 KB JSON body parsed with orjson and answered, at once or when told.

The floor of everything over HTTP: what aiohttp and uvloop cost with nothing behind them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import orjson
from aiohttp import web

from benchmarks.bodies import DIGITS
from benchmarks.servants import Command, serve


class Bare:
    """Answers with as many bytes as a completion has; `/hold` answers nobody until told."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()
        self.port = 0

    async def start(self) -> None:
        """Listen on a port of the system's choice."""
        app = web.Application(client_max_size=1 << 25)
        app.router.add_post("/v1/chat/completions", self.post)
        app.router.add_post("/hold", self.hold)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
        await site.start()
        self.port = runner.addresses[0][1]

    async def post(self, request: web.Request) -> web.Response:
        """At once."""
        body = orjson.loads(await request.read())
        return _answer(body["messages"][0]["content"])

    async def hold(self, request: web.Request) -> web.Response:
        """When told."""
        body = orjson.loads(await request.read())
        name = str(body["messages"][0]["content"])[: DIGITS + 64]
        del body
        request._read_bytes = None  # noqa: SLF001 - as the gateway does
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)
        return _answer(name)

    async def ready(self) -> dict[str, float]:
        """Where it listens."""
        return {"port": self.port}

    async def waiting(self) -> dict[str, float]:
        """How many are held."""
        return {"count": len(self._waiting)}

    async def release(self) -> dict[str, float]:
        """Answer all that are held."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        return {}


def _answer(content: str) -> web.Response:
    return web.Response(body=_COMPLETION % content[:80].encode(), content_type="application/json")


_COMPLETION = (
    b'{"id":"chatcmpl-0","object":"chat.completion","created":1700000000,"model":"sim-small","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"You said: %b' + b"." * 300 + b'","refusal":null},"logprobs":null,'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":250,"completion_tokens":100,"total_tokens":350}}'
)


async def _commands() -> Mapping[str, Command]:
    bare = Bare()
    await bare.start()
    return {"ready": bare.ready, "waiting": bare.waiting, "release": bare.release}


if __name__ == "__main__":
    serve(_commands)
