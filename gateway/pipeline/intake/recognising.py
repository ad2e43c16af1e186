"""Find what is there already for a call: a stored answer, or a request that was accepted before.

Takes calls that are routed; leaves nothing in the ledger, and in this process that a stored answer is being delivered. If the
process dies half-way, that is forgotten with the connection it was to be delivered by; the answer stays where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.clock import Clock
from gateway.metrics import Metrics
from gateway.pipeline.waiters import Waiters
from gateway.store.admission import only_rehearsed
from gateway.store.cache import Cache
from gateway.store.choose import New, Serve, choose
from gateway.store.ledger import Ledger
from gateway.store.rows import Admission, Ask, Ending, LaneKey, Sample, Slot
from gateway.store.slots import slot_of

#: Slots of one fingerprint that a choice looks at, beside those with marks of this process.
SLOTS_AT_MOST = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, for what, and what of it may be given to them."""

    client: str
    fingerprint: bytes
    ask: Ask
    custom_id: str | None

    @property
    def by_fingerprint(self) -> bool:
        """Whether its body is what it is recognised by: a name goes before it, and what is detached has no slot."""
        return self.custom_id is None and not self.ask.slotless


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A stored answer that is booked as being delivered: whoever answers must `Waiters.unbook` it."""

    admission: Admission
    #: It had been delivered before.
    repeated: bool


class Recognition:
    """Reads the ledger and the cache; what it decides of slots that are not finished, the writer decides again."""

    def __init__(self, ledger: Ledger, cache: Cache, waiters: Waiters, metrics: Metrics, clock: Clock) -> None:
        """`waiters` knows what of this process is not in the ledger yet."""
        self._ledger = ledger
        self._cache = cache
        self._waiters = waiters
        self._metrics = metrics
        self._clock = clock

    async def slots(self, caller: Caller) -> list[Slot]:
        """The slots of what is asked, as this process sees them; none for what is not recognised by its body."""
        if not caller.by_fingerprint:
            return []
        limit = SLOTS_AT_MOST + self._waiters.unfolded
        rows = await self._ledger.slots.of(caller.fingerprint, caller.client, caller.ask.run, self._clock.now(), limit)
        return self._waiters.overlay(rows)

    async def serve(self, slots: list[Slot], ask: Ask) -> Served | None:
        """A stored answer, chosen and booked without an await in between; None where the writer must decide.

        A run's giving is committed, so runs always go to the writer.
        """
        if not slots or ask.run is not None:
            return None
        decision = choose(slots, ask, self._clock.now())
        if not isinstance(decision, Serve):
            return None
        slot = decision.slot
        ending = await self._booked_ending(slot)
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
        return Served(admission=admission, repeated=slot.deliveries > 0)

    async def _booked_ending(self, slot: Slot) -> Ending | None:
        """The ending of a finished slot, which is booked before the first await; None, unbooked: it cannot be read."""
        self._waiters.book(slot.seq)
        ending = None
        try:
            ending = await self._ledger.requests.ending(slot.seq)
        finally:
            if ending is None:
                self._waiters.unbook(slot.seq)
        return ending

    def remembered(self, caller: Caller, slots: Sequence[Slot]) -> tuple[Sample, ...]:
        """What the cache has of it where the ledger has no slot, or has forgotten some."""
        if not caller.by_fingerprint or not _has_gaps(slots):
            return ()
        known = {slot.ordinal for slot in slots}
        samples = tuple(sample for sample in self._cache.read(caller.fingerprint) if sample.ordinal not in known)
        self._metrics.cache_lookups.of("cache" if samples else "nothing").inc()
        return samples

    async def is_known(self, caller: Caller, lane: LaneKey, slots: Sequence[Slot], samples: Sequence[Sample]) -> bool:
        """Whether the call makes no new request, as one was accepted before, under other limits perhaps; or its name is taken."""
        now = self._clock.now()
        if caller.custom_id is not None:
            holder = await self._ledger.requests.find(caller.client, "", caller.custom_id)
            return holder is not None and not only_rehearsed(holder.lane.kind, lane)
        if caller.ask.slotless:
            return caller.ask.retry and await self._ledger.slots.detached(caller.fingerprint, now) is not None
        return not isinstance(choose([*slots, *map(slot_of, samples)], caller.ask, now), New)


def _has_gaps(slots: Sequence[Slot]) -> bool:
    """Whether there may be samples below these that the ledger has forgotten; of very many slots, they are not all here."""
    extent = slots[-1].ordinal + 1 if slots else 0
    return not slots or len(slots) < extent <= SLOTS_AT_MOST
