"""What stands before and behind every path of a simulated API: the count of calls, faults to order, the key."""

from __future__ import annotations

from aiohttp import web

from gateway.sandbox.faults import Fault, FaultKind, Operation
from gateway.sandbox.routes import Answerer, Route
from gateway.sandbox.simulator import Simulator


def guarded(simulator: Simulator, route: Route) -> Answerer:
    """`route.answer` behind its faults, the count of its operation, and the key."""
    operation = route.operation

    async def answer(request: web.Request) -> web.StreamResponse:
        if operation is None:
            return await route.answer(request)
        simulator.ledger.count(operation)
        if simulator.faults:
            early = await _fault(simulator, request, operation, "before")
            if early is not None:
                return early
        if not simulator.authorised(request):
            return simulator.refuse(401, "Incorrect API key provided.", code="invalid_api_key")
        response = await route.answer(request)
        if simulator.faults:
            return await _fault(simulator, request, operation, "after") or await _halved(
                simulator, request, operation, response
            )
        return response

    return answer


async def _halved(
    simulator: Simulator, request: web.Request, operation: Operation, response: web.StreamResponse
) -> web.StreamResponse:
    """`response`, or half of it where that was ordered; a file that is being sent knows of the order itself."""
    if not isinstance(response, web.Response) or not isinstance(response.body, bytes) or response.prepared:
        return response
    if not simulator.faults.take(FaultKind.CUT, operation=operation, when="during", text=request.path):
        return response
    half = web.StreamResponse(status=response.status, headers=response.headers)
    half.content_length = len(response.body)
    await half.prepare(request)
    await half.write(response.body[: len(response.body) // 2])
    if request.transport is not None:
        request.transport.abort()
    return half


async def _fault(simulator: Simulator, request: web.Request, operation: Operation, when: str) -> web.Response | None:
    """What an ordered fault makes of this call; None when it goes on."""
    faults, path = simulator.faults, request.path
    if when == "before":
        delay = faults.take(FaultKind.DELAY, operation=operation, text=path)
        if delay is not None:
            await simulator.clock.sleep(delay.seconds)
        if faults.take(FaultKind.REVOKED, operation=operation, text=path):
            return simulator.refuse(401, "Incorrect API key provided: it has been revoked.", code="invalid_api_key")
    status = faults.take(FaultKind.STATUS, operation=operation, when=when, text=path)
    if status is not None:
        return _ordered_status(simulator, status)
    if faults.take(FaultKind.CUT, operation=operation, when=when, text=path) and request.transport is not None:
        request.transport.abort()
        return web.Response(status=500)
    return None


def _ordered_status(simulator: Simulator, fault: Fault) -> web.Response:
    response = simulator.refuse(fault.status, fault.message or "The sandbox was told to fail.", code=fault.code)
    if fault.retry_after is not None:
        response.headers["Retry-After"] = f"{fault.retry_after:g}"
    return response
