"""The control API beside a simulated API: `/NAME/_sandbox/...`, for tests and rehearsals in other processes.

Not part of any provider's API. Needs no key; a web page (a request with an `Origin`) is turned away.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import msgspec
import orjson
from aiohttp import web

from gateway.sandbox.faults import Fault
from gateway.sandbox.lifecycle import life
from gateway.sandbox.routes import Route
from gateway.sandbox.settings import SandboxSettings
from gateway.sandbox.simulator import Simulator

#: Lines of the ledger in one write to the socket.
_CHUNK = 500


class Control:
    """The control API of one simulator."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def routes(self) -> Iterator[Route]:
        """Every path, below the simulator's prefix."""
        table: list[tuple[str, str, Callable[[web.Request], Awaitable[web.StreamResponse]]]] = [
            ("GET", "/_sandbox/state", self.state),
            ("GET", "/_sandbox/ledger", self.ledger),
            ("GET", "/_sandbox/ledger/lines", self.lines),
            ("GET", "/_sandbox/faults", self.faults),
            ("POST", "/_sandbox/faults", self.order),
            ("DELETE", "/_sandbox/faults", self.clear),
            ("PATCH", "/_sandbox/settings", self.set),
            ("POST", "/_sandbox/reset", self.reset),
            ("POST", "/_sandbox/batches/{batch_id}/finish", self.finish),
            ("POST", "/_sandbox/batches/{batch_id}/cancel", self.cancel),
        ]
        for method, path, answer in table:
            yield Route(method=method, path=path, answer=_not_from_browsers(answer))

    async def state(self, _request: web.Request) -> web.Response:
        """Settings, counts of calls, and every batch with its stage."""
        simulator = self._simulator
        now = simulator.clock.now()
        batches = [
            {
                "id": batch.id,
                "stage": life(batch, now).stage,
                "created": batch.created,
                "total": batch.total if batch.checked else None,
                "metadata": batch.metadata,
                "results": batch.results,
            }
            for batch in simulator.store.batches.values()
        ]
        return _json(
            {
                "kind": simulator.kind,
                "name": simulator.name,
                "settings": simulator.settings,
                "calls": simulator.ledger.calls,
                "files": len(simulator.store.files),
                "batches": batches,
            }
        )

    async def ledger(self, _request: web.Request) -> web.Response:
        """`Submissions`: the ledger added up."""
        return _json(await self._simulator.submissions())

    async def lines(self, request: web.Request) -> web.StreamResponse:
        """Every line of every batch as JSON lines: batch_id, custom_id, hash."""
        await self._simulator.submissions()
        response = web.StreamResponse(headers={"Content-Type": "application/jsonl"})
        await response.prepare(request)
        rows: list[bytes] = []
        for line in self._simulator.ledger.lines():
            rows.append(msgspec.json.encode(line))
            if len(rows) == _CHUNK:
                await response.write(b"\n".join(rows) + b"\n")
                rows.clear()
        if rows:
            await response.write(b"\n".join(rows) + b"\n")
        return response

    async def faults(self, _request: web.Request) -> web.Response:
        """The orders that have not been used up, by number."""
        return _json({str(number): fault for number, fault in self._simulator.faults.pending().items()})

    async def order(self, request: web.Request) -> web.Response:
        """Order one fault (an object with the fields of `Fault`) or several (an array of them)."""
        try:
            asked = msgspec.json.decode(await request.read(), type=list[Fault] | Fault)
        except msgspec.DecodeError as error:
            return _json({"error": f"This is no fault: {error}"}, status=400)
        faults = asked if isinstance(asked, list) else [asked]
        return _json({"numbers": [self._simulator.faults.order(fault) for fault in faults]})

    async def clear(self, _request: web.Request) -> web.Response:
        """Withdraw all orders."""
        self._simulator.faults.clear()
        return _json({})

    async def set(self, request: web.Request) -> web.Response:
        """Change some of `SandboxSettings`; what is not named stays."""
        try:
            changes = orjson.loads(await request.read())
            merged = msgspec.to_builtins(self._simulator.settings) | changes
            settings = msgspec.convert(merged, type=SandboxSettings)
        except (ValueError, TypeError) as error:
            return _json({"error": f"These are no settings: {error}"}, status=400)
        unknown = sorted(merged.keys() - msgspec.to_builtins(settings).keys())
        if unknown:
            return _json({"error": f"Unknown settings: {', '.join(unknown)}"}, status=400)
        self._simulator.settings = settings
        return _json(settings)

    async def reset(self, _request: web.Request) -> web.Response:
        """Forget files, batches, faults and ledger."""
        self._simulator.reset()
        return _json({})

    async def finish(self, request: web.Request) -> web.Response:
        """Let a batch end now."""
        return await self._upon(request, self._simulator.finish)

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel a batch as somebody else with the same account would."""
        return await self._upon(request, self._simulator.cancel)

    async def _upon(self, request: web.Request, act: Callable[[str], Awaitable[None]]) -> web.Response:
        batch_id = request.match_info["batch_id"]
        if batch_id not in self._simulator.store.batches:
            return _json({"error": f"There is no batch {batch_id}"}, status=404)
        await act(batch_id)
        _, where = await self._simulator.current(batch_id)
        return _json({"id": batch_id, "stage": where.stage})


def _not_from_browsers(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def guarded(request: web.Request) -> web.StreamResponse:
        if "Origin" in request.headers:
            return _json({"error": "The control API is not for web pages."}, status=403)
        return await answer(request)

    return guarded


def _json(content: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(content), status=status, content_type="application/json")
