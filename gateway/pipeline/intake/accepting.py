"""Accept one call: route, fingerprint, recognise, encode, check the limits, record.

Takes calls that are parsed; leaves requests in `queued`, or the caller with a stored ending. If the process dies
half-way, nothing before the last step has left a trace, and that one is a commit: see `gathering`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.clock import Clock
from gateway.configured import ConfiguredProvider
from gateway.errors import LedgerError, Refusal
from gateway.fingerprint import body_hash, canonical_body, fingerprint
from gateway.lines import Encoded, dropped, encoded, estimated_tokens, line_size, refuse_tokens
from gateway.metrics import Metrics
from gateway.pipeline.intake.gathering import Gathering, not_accepted, storage_full
from gateway.pipeline.intake.recognising import Caller, Recognition, Served
from gateway.pipeline.waiters import Waiters
from gateway.provider import Provider
from gateway.records import Call
from gateway.routing import Router
from gateway.store.cache import Cache
from gateway.store.ledger import Ledger
from gateway.store.rows import Admission, Arrival, Ask, LaneKey, Sample, Slot
from gateway.tasks import Tasks


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A call and where it goes."""

    incoming: Incoming
    caller: Caller
    provider: ConfiguredProvider
    plugin: Provider
    #: With the model's name there.
    call: Call
    #: What its name is bound to; empty: it has none.
    body_hash: bytes

    @property
    def lane(self) -> LaneKey:
        """What it may share a batch with."""
        provider = self.provider
        return LaneKey(
            provider=provider.name, endpoint=self.call.endpoint, model=self.call.model, kind=provider.lane_kind
        )


class Intake:
    """Recognises and records calls."""

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
        self._router = router
        self._waiters = waiters
        self._metrics = metrics
        self._recognition = Recognition(ledger, cache, waiters, metrics, clock)
        self._gathering = Gathering(
            ledger, router, waiters, metrics, clock=clock, tasks=tasks, arrived=arrived, unbatched=unbatched
        )

    async def accept(self, incoming: Incoming) -> Accepted:
        """Route, fingerprint, recognise, encode, check the limits, record. Durable when it returns.

        Raises `Refusal` with what the caller must see; then nothing has been recorded.
        """
        bound = await self._bound(incoming)
        slots, served = await self._recognised(bound)
        if served is not None:
            return _accepted(served.admission, bound, self._metrics, stored=True, repeated=served.repeated)
        line = encoded(bound.plugin, bound.call, self._metrics)
        tokens = estimated_tokens(incoming.body, len(line.payload))
        samples = self._recognition.remembered(bound.caller, slots)
        await self._check_tokens(bound, slots, samples, tokens)
        admission = await self._gathering.admit(self._arrival(bound, slots, samples, line, tokens))
        _refuse(admission)
        if admission.fresh:
            self._metrics.requests_accepted.of(bound.provider.name).inc(line.times)
        return _accepted(admission, bound, self._metrics)

    async def _bound(self, incoming: Incoming) -> Bound:
        """Where the call goes, and what makes it the same as another."""
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
            rehearsal=provider.rehearsal,
        )
        return Bound(
            incoming=incoming,
            caller=Caller(client=incoming.client, fingerprint=print_, ask=incoming.ask, custom_id=incoming.custom_id),
            provider=provider,
            plugin=plugin,
            call=Call(endpoint=incoming.endpoint, model=routed.model, body={**incoming.body, "model": routed.model}),
            body_hash=_named_hash(incoming, canonical),
        )

    async def _recognised(self, bound: Bound) -> tuple[list[Slot], Served | None]:
        """The slots of what is asked, and a stored answer where one may be given at once."""
        try:
            slots = await self._recognition.slots(bound.caller)
            return slots, await self._recognition.serve(slots, bound.incoming.ask)
        except LedgerError as error:
            raise not_accepted(error) from error

    async def _check_tokens(self, bound: Bound, slots: list[Slot], samples: tuple[Sample, ...], tokens: int) -> None:
        """Refuse what is larger than all that may wait at its provider, unless it was accepted before."""
        provider, lane = bound.provider, bound.lane
        allowed = provider.limits.enqueued_tokens(lane.model) if provider.batches else None
        if allowed is None or tokens <= allowed:
            return
        if not await self._recognition.is_known(bound.caller, lane, slots, samples):
            refuse_tokens(tokens, await self._ledger.lanes.factor(lane), allowed, lane)

    def _arrival(
        self, bound: Bound, slots: list[Slot], samples: tuple[Sample, ...], line: Encoded, tokens: int
    ) -> Arrival:
        """What is to be recorded, unless the writer recognises it."""
        incoming = bound.incoming
        return Arrival(
            client=incoming.client,
            custom_id=incoming.custom_id,
            lane=bound.lane,
            fingerprint=bound.caller.fingerprint,
            body_hash=bound.body_hash,
            payload=line.payload,
            times=line.times,
            size=line_size(bound.plugin, bound.provider.limits, line.payload, self._metrics),
            tokens=tokens,
            ask=incoming.ask,
            waiters=self._waiters.counts(slot.seq for slot in slots),
            samples=samples,
            metadata=incoming.metadata,
        )


def _refuse(admission: Admission) -> None:
    """Raise what the caller must see of an admission that is none."""
    if admission.conflict:
        raise Refusal(
            "name_taken",
            f"The custom_id {admission.custom_id!r} already belongs to a request with another body. "
            "Use another custom_id, or send the same body to get the same answer.",
            param="custom_id",
        )
    if admission.full:
        raise storage_full()
    if admission.absent:
        raise Refusal("not_cached", "There is no stored answer for this request, and only-if-cached asks for no other.")


def _accepted(
    admission: Admission, bound: Bound, metrics: Metrics, *, stored: bool = False, repeated: bool = False
) -> Accepted:
    return Accepted(
        admission=admission,
        provider=bound.provider.name,
        stored=stored,
        repeated=repeated,
        dropped=dropped(bound.plugin, bound.call, metrics),
    )


def _named_hash(incoming: Incoming, canonical: bytes) -> bytes:
    """What a name is bound to; without a name nobody will ask for it."""
    if incoming.custom_id is None:
        return b""
    return body_hash(endpoint=incoming.endpoint, model=incoming.model, canonical=canonical)
