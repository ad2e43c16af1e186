"""`/v1/results`: look a request up by its name, wait for it, cancel it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import quote

import orjson
from aiohttp import web

from gateway.clock import Clock
from gateway.endpoints.bodies import prefer
from gateway.endpoints.cancelling import Canceller
from gateway.endpoints.keys import CALLER
from gateway.endpoints.middleware import REQUEST_ID
from gateway.endpoints.replies import ending_headers, plain
from gateway.errors import Refusal
from gateway.pipeline.waiters import Stopping, Waiters
from gateway.records import RequestState
from gateway.store.ledger import Ledger
from gateway.store.rows import Departure, Ending, Request

#: Clients ignore a longer Retry-After.
RETRY_AFTER_SECONDS = 15
LONGEST_WAIT_SECONDS = 300.0
LISTED_AT_MOST = 1_000


class Results:
    """The handlers of one resource."""

    def __init__(self, ledger: Ledger, waiters: Waiters, canceller: Canceller, clock: Clock) -> None:
        """Reads the ledger; waits with everybody else."""
        self._canceller = canceller
        self._ledger = ledger
        self._waiters = waiters
        self._clock = clock

    async def get(self, request: web.Request) -> web.StreamResponse:
        """The answer, the ending's own status, or 202 with state and progress; waits under `Prefer: wait=N`."""
        found = await self._find(request)
        headers = {"x-batchway-custom-id": found.custom_id, "x-batchway-provider": found.lane.provider}
        ending = await self._ending(found, _wait_seconds(request))
        if ending is None:
            # It may have moved on while its caller waited.
            found = await self._find(request)
            return pending_response(found.custom_id, found.state, headers, progress_of(found))
        delivered = False
        try:
            # It is written here, so nobody after us can add to its headers.
            headers |= {"x-request-id": request[REQUEST_ID], **ending_headers(ending)}
            response = await plain(request, ending, headers)
            delivered = True
            return response
        finally:
            self._waiters.mark(Departure(seq=found.seq, at=self._clock.now(), delivered=delivered, last=False))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Cancel: 200 when it is, 202 while the provider has the line, 409 never: what has ended stays as it is."""
        found = await self._find(request)
        after = await self._canceller.cancel(found, wished_by="client")
        if not after.state.ended:
            headers = {"x-batchway-custom-id": after.custom_id}
            return pending_response(after.custom_id, after.state, headers, progress_of(after))
        return web.json_response(body=orjson.dumps(listed(after)), status=200)

    async def list(self, request: web.Request) -> web.StreamResponse:
        """The caller's requests in the order of acceptance: `?state=queued&limit=100&after=CUSTOM_ID`."""
        states = [_state(word) for word in request.query.getall("state", [])] or list(RequestState)
        limit = min(_number(request.query.get("limit", "100")), LISTED_AT_MOST)
        after = request.query.get("after")
        last = 0 if after is None else (await self._named(request, after)).seq
        rows = await self._ledger.requests.listed(request[CALLER].client, states, limit + 1, last)
        page = {"object": "list", "data": [listed(row) for row in rows[:limit]], "has_more": len(rows) > limit}
        return web.json_response(body=orjson.dumps(page))

    async def _find(self, request: web.Request) -> Request:
        """The request named in the path, if it is the caller's; somebody else's is not there."""
        return await self._named(request, request.match_info["custom_id"])

    async def _named(self, request: web.Request, custom_id: str) -> Request:
        found = await self._ledger.requests.find(request[CALLER].client, "", custom_id)
        if found is None:
            raise Refusal("not_found", f"There is no request with the custom_id {custom_id!r}.", param="custom_id")
        return found

    async def _ending(self, found: Request, seconds: float) -> Ending | None:
        """The ending, waiting for it for at most `seconds`."""
        if found.state.ended or not seconds:
            return await self._ledger.requests.ending(found.seq)
        future = self._waiters.watch(found.seq)
        try:
            ending = await self._waiters.look(found.seq, future)
            if ending is None:
                await asyncio.wait([future], timeout=seconds)
                ending = future.result() if future.done() else None
        except Stopping:
            raise Refusal(
                "stopping", "The gateway is shutting down; the request is kept. Ask again in a moment."
            ) from None
        finally:
            self._waiters.unwatch(found.seq, future)
        return ending


def pending_response(
    custom_id: str, state: RequestState, headers: Mapping[str, str], progress: Mapping[str, object] | None = None
) -> web.Response:
    """202: where to ask again, and how things stand."""
    body = {"object": "batchway.result", "custom_id": custom_id, "state": state.value, **(progress or {})}
    return web.Response(
        status=202,
        body=orjson.dumps(body),
        content_type="application/json",
        headers={
            **headers,
            "Location": f"/v1/results/{quote(custom_id, safe='')}",
            "Retry-After": str(RETRY_AFTER_SECONDS),
            "Preference-Applied": "respond-async",
            "x-should-retry": "false",
        },
    )


def progress_of(request: Request) -> dict[str, object]:
    """How far a request that has not ended has come, and what holds it up."""
    return {
        "queued_at": request.queued_at,
        "attempts": request.attempts,
        "provider": request.lane.provider,
        "model": request.lane.model,
        "batch_id": request.batch,
        "batch_state": None if request.batch_state is None else request.batch_state.value,
        "parked_reason": request.parked_reason,
        # Of what is not parked it is when its batch is looked at next, which is nobody's business.
        "retry_at": request.retry_at if request.parked_reason else None,
        "cancelling": request.cancel_at is not None and not request.state.ended,
        "metadata": None if request.metadata is None else orjson.loads(request.metadata),
    }


def listed(request: Request) -> dict[str, object]:
    """A request in a list: all but its texts."""
    return {
        "object": "batchway.result",
        "custom_id": request.custom_id,
        "state": request.state.value,
        "ended_at": request.ended_at,
        **progress_of(request),
    }


def _wait_seconds(request: web.Request) -> float:
    wish = prefer(request).get("wait", "")
    return min(float(wish), LONGEST_WAIT_SECONDS) if wish.isascii() and wish.isdecimal() and len(wish) < 9 else 0.0


def _state(word: str) -> RequestState:
    try:
        return RequestState(word)
    except ValueError:
        known = ", ".join(RequestState)
        raise Refusal("invalid_request", f"state {word!r} is not one of {known}.", param="state") from None


def _number(word: str) -> int:
    if not (word.isascii() and word.isdecimal() and 0 < len(word) < 9 and int(word)):
        raise Refusal("invalid_request", "limit must be a whole number above 0.", param="limit")
    return int(word)
