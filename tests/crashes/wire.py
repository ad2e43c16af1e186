"""Crash points between the requests of one call: the provider, which outlives the gateway, kills it while it waits.

`http.upload.1:heard`: a request of the first path that uploads has come, and nothing was done. `http.upload.1:done`: the
provider did what it was asked for, and has not answered. A path is a step: what a plugin sends has its points by itself.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from aiohttp import web

from gateway.sandbox import Route, Simulator
from tests.crashes.points import WIRE, Point

_PROCESS = struct.Struct("q")


class Victim:
    """The gateway that lives now, known to its provider by memory that forked processes share."""

    def __init__(self) -> None:
        """Make it before forking."""
        self._memory = mmap.mmap(-1, _PROCESS.size)

    def become(self) -> None:
        """This process is the gateway now."""
        self._memory[:] = _PROCESS.pack(os.getpid())

    def kill(self) -> None:
        """As the system does it when memory runs out: between any two steps, without a word."""
        (process,) = _PROCESS.unpack(self._memory)
        os.kill(process, signal.SIGKILL)


class Wire:
    """Counts the points that one gateway comes by at its provider, and kills it at the one that was ordered."""

    def __init__(self, victim: Victim) -> None:
        """Nobody is aimed at."""
        self._victim = victim
        self.aim(None)

    def aim(self, target: Point | None) -> None:
        """For the next life; `passed` begins anew."""
        self._target = target
        self._turns: Counter[str] = Counter()
        self.passed: list[Point] = []

    def watched(self, kind: type[Simulator]) -> type[Simulator]:
        """The simulator with two points at each of its paths."""

        def routes(simulator: Simulator) -> Iterator[Route]:
            steps: Counter[str] = Counter()
            for route in kind.routes(simulator):
                # Paths without an operation are asked for all the same.
                operation = route.operation or "other"
                steps[operation] += 1
                yield self._watched(route, f"{WIRE}.{operation}.{steps[operation]}")

        return type(kind.__name__, (kind,), {"routes": routes})

    def _watched(self, route: Route, step: str) -> Route:
        async def answer(request: web.Request) -> web.StreamResponse:
            if self._strikes(f"{step}:heard"):
                return _silence(request)
            response = await route.answer(request)
            # What is sent while it is read changes nothing at the provider, and has been answered by now.
            if not response.prepared and self._strikes(f"{step}:done"):
                return _silence(request)
            return response

        return replace(route, answer=answer)

    def _strikes(self, name: str) -> bool:
        self._turns[name] += 1
        point = Point(name=name, turn=self._turns[name])
        self.passed.append(point)
        if point != self._target:
            return False
        self._victim.kill()
        return True


def _silence(request: web.Request) -> web.Response:
    """Nobody is there to hear an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)
