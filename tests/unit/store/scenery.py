"""What the ledger's tests put into it and how they take a batch to a state: builders, no assertions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from gateway.records import BatchState, RemoteBatch, RemoteState, RequestState
from gateway.store.ledger import Ledger
from gateway.store.rows import Admission, Arrival, Ask, Departure, Ending, LaneKey, Sample
from gateway.store.shipping import BatchRow, Cut, Settlement, Usage
from gateway.testing import FakeClock

LANE = LaneKey(provider="sim", endpoint="/v1/chat/completions", model="m-1")
CANCELLED = Ending(state=RequestState.CANCELLED, status=410, code="cancelled", body=b'{"error":"cancelled"}')
EXPIRED = Ending(state=RequestState.EXPIRED, status=504, code="expired", body=b'{"error":"expired"}')
REFUSED = Ending(
    state=RequestState.FAILED, status=400, code="provider_rejected", body=b'{"error":"no"}', permanent=True
)


def fingerprint(question: str) -> bytes:
    """32 bytes, the same for the same question."""
    return hashlib.sha256(question.encode()).digest()


def arrival(
    question: str = "why?",
    *,
    client: str = "",
    custom_id: str | None = None,
    lane: LaneKey = LANE,
    size: int = 100,
    tokens: int = 10,
    ask: Ask | None = None,
    samples: tuple[Sample, ...] = (),
) -> Arrival:
    """A call; waiting and unnamed unless said otherwise."""
    return Arrival(
        client=client,
        custom_id=custom_id,
        lane=lane,
        fingerprint=fingerprint(client + question),
        body_hash=fingerprint("body " + question),
        payload=question.encode(),
        size=size,
        tokens=tokens,
        ask=ask or Ask(),
        samples=samples,
    )


def answer(body: str = "{}") -> Ending:
    """A good ending."""
    return Ending(state=RequestState.SUCCEEDED, status=200, code=None, body=body.encode())


def failure(*, permanent: bool = False) -> Ending:
    """A bad one."""
    status = 400 if permanent else 503
    return Ending(
        state=RequestState.FAILED, status=status, code="attempts_exhausted", body=b'{"error":{}}', permanent=permanent
    )


def settled(n: int, ending: Ending | None = None, **fields: object) -> Settlement:
    """A billed line that was answered, unless `ending` or `fields` say otherwise."""
    usual: dict[str, object] = {
        "status": 200,
        "usage": Usage(input_tokens=20, cached_tokens=0, output_tokens=5),
        "cost_usd": 0.25,
        "saved_usd": 0.25,
        "billed": True,
    }
    return Settlement(n=n, ending=ending or answer(f'{{"n":{n}}}'), **{**usual, **fields})  # type: ignore[arg-type]


def returned(n: int, not_before: float = 0.0, **fields: object) -> Settlement:
    """A line that goes back to its lane, unbilled unless `fields` say otherwise."""
    return Settlement(n=n, status=503, ending=None, trouble="server_error", not_before=not_before, **fields)  # type: ignore[arg-type]


def left(seq: int, at: float, *, delivered: bool = False, last: bool = True, **fields: object) -> Departure:
    """A caller that has gone, the last one unless said otherwise."""
    return Departure(seq=seq, at=at, delivered=delivered, last=last, **fields)  # type: ignore[arg-type]


def remote(remote_id: str = "r-1", state: RemoteState = RemoteState.RUNNING, **fields: object) -> RemoteBatch:
    """The provider's object."""
    return RemoteBatch(remote_id=remote_id, state=state, **fields)  # type: ignore[arg-type]


class Desk:
    """A ledger and its clock, with the moves that many tests make."""

    def __init__(self, ledger: Ledger, clock: FakeClock) -> None:
        self.ledger = ledger
        self.clock = clock
        self._markers = 0

    async def admit(self, *arrivals: Arrival) -> list[Admission]:
        """Admit in one group."""
        return await self.ledger.requests.admit(arrivals)

    async def queue(self, count: int, **fields: object) -> list[int]:
        """The seqs of `count` fresh, different requests."""
        admissions = await self.ledger.requests.admit(
            [arrival(f"question {place} of {self.marker()}", **fields) for place in range(count)]  # type: ignore[arg-type]
        )
        return [admission.seq for admission in admissions]

    def marker(self) -> str:
        """One that was never used."""
        self._markers += 1
        return f"m{self._markers:019d}"

    async def seal(self, cut: Cut | None = None, lane_id: int = 1) -> BatchRow:
        """Seal a window that is not empty."""
        batch = await self.ledger.batches.seal(
            lane_id, cut or Cut(), self.marker(), "acc", "http://api", self.clock.now()
        )
        assert batch is not None
        return batch

    async def claim(self, batch_id: int) -> BatchRow:
        """Claim a batch that nobody works on."""
        batch = await self.ledger.batches.claim_one(batch_id)
        assert batch is not None
        return batch

    async def claimed(self, state: BatchState, count: int = 3) -> BatchRow:
        """A claimed batch of `count` fresh requests in `state`, anything up to `ended`."""
        await self.queue(count)
        batches, now = self.ledger.batches, self.clock.now()
        batch = await self.claim((await self.seal()).id)
        if state is BatchState.SEALED:
            return batch
        batch = await batches.intend(batch, now)
        if state is BatchState.RECONCILING:
            return await self.claim((await batches.doubt(batch, "lost", now)).id)
        if state is not BatchState.SUBMITTING:
            batch = await self.claim((await batches.submitted(batch, remote(f"r-{batch.id}"), now, now)).id)
        if state is BatchState.ENDED:
            batch = await self.claim((await batches.ended(batch, remote(f"r-{batch.id}", RemoteState.ENDED), now)).id)
        return batch

    async def collect(self, batch: BatchRow, settlements: Iterable[Settlement]) -> BatchRow:
        """Settle these lines of an ended batch and close it."""
        await self.ledger.batches.settle(batch, list(settlements), self.clock.now())
        return await self.ledger.batches.collected(batch, self.clock.now())

    async def answer(self, *seqs: int) -> None:
        """Take everything that is queued through a batch; `seqs` are only there to say what is meant."""
        batch = await self.claim((await self.seal()).id)
        now, batches = self.clock.now(), self.ledger.batches
        batch = await batches.submitted(await batches.intend(batch, now), remote(f"r-{batch.id}"), now, now)
        batch = await self.claim((await batches.ended(await self.claim(batch.id), remote(), now)).id)
        await self.collect(batch, [settled(n, answer(f"answer of {batch.marker} {n}")) for n in range(batch.count)])

    async def totals_and_recount(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """For each lane: its running totals, and what a count says."""
        rows = await self.ledger.database.read(lambda session: session.rows("recount", {}))
        return [(tuple(row[1:5]), tuple(row[5:9])) for row in rows]
