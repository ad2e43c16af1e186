"""`POST /v1/chat/completions`: an ordinary call in, everyone's own answer out, however long it takes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from gateway.clock import Clock
from gateway.config import Server, Waiting
from gateway.endpoints.bodies import incoming, read_body
from gateway.endpoints.events import Thread
from gateway.endpoints.heartbeats import Heartbeats
from gateway.endpoints.middleware import REQUEST_ID
from gateway.endpoints.notices import Notices
from gateway.endpoints.patience import patience
from gateway.endpoints.replies import Blanks, Events, Reply, Silent, ending_headers, plain, replayed
from gateway.endpoints.results import pending_response, progress_of
from gateway.errors import Refusal
from gateway.metrics import Metrics
from gateway.pipeline.intake import Accepted, Incoming, Intake
from gateway.pipeline.waiters import Stopping, Waiters
from gateway.records import RequestState
from gateway.store.ledger import Ledger
from gateway.store.rows import Departure, Ending

ENDPOINT = "/v1/chat/completions"
#: Calls between their body and their commit at the same time.
ACCEPTED_AT_ONCE = 512
#: For how long the ending behind an aborted 200 is owed to whoever asks.
OWED_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A caller whose request has been accepted: all that is remembered of it while it waits."""

    accepted: Accepted
    retry: bool
    client: str
    run: str | None
    #: As the client wrote it.
    model: str
    stream: bool
    #: Whether the stream should end with the usage.
    usage: bool
    detached: bool

    @property
    def seq(self) -> int:
        """The ledger's number of its request."""
        return self.accepted.admission.seq

    @property
    def custom_id(self) -> str:
        """The name of its request."""
        return self.accepted.admission.custom_id


