"""What goes into the ledger and what comes out: frozen records, no behaviour.

Times are seconds since 1970, UTC. `seq` is the ledger's own number of a request, in the order of acceptance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from gateway.records import BatchState, RequestState


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """How a call wants to be recognised: what decides between a stored sample, a pending one and a new one."""

    #: `x-stainless-retry-count` is 1 or more.
    retry: bool = False
    #: Answer 202.
    detached: bool = False
    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    #: Stored answers older than this many seconds do not count.
    max_age: float | None = None
    #: The caller's name for this pass over its work; None: no run.
    run: str | None = None

    @property
    def slotless(self) -> bool:
        """Whether a request of it makes and takes no slot, as nobody waits. What is stored is there, whoever waits."""
        return self.detached and not self.only_if_cached


#: Before the kind of a lane whose requests a simulator answers.
SIMULATED = "sandbox:"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneKey:
    """What may share a batch."""

    provider: str
    endpoint: str
    model: str
    #: In whose words its requests are written: the provider's kind, after `SIMULATED` where a simulator answers. Without a
    #: kind: queued before lanes knew it.
    kind: str = ""

    @property
    def rehearsal(self) -> bool:
        """Whether a simulator answers its requests: they are not meant, and cost nothing."""
        return self.kind.startswith(SIMULATED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A stored answer of the cache, on its way back into the ledger as a finished slot."""

    ordinal: int
    body: bytes
    ended_at: float


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """One call, parsed, encoded and ready to be recorded."""

    client: str
    #: The caller's name for it; None: the ledger makes one of ours.
    custom_id: str | None
    lane: LaneKey
    #: 32 bytes; two calls with the same one are the same question.
    fingerprint: bytes
    #: Hash of the body alone: what a name is bound to; empty if there is no name.
    body_hash: bytes
    #: From `Provider.encode`; with `times`, of one child.
    payload: bytes
    #: Bytes of the framed line with its newline, at the longest line id.
    size: int
    #: Estimated input tokens, uncorrected.
    tokens: int
    ask: Ask
    #: Callers of this process that wait for each seq, for the rule of retries.
    waiters: Mapping[int, int] = msgspec.field(default_factory=dict)
    #: Deliveries of each seq that this process has begun and not yet handed over as departures.
    booked: Mapping[int, int] = msgspec.field(default_factory=dict)
    #: Answers the cache has of this fingerprint, if the ledger has forgotten some.
    samples: tuple[Sample, ...] = ()
    #: The caller's `metadata`, JSON; kept and shown, None when absent.
    metadata: bytes | None = None
    job: str = ""
    #: More than 1: as many children ask for one answer each (`store.families`).
    times: int = 1


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """The final outcome of a request, as it goes to the caller."""

    state: RequestState
    #: HTTP status of the answer.
    status: int
    #: Key of `errors.ENDINGS`, or the provider's own code; None for an answer.
    code: str | None
    #: The completion, or OpenAI's error object; JSON.
    body: bytes
    #: Whether asking the same again can only fail again (line 400, 404, 413, 422).
    permanent: bool = False
    provider: str = ""
    batch: int | None = None
    cost_usd: float | None = None
    saved_usd: float | None = None


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an arrival; durable when it is returned."""

    seq: int
    custom_id: str
    #: A new row was made, and will be paid.
    fresh: bool
    #: The request is over: serve this.
    ending: Ending | None = None
    #: Place of the sample among those of its fingerprint, from 1, and how many there are; 0 for named and detached.
    sample: int = 0
    of: int = 0
    #: The name belongs to a request with another body: nothing was recorded.
    conflict: bool = False
    #: `only-if-cached` and no stored answer: nothing was recorded.
    absent: bool = False
    #: New work, and no room on the disk for it: nothing was recorded.
    full: bool = False


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """One sample of a fingerprint, as `choose` sees it."""

    seq: int
    ordinal: int
    state: RequestState
    custom_id: str = ""
    #: A waiter of a living process is attached.
    held: bool
    #: How many of this process's callers wait for it.
    waiters: int = 0
    #: How often its answer was written whole, this process's tally included.
    deliveries: int = 0
    first_delivered_at: float | None = None
    last_delivered_at: float | None = None
    #: When the last waiter left without an answer (or its boot ended).
    left_at: float | None = None
    ended_at: float | None = None
    #: A failure that can only happen again.
    permanent: bool = False
    #: Until when the ending is owed to whoever asks, after an aborted 200.
    owed_until: float | None = None
    #: Born of a call that said no-cache.
    no_cache: bool = False
    no_store: bool = False
    #: With its provider, and not wanted any more: it ends as cancelled unless its line is answered.
    cancelling: bool = False
    #: Already given in the run that asks; if so, to a caller still attached, and whether it was delivered there.
    given: bool = False
    given_held: bool = False
    given_delivered: bool = False


class Departure(msgspec.Struct, frozen=True, kw_only=True):
    """A caller that no longer waits for a request."""

    seq: int
    at: float
    #: Its answer was written whole.
    delivered: bool
    #: Nobody of this process waits for the request any more: its hold ends.
    last: bool
    #: Its connection was cut after a 200 because the request failed: the ending is owed until then.
    owed_until: float | None = None
    #: The run it came in, with its client; the run's own mark is updated too.
    client: str = ""
    run: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One row, as operators and `GET /v1/results` see it; the body is not in it."""

    seq: int
    custom_id: str
    client: str
    job: str
    lane: LaneKey
    state: RequestState
    queued_at: float
    #: Lines of it that the provider answered or let expire.
    attempts: int
    batch: int | None
    n: int | None
    ended_at: float | None
    #: Since when a cancel is wished for a request that is already in a batch.
    cancel_at: float | None = None
    #: Of its batch, or of its lane while it is queued.
    parked_reason: str | None = None
    retry_at: float | None = None
    batch_state: BatchState | None = None
    metadata: bytes | None = None
    #: How often its line has gone back to the lane, and since when it may be batched again.
    ready_at: float = 0.0
