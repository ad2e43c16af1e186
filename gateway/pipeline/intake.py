"""Accept a call: recognise it, or record it durably.

Takes calls that are parsed; leaves requests in `queued`, or the caller with a stored ending. If the process dies
half-way, either the commit was not done and nothing was accepted, or the request is queued and the caller's retry
finds it by name or fingerprint.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from gateway.clock import Clock
from gateway.configured import ConfiguredProvider
from gateway.errors import LedgerError, Refusal, StorageFull
from gateway.fingerprint import body_hash, canonical_body, fingerprint
from gateway.lines import dropped, encoded, estimated_tokens, line_size, refuse_tokens
from gateway.metrics import Metrics
from gateway.pipeline.waiters import Waiters
from gateway.records import Call
from gateway.routing import Router
from gateway.store.cache import Cache
from gateway.store.choose import New, Serve, choose
from gateway.store.ledger import Ledger
from gateway.store.rows import Admission, Arrival, Ask, Departure, LaneKey, Sample, Slot
from gateway.tasks import Tasks

#: Slots of one fingerprint that a choice looks at, beside those with marks of this process.
SLOTS_AT_MOST = 64
#: Arrivals handed to the ledger together; it goes on with them while the loop reads the next ones.
GROUP_AT_MOST = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A call as the front door understands it."""

    client: str
    endpoint: str
    #: As the client wrote it, before routing.
    model: str
    body: Mapping[str, object]
    ask: Ask
    custom_id: str | None = None
    metadata: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What intake did with a call: it is over (`admission.ending`), or to be waited for."""

    admission: Admission
    provider: str
    #: Served without a write: it is booked as being delivered, and whoever answers must `Waiters.unbook` it.
    stored: bool = False
    #: The stored answer had been delivered before, and no run was named.
    repeated: bool = False
    #: Names of the fields that the provider's words have no place for, as `a, b`; empty: none.
    dropped: str = ""


class Intake:
    """Recognises and records calls; arrivals of one turn of the loop share one commit."""

    def __init__(
        self,
        ledger: Ledger,
        cache: Cache,
        router: Router,
        waiters: Waiters,
        metrics: Metrics,
        *,
        clock: Clock,
        tasks: Tasks,
        arrived: asyncio.Event,
        unbatched: asyncio.Event,
    ) -> None:
        """`arrived` is set when a request has been queued that goes in a batch, `unbatched` for one that goes by itself."""
        self._ledger = ledger
        self._cache = cache
        self._router = router
        self._waiters = waiters
        self._metrics = metrics
        self._clock = clock
        self._tasks = tasks
        self._arrived = arrived
        self._unbatched = unbatched
        self._gathered: list[tuple[Arrival, asyncio.Future[Admission]]] = []

    async def accept(self, incoming: Incoming) -> Accepted:
        """Route, encode, recognise, record. Durable when it returns.

        Raises `Refusal` with what the caller must see; then nothing has been recorded.
        """
        routed = self._router.resolve(incoming.model)
        provider = routed.provider
        plugin = await provider.ready()
        if plugin is None:
            raise Refusal("provider_unavailable", f"Provider {provider.name} is disabled: {provider.disabled_reason}.")
        canonical = canonical_body(incoming.body)
        print_ = fingerprint(
            client=incoming.client,
            provider=provider.name,
            account=provider.account,
            model=routed.model,
            endpoint=incoming.endpoint,
            canonical=canonical,
        )
        call = Call(endpoint=incoming.endpoint, model=routed.model, body={**incoming.body, "model": routed.model})
        ask = incoming.ask
        unnamed = incoming.custom_id is None and not ask.detached
        slots: list[Slot] = []
        if unnamed:
            try:
                slots = await self._slots(print_, incoming)
                served = await self._serve(slots, ask, provider)
            except LedgerError as error:
                raise _not_accepted(error) from error
            if served is not None:
                return _telling(served, dropped(plugin, call))
        line = encoded(plugin, call)
        lane = LaneKey(provider=provider.name, endpoint=incoming.endpoint, model=routed.model)
        tokens = estimated_tokens(incoming.body, len(line.payload))
        allowed = provider.limits.enqueued_tokens(routed.model) if provider.batches else None
        if allowed is not None and tokens > allowed and not await self._is_known(incoming, slots):
            refuse_tokens(tokens, await self._ledger.lanes.factor(lane), allowed, lane)
        arrival = Arrival(
            client=incoming.client,
            custom_id=incoming.custom_id,
            lane=lane,
            fingerprint=print_,
            body_hash=_named_hash(incoming, canonical),
            payload=line.payload,
            times=line.times,
            size=line_size(plugin, provider.limits, line.payload),
            tokens=tokens,
            ask=ask,
            waiters=self._waiters.counts(slot.seq for slot in slots),
            samples=self._remembered(print_) if unnamed and not slots else (),
            metadata=incoming.metadata,
        )
        accepted = self._accepted(await self._admit(arrival), provider, line.times)
        return _telling(accepted, dropped(plugin, call))

    async def _is_known(self, incoming: Incoming, slots: Sequence[Slot]) -> bool:
        """Whether the call joins a request that was accepted before, under other limits perhaps; or its name is taken."""
        if incoming.custom_id is None:
            return bool(slots) and not isinstance(choose(slots, incoming.ask, self._clock.now()), New)
        return await self._ledger.requests.find(incoming.client, "", incoming.custom_id) is not None

    def _remembered(self, print_: bytes) -> tuple[Sample, ...]:
        samples = self._cache.read(print_)
        self._metrics.cache_lookups.of("cache" if samples else "nothing").inc()
        return samples

    async def _slots(self, print_: bytes, incoming: Incoming) -> list[Slot]:
        limit = SLOTS_AT_MOST + self._waiters.unfolded
        rows = await self._ledger.slots.of(print_, incoming.client, incoming.ask.run, self._clock.now(), limit)
        return self._waiters.overlay(rows)

    async def _serve(self, slots: list[Slot], ask: Ask, provider: ConfiguredProvider) -> Accepted | None:
        """A stored answer, chosen and booked without an await in between; None where the writer must decide.

        A run's giving is committed, so runs always go to the writer.
        """
        if not slots or ask.run is not None:
            return None
        decision = choose(slots, ask, self._clock.now())
        if not isinstance(decision, Serve):
            return None
        slot = decision.slot
        self._waiters.book(slot.seq)
        ending = None
        try:
            ending = await self._ledger.requests.ending(slot.seq)
        finally:
            if ending is None:
                self._waiters.unbook(slot.seq)
        if ending is None:
            return None
        admission = Admission(
            seq=slot.seq,
            custom_id=slot.custom_id,
            fresh=False,
            ending=ending,
            sample=slot.ordinal + 1,
            of=len(slots),
        )
        self._metrics.cache_lookups.of("ledger").inc()
        return Accepted(admission=admission, provider=provider.name, stored=True, repeated=slot.deliveries > 0)

    async def _admit(self, arrival: Arrival) -> Admission:
        """Record with whatever else arrived in this turn of the loop; the commit goes on when the caller hangs up."""
        future: asyncio.Future[Admission] = asyncio.get_running_loop().create_future()
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._flush)
        self._gathered.append((arrival, future))
        if len(self._gathered) >= GROUP_AT_MOST:
            self._flush()
        try:
            return await future
        except asyncio.CancelledError:
            # The commit came first, and nobody was told of it any more; else `_record` finds the future cancelled.
            if not future.cancelled() and future.exception() is None:
                self._let_go(arrival, future.result())
            raise

    def _let_go(self, arrival: Arrival, admission: Admission) -> None:
        """The caller hung up while its commit was under way: release what it took."""
        if not (admission.conflict or admission.absent or admission.full):
            departure = Departure(
                seq=admission.seq,
                at=self._clock.now(),
                delivered=False,
                last=False,
                client=arrival.client,
                run=arrival.ask.run,
            )
            self._waiters.leave(admission.seq, self._waiters.attach(admission.seq), departure)

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, []
        if gathered:
            recording = self._tasks.spawn("intake.admit", self._record(gathered))
            recording.add_done_callback(partial(_send_away, gathered))

    async def _record(self, gathered: list[tuple[Arrival, asyncio.Future[Admission]]]) -> None:
        began = self._clock.monotonic()
        departures = self._waiters.take_departures()
        try:
            admissions = await self._admitted([arrival for arrival, _ in gathered], departures)
        except Exception as error:  # noqa: BLE001 - every caller of the group must hear of it
            _fail(gathered, _not_accepted(error))
            return
        self._metrics.commit_size.observe(len(gathered))
        self._metrics.commit_seconds.observe(self._clock.monotonic() - began)
        for (arrival, future), admission in zip(gathered, admissions, strict=True):
            if future.cancelled():
                self._let_go(arrival, admission)
            else:
                future.set_result(admission)
        pairs = zip(gathered, admissions, strict=True)
        for name in sorted({arrival.lane.provider for (arrival, _), admission in pairs if admission.fresh}):
            provider = self._router.providers.get(name)
            (self._unbatched if provider is not None and not provider.batches else self._arrived).set()

    async def _admitted(self, arrivals: list[Arrival], departures: list[Departure]) -> list[Admission]:
        """As the ledger says; on a full disk, asked again with nothing to write but for what is new."""
        try:
            admissions = await self._ledger.requests.admit(arrivals, departures)
        except StorageFull:
            self._waiters.put_back(departures)
            return await self._ledger.requests.admit(arrivals)
        except Exception:
            self._waiters.put_back(departures)
            raise
        self._waiters.folded(departures)
        return admissions

    def _accepted(self, admission: Admission, provider: ConfiguredProvider, times: int) -> Accepted:
        if admission.conflict:
            raise Refusal(
                "name_taken",
                f"The custom_id {admission.custom_id!r} already belongs to a request with another body. "
                "Use another custom_id, or send the same body to get the same answer.",
                param="custom_id",
            )
        if admission.full:
            raise _storage_full()
        if admission.absent:
            raise Refusal(
                "not_cached", "There is no stored answer for this request, and only-if-cached asks for no other."
            )
        if admission.fresh:
            self._metrics.requests_accepted.of(provider.name).inc(times)
        return Accepted(admission=admission, provider=provider.name)


def _send_away(gathered: Iterable[tuple[Arrival, asyncio.Future[Admission]]], recording: asyncio.Task[None]) -> None:
    """The gateway stops before a group is recorded, or while it is: its callers must not wait for the end of that.

    The commit may go through all the same; then their next try finds it.
    """
    if recording.cancelled():
        _fail(gathered, Refusal("stopping", "The gateway is shutting down. Ask again in a moment."))


def _fail(gathered: Iterable[tuple[Arrival, asyncio.Future[Admission]]], error: Exception) -> None:
    """Tell every caller of a group that it was not accepted."""
    for _, future in gathered:
        if not future.done():
            future.set_exception(error)
            future.exception()


def _telling(accepted: Accepted, names: str) -> Accepted:
    """With the names of dropped fields; most calls have none."""
    return replace(accepted, dropped=names) if names else accepted


def _storage_full() -> Refusal:
    return Refusal(
        "storage_full", "The gateway's disk is full: the request was not accepted. Try again when there is room."
    )


def _not_accepted(error: Exception) -> Exception:
    if isinstance(error, StorageFull):
        return _storage_full()
    if isinstance(error, LedgerError):
        return Refusal("storage_failed", "The gateway could not record the request: it was not accepted. Try again.")
    return error


def _named_hash(incoming: Incoming, canonical: bytes) -> bytes:
    """What a name is bound to; without a name nobody will ask for it."""
    if incoming.custom_id is None:
        return b""
    return body_hash(endpoint=incoming.endpoint, model=incoming.model, canonical=canonical)
