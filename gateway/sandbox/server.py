"""One HTTP server for one or several simulators, each under its own prefix: a real socket, spoken to by real SDKs.

async with SandboxServer([simulator], port=0) as server:
    client = AsyncOpenAI(base_url=server.base_url(simulator), api_key="sandbox")
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from aiohttp import web

from gateway.sandbox.control import Control
from gateway.sandbox.guard import guarded
from gateway.sandbox.simulator import Simulator

#: No limit of its own: the simulators enforce their providers' limits.
_NO_LIMIT = 0
_BACKLOG = 4096


class SandboxServer:
    """Serves simulators between `start` and `stop`; can be started again, on another port if that was 0."""

    def __init__(self, simulators: Sequence[Simulator], host: str = "127.0.0.1", port: int = 0) -> None:
        """Names of simulators must differ: they are the prefixes. Port 0: the system picks one."""
        names = [simulator.name for simulator in simulators]
        if len(set(names)) != len(names):
            raise ValueError(f"two simulators of one name: {', '.join(sorted(names))}")
        self._simulators = simulators
        self._host = host
        self._port = port
        self._runner: web.AppRunner | None = None
        self.port = port

    def url(self, simulator: Simulator) -> str:
        """The prefix of one simulator: its API is below it, its control API at `/_sandbox/` below it."""
        return f"http://{self._host}:{self.port}/{simulator.name}"

    def base_url(self, simulator: Simulator) -> str:
        """What the SDK of the simulator's kind takes as its base URL."""
        return self.url(simulator) + simulator.base_path

    async def start(self) -> None:
        """Bind and serve; `port` is known then."""
        runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        site = web.TCPSite(runner, self._host, self._port, backlog=_BACKLOG)
        try:
            await site.start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self.port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Close all connections. State stays with the simulators."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        for simulator in self._simulators:
            simulator.ledger.save()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=_NO_LIMIT)
        app.router.add_get("/", self._index)
        for simulator in self._simulators:
            prefix = f"/{simulator.name}"
            for route in (*simulator.routes(), *Control(simulator).routes()):
                app.router.add_route(route.method, prefix + route.path, guarded(simulator, route))
            app.router.add_route("*", prefix + "/{rest:.*}", _Lost(simulator).answer)
        return app

    async def _index(self, _request: web.Request) -> web.Response:
        """What is served here, for a person with a browser."""
        lines = [f"{simulator.kind}: {self.base_url(simulator)}" for simulator in self._simulators]
        return web.Response(text="Simulated providers\n" + "\n".join(lines) + "\n")


class _Lost:
    """The answer to paths that the simulated API does not have."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    async def answer(self, request: web.Request) -> web.Response:
        """404 in the provider's own form."""
        message = f"Invalid URL ({request.method} {request.path})"
        return self._simulator.refuse(404, message, code="unknown_url")