class Chat:
    """The handler and what it needs."""

    def __init__(
        self,
        intake: Intake,
        waiters: Waiters,
        heartbeats: Heartbeats,
        metrics: Metrics,
        clock: Clock,
        *,
        ledger: Ledger,
        server: Server,
        waiting: Waiting,
        notices: Notices,
    ) -> None:
        """Ready for callers."""
        self._ledger = ledger
        self._intake = intake
        self._waiters = waiters
        self._heartbeats = heartbeats
        self._metrics = metrics
        self._clock = clock
        self._server = server
        self._waiting = waiting
        self._notices = notices
        self._working = asyncio.Semaphore(ACCEPTED_AT_ONCE)

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Accept, then answer from store, with a 202, or after a wait."""
        raw = await read_body(request, self._server.body_seconds)
        # Of a burst, a few are worked on at a time: bodies, parsed and encoded, are many times what they were on the wire.
        async with self._working:
            visit = await self._accept(request, raw)
        # The caller may stay for hours: what it sent is in the ledger now, and kept nowhere else.
        del raw
        request._read_bytes = None  # noqa: SLF001 - aiohttp keeps a copy of the body as long as the request
        if visit.accepted.admission.ending is not None:
            return await self._answer(request, visit, visit.accepted.admission.ending)
        if visit.detached:
            return await self._pending(request, visit)
        return await self._wait(request, visit)

    async def _accept(self, request: web.Request, raw: bytes) -> Visit:
        call = incoming(request, raw, ENDPOINT)
        if len(self._waiters) >= self._server.max_waiters and not call.ask.detached:
            raise Refusal(
                "too_many_waiters",
                f"{self._server.max_waiters} callers wait already (server.max_waiters). Nothing was recorded: try again.",
            )
        accepted = await self._intake.accept(call)
        if accepted.repeated and call.body.get("temperature"):
            self._notices.repeated_sample(call.client)
        return _visit(call, accepted)

    async def _pending(self, request: web.Request, visit: Visit) -> web.Response:
        """Where to ask for it later; one that was there before may be further than its queue."""
        headers = _headers(request, visit)
        found = None
        if not visit.accepted.admission.fresh:
            found = await self._ledger.requests.find(visit.client, "", visit.custom_id)
        if found is None:
            return pending_response(visit.custom_id, RequestState.QUEUED, headers)
        return pending_response(visit.custom_id, found.state, headers, progress_of(found))

    async def _answer(self, request: web.Request, visit: Visit, ending: Ending) -> web.StreamResponse:
        """An ending that was there already."""
        delivered = False
        stored = visit.accepted.stored
        try:
            response = await self._whole(request, visit, ending)
            delivered = True
            return response
        finally:
            self._waiters.mark(self._departure(visit, delivered=delivered, last=not stored))
            if stored:
                self._waiters.unbook(visit.seq)

    async def _wait(self, request: web.Request, visit: Visit) -> web.StreamResponse:
        """Hold the caller until its request has ended; whatever happens, its mark is left behind."""
        bears = patience(request.headers, visit.retry, self._waiting)
        future = self._waiters.attach(visit.seq)
        self._notices.came(visit.client)
        delivered, owed_until = False, None
        try:
            ending = await self._within_grace(visit, bears.grace_seconds, future)
            if ending is not None:
                response = await self._whole(request, visit, ending)
                delivered = True
                return response
            reply = self._reply(request, visit)
            ending = await self._keep_alive(reply, bears.beat_seconds, future)
            if ending is None:
                return reply.response
            if ending.state is RequestState.SUCCEEDED:
                delivered = await reply.finish(ending, _headers(request, visit, ending))
            else:
                delivered = await reply.fail(ending, _headers(request, visit, ending))
                owed_until = None if delivered else self._clock.now() + OWED_SECONDS
            return reply.response
        finally:
            departure = self._departure(visit, delivered=delivered, last=False, owed_until=owed_until)
            self._waiters.leave(visit.seq, future, departure)
            self._notices.went(visit.client)

    async def _within_grace(self, visit: Visit, seconds: float, future: asyncio.Future[Ending]) -> Ending | None:
        """The ending if it comes before anything has been committed to the caller."""
        ending = await self._waiters.look(visit.seq, future)
        if ending is not None:
            return ending
        await _done_or_late(future, seconds)
        try:
            return future.result() if future.done() else None
        except Stopping:
            raise Refusal(
                "stopping", "The gateway is shutting down; the request is kept. Ask again in a moment."
            ) from None

    async def _whole(self, request: web.Request, visit: Visit, ending: Ending) -> web.StreamResponse:
        """An ending to a caller to whom nothing was committed: with its true status, or as a stream if it wants one."""
        headers = _headers(request, visit, ending)
        if visit.stream and ending.state is RequestState.SUCCEEDED:
            return await replayed(request, self._thread(visit), ending, headers)
        return await plain(request, ending, headers)

    async def _keep_alive(self, reply: Reply, seconds: float, future: asyncio.Future[Ending]) -> Ending | None:
        """Commit to the caller, then beat until the ending is there; None when the gateway stops first."""
        await reply.begin()
        number = self._heartbeats.add(reply, seconds)
        try:
            return await future
        except Stopping:
            reply.abort()
            return None
        finally:
            self._heartbeats.remove(number)

    def _reply(self, request: web.Request, visit: Visit) -> Reply:
        if request.version < (1, 1):
            self._notices.spoke_http10(visit.client)
            return Silent(request, self._thread(visit) if visit.stream else None)
        if visit.stream:
            return Events(request, self._thread(visit), _headers(request, visit))
        return Blanks(request, _headers(request, visit))

    def _thread(self, visit: Visit) -> Thread:
        return Thread(
            id=f"chatcmpl-{visit.custom_id}", model=visit.model, created=int(self._clock.now()), usage=visit.usage
        )

    def _departure(self, visit: Visit, *, delivered: bool, last: bool, owed_until: float | None = None) -> Departure:
        return Departure(
            seq=visit.seq,
            at=self._clock.now(),
            delivered=delivered,
            last=last,
            owed_until=owed_until,
            client=visit.client,
            run=visit.run,
        )


async def _done_or_late(future: asyncio.Future[Ending], seconds: float) -> None:
    """Return when `future` is done, or after `seconds`; as `asyncio.wait`, for 1.1 KB a waiter instead of 1.9."""
    loop = asyncio.get_running_loop()
    gate: asyncio.Future[None] = loop.create_future()
    opened = partial(_open, gate)
    future.add_done_callback(opened)
    late = loop.call_later(seconds, opened)
    try:
        await gate
    finally:
        late.cancel()
        future.remove_done_callback(opened)


def _open(gate: asyncio.Future[None], _done: asyncio.Future[Ending] | None = None) -> None:
    if not gate.done():
        gate.set_result(None)


def _visit(call: Incoming, accepted: Accepted) -> Visit:
    options = call.body.get("stream_options")
    return Visit(
        accepted=accepted,
        retry=call.ask.retry,
        client=call.client,
        run=call.ask.run,
        model=call.model,
        stream=call.body.get("stream") is True,
        usage=isinstance(options, dict) and options.get("include_usage") is True,
        detached=call.ask.detached,
    )


def _headers(request: web.Request, visit: Visit, ending: Ending | None = None) -> dict[str, str]:
    """What the caller learns beside the answer."""
    headers = {
        "x-request-id": request[REQUEST_ID],
        "x-batchway-provider": visit.accepted.provider,
        "x-batchway-cache": _cache_word(visit.accepted),
    }
    if visit.custom_id:
        # An answer that only the cache has is in no row while the disk is full.
        headers["x-batchway-custom-id"] = visit.custom_id
    if visit.accepted.dropped:
        headers["x-batchway-dropped"] = visit.accepted.dropped
    return headers if ending is None else headers | ending_headers(ending)


def _cache_word(accepted: Accepted) -> str:
    admission = accepted.admission
    if admission.ending is not None:
        return f"hit; sample={admission.sample}; of={admission.of}" if admission.sample else "hit"
    return "miss" if admission.fresh else "joined"
