"""What is sealed, sent, settled and billed, as it goes into the ledger and comes out: frozen records.

Times are seconds since 1970, UTC. The records of requests are in `rows`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from gateway.records import BatchState, RemoteState, RequestState
from gateway.store.rows import Ending, LaneKey

#: The word for an answer that does not satisfy the schema its own request asked for.
INVALID_OUTPUT = "invalid_output"


def account_key(account: str, table: str) -> str:
    """The name of an account; a table without one is an account of its own."""
    return account or f"provider:{table}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The queued requests of one lane that may be batched now, and what sealing depends on."""

    lane_id: int
    lane: LaneKey
    count: int
    size: int
    #: Estimated input tokens, corrected by the lane's `token_factor`.
    tokens: int
    #: Of `count`, those that were never in a batch: only these make the window quiet.
    fresh: int
    #: The later of queued_at and not_before of its oldest request.
    oldest_at: float
    last_arrival_at: float
    #: The largest batch the provider took lately, after a token-limit refusal; None: never refused.
    target_tokens: int | None
    token_factor: float
    parked_reason: str | None
    retry_at: float
    #: How often in a row the lane was parked; back to 0 when a batch of it ends.
    park_steps: int = 0
    #: Batches of the lane that are sealed, submitting, submitted or ended, and not parked.
    in_flight: int
    #: When the oldest of them was sealed.
    oldest_in_flight_at: float | None
    #: Of the last five collected batches of the lane, in seconds.
    turnarounds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a provider (table) has open, against its limits."""

    #: Batches that are sealed, submitting, submitted or reconciling.
    open_batches: int
    #: Create calls of the last hour.
    creates_last_hour: int
    #: Corrected tokens in open batches, by model.
    enqueued_tokens: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """How much of a window one batch may take; None: no limit."""

    max_requests: int | None = None
    max_bytes: int | None = None
    max_tokens: int | None = None
    #: Whether the oldest request is taken even if it is beyond the limits by itself: it will never be smaller.
    at_least_one: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRow:
    """A batch as the ledger knows it. `epoch` is the right to write to it: every write says which one it holds."""

    id: int
    marker: str
    lane_id: int
    lane: LaneKey
    account: str
    base_url: str
    state: BatchState
    epoch: int
    count: int
    size: int
    tokens: int
    sealed_at: float
    file_id: str | None = None
    remote_id: str | None = None
    remote_state: RemoteState | None = None
    where: Mapping[str, str] = field(default_factory=dict)
    #: Create calls that were about to be made.
    submissions: int = 0
    first_sent_at: float | None = None
    last_sent_at: float | None = None
    submitted_at: float | None = None
    remote_created_at: float | None = None
    ended_at: float | None = None
    collected_at: float | None = None
    total: int | None = None
    done: int | None = None
    #: Its creation was in doubt at least once: look for copies before collecting.
    ambiguous: bool = False
    #: Downloads that came to their end, and whether one is on disk.
    fetches: int = 0
    fetched: bool = False
    #: Polls, finds or creates that failed in a row.
    troubles: int = 0
    parked_reason: str | None = None
    retry_at: float = 0.0
    cancel_at: float | None = None
    discarded: bool = False
    #: Since when there is a `parked_reason`; None: there is none, or an earlier version wrote it.
    parked_since: float | None = None
    #: Creates that ended in doubt, and after which it was certainly not there; a half has those of the whole, too.
    unfound: int = 0
    #: How often the provider had it, and after that certainly not any more; of a half likewise.
    vanished: int = 0

    @property
    def account_key(self) -> str:
        """Whose batch it is; see `account_key`."""
        return account_key(self.account, self.lane.provider)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a sealed batch."""

    n: int
    payload: bytes


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked in one unsettled line, and what went wrong with it before."""

    n: int
    #: From `Provider.encode`.
    payload: bytes
    #: The word for how its last attempt failed; None: there was none.
    trouble: str | None


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A request in a batch that is not settled yet."""

    n: int
    seq: int
    attempts: int
    queued_at: float
    cancel_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens the provider counted for one line."""

    input_tokens: int
    cached_tokens: int
    output_tokens: int


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """What one line came to: an ending, or back to the lane."""

    n: int
    #: The provider's status of the line; 0: none, or the line is missing.
    status: int
    #: None: the request goes back to its lane.
    ending: Ending | None
    #: The word for what went wrong, when it goes back or ends badly: `rate_limited`, `server_error`, `missing`, ...
    trouble: str | None = None
    #: When it may be batched again.
    not_before: float = 0.0
    usage: Usage | None = None
    #: None: the price is unknown.
    cost_usd: float | None = None
    saved_usd: float | None = None
    #: Whether the provider bills the line.
    billed: bool = False
    #: The word for what was found of an answer that its request wanted in a form, for counting; None: nothing was looked for.
    output: str | None = None
    #: An answer that is kept for a request that goes back, to be served if no better one comes.
    kept: Ending | None = None

    @property
    def wasted(self) -> bool:
        """Whether it is paid for nothing: nobody gets an answer out of it."""
        return self.billed and (self.ending is None or self.ending.state is not RequestState.SUCCEEDED)


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """A request that a settlement ended; durable when it is returned."""

    seq: int
    n: int
    state: RequestState
    fingerprint: bytes
    #: None: it has no slot and is not cached.
    ordinal: int | None
    no_store: bool
    #: The answer that was kept for want of a better one, if it ended with that and not as it was settled.
    instead: Ending | None = None
    #: Of a parent: children that were queued, and ended with it.
    stopped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AskableLane:
    """A lane whose requests are asked one by one, with something in its window."""

    lane_id: int
    lane: LaneKey
    parked_reason: str | None
    retry_at: float


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """A queued request that this boot is about to ask, and nobody else will."""

    lane_id: int
    #: By which its caller and the commands know it.
    custom_id: str
    #: Its place is 0, as in a batch of one.
    member: Member
    #: From `Provider.encode`.
    payload: bytes
    #: It was about to be asked by a boot that is over: the provider may have answered it already.
    again: bool = False
    #: As of `Asked`.
    trouble: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What was paid, by provider and model."""

    provider: str
    model: str
    requests: int
    lines: int
    cost_usd: float
    saved_usd: float
    wasted_usd: float
    wasted_lines: int
    #: Billed lines whose price is not known.
    unpriced_lines: int
    #: Billed lines that were asked one by one: nothing was discounted.
    undiscounted_lines: int = 0
