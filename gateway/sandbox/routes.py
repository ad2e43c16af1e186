"""One path of a simulated API, as a subclass of `Simulator` gives it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from gateway.sandbox.faults import Operation

Answerer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One path of a simulated API; `path` as aiohttp writes it, below the simulator's prefix."""

    method: str
    path: str
    answer: Answerer
    #: None: not counted, and no faults.
    operation: Operation | None = None


def bearer_key(request: web.Request) -> str:
    """The key in the `Authorization` header; empty where there is none, or one of another scheme."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key if scheme.lower() == "bearer" else ""
