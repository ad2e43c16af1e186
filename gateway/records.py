"""The nouns everybody shares: frozen records and the states of requests and batches.

Floor 0: imports nothing of the gateway but `errors`. Plugin authors meet `Call`, `Batch`, `RemoteBatch`, `Result`,
`ErrorBody` and `Limits`; the rows the ledger keeps are in `gateway.store.rows` and `shipping`.
"""

from __future__ import annotations

import enum
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import TypeGuard

from gateway.errors import ProviderError

#: Characters of a marker, and how many of them one has.
MARKER_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
MARKER_LENGTH = 20


class RequestState(enum.StrEnum):
    """Where a request stands; the last four are its endings and never change again."""

    #: In its lane's window, or waiting for `not_before`. The batcher moves it on; where the provider has no batches, the
    #: completer, which ends it or sends it back for later. A crash leaves it here.
    QUEUED = "queued"
    #: A line of a batch. The collector ends it or sends it back to `queued`. A crash leaves it here.
    BATCHED = "batched"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether the request has its final outcome."""
        return self not in (RequestState.QUEUED, RequestState.BATCHED)


class BatchState(enum.StrEnum):
    """Where a batch stands. `BATCH_MOVES` is the whole of what may follow what."""

    #: Cut from its lane; spool and upload may exist. No create call is under way. The submitter moves it on.
    SEALED = "sealed"
    #: The intent to create is durable and the call may be under way. After a crash: reconciling.
    SUBMITTING = "submitting"
    #: The provider has it and its remote id is durable. The poller moves it on.
    SUBMITTED = "submitted"
    #: The provider is done with it; its rows wait to be fetched and collected.
    ENDED = "ended"
    #: Every line has been settled. Only remote files may be left to discard.
    COLLECTED = "collected"
    #: Its requests went back to their lane (or ended, if cancelled). Only remote files may be left.
    DISSOLVED = "dissolved"
    #: It is not known whether the provider has it. The reconciler finds out by listing.
    RECONCILING = "reconciling"


#: The one transition table of batches; `docs/state-machine.md` draws it and a test holds the two together.
BATCH_MOVES: Mapping[BatchState, frozenset[BatchState]] = MappingProxyType(
    {
        BatchState.SEALED: frozenset({BatchState.SUBMITTING, BatchState.DISSOLVED}),
        BatchState.SUBMITTING: frozenset(
            {BatchState.SUBMITTED, BatchState.SEALED, BatchState.DISSOLVED, BatchState.RECONCILING}
        ),
        BatchState.SUBMITTED: frozenset({BatchState.ENDED, BatchState.RECONCILING, BatchState.DISSOLVED}),
        BatchState.RECONCILING: frozenset({BatchState.SUBMITTED, BatchState.SEALED, BatchState.DISSOLVED}),
        BatchState.ENDED: frozenset({BatchState.COLLECTED, BatchState.SUBMITTED}),
        BatchState.COLLECTED: frozenset(),
        BatchState.DISSOLVED: frozenset(),
    }
)

#: The one transition table of requests.
REQUEST_MOVES: Mapping[RequestState, frozenset[RequestState]] = MappingProxyType(
    {
        RequestState.QUEUED: frozenset(
            {
                RequestState.BATCHED,
                RequestState.SUCCEEDED,
                RequestState.EXPIRED,
                RequestState.CANCELLED,
                RequestState.FAILED,
            }
        ),
        RequestState.BATCHED: frozenset(
            {
                RequestState.QUEUED,
                RequestState.SUCCEEDED,
                RequestState.FAILED,
                RequestState.EXPIRED,
                RequestState.CANCELLED,
            }
        ),
        RequestState.SUCCEEDED: frozenset(),
        RequestState.FAILED: frozenset(),
        RequestState.EXPIRED: frozenset(),
        RequestState.CANCELLED: frozenset(),
    }
)


class RemoteState(enum.StrEnum):
    """What a provider says of its own batch object."""

    #: Still at work, or in a state the plugin does not know.
    RUNNING = "running"
    #: Over, with rows to fetch: completed, expired or cancelled alike.
    ENDED = "ended"
    #: Refused as a whole, nothing was run: `RemoteBatch.refusal` says why.
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request as a plugin sees it, at admission."""

    #: The path asked for, with its version: `/v1/chat/completions`.
    endpoint: str
    #: The provider's own name of the model; prefixes and suffixes of routing are gone.
    model: str
    #: The client's body, parsed; `body["model"]` equals `model`.
    body: Mapping[str, object]


#: Our clock may be that much ahead of the provider's: a lost batch that is not looked for far enough back is paid twice,
#: and a day of pages too many costs nothing. A clock that was set to another time zone is within it.
LIST_MARGIN = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A sealed batch as a plugin sees it."""

    #: Random name, 20 of `[a-z0-9]`; put it where the provider echoes it (metadata, display name, file name).
    marker: str
    endpoint: str
    model: str
    #: Number of lines in the spool.
    count: int
    #: Bytes of the spool, line ends included.
    size: int
    #: Framed lines, each ended by one newline byte.
    spool: Path
    #: What `upload` returned, or None before it did or where the API takes no files.
    file_id: str | None = None
    #: When the first create call was about to be sent, by our clock; None: none ever was.
    first_sent: datetime | None = None

    @property
    def listed_since(self) -> datetime | None:
        """How far back a provider's list must be read, by the provider's clock, to be sure that it is not there; None: whole."""
        return None if self.first_sent is None else self.first_sent - LIST_MARGIN


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteBatch:
    """The provider's own object. None means unknown, never zero."""

    remote_id: str
    state: RemoteState
    created: datetime | None = None
    #: Lines the provider counted.
    total: int | None = None
    #: Lines of them that are finished, well or badly; once the batch has ended, those that have a row.
    done: int | None = None
    #: Why, when `state` is REFUSED: `Rejected`, `TokenLimit` or `Unauthorised`.
    refusal: ProviderError | None = None
    #: The plugin's own notes, kept for it: file ids, an output prefix.
    where: Mapping[str, str] = field(default_factory=dict)
    #: Our marker as the provider echoes it; only of batches that `list_ours` returns.
    marker: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBody:
    """OpenAI's error object."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one row of a result file says of one line."""

    #: The line id the row names; None when the row cannot be read that far.
    line_id: str | None
    #: The HTTP status the provider gave the line; 0 when it gave none.
    status: int
    #: The answer, in the endpoint's own OpenAI shape; None unless the line succeeded.
    body: Mapping[str, object] | None = None
    error: ErrorBody | None = None
    #: Whether asking again may help: 408, 409, 429, 5xx, expired, cancelled, unreadable.
    retriable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a provider allows; None means no limit. `[providers.NAME.limits]` overrides each."""

    #: Lines in one batch.
    max_requests: int | None = None
    #: Bytes of one batch's input.
    max_bytes: int | None = None
    #: Bytes of one framed line.
    max_line_bytes: int | None = None
    #: Batches the provider may hold at once.
    max_open_batches: int | None = None
    max_creates_per_hour: int | None = None
    #: Estimated input tokens waiting at the provider; one number for all models, or by model.
    max_enqueued_tokens: int | Mapping[str, int] | None = None
    #: Never ask for a batch's state more often than this.
    min_poll_seconds: float = 0.0
    #: Within which the provider promises to end a batch.
    window_seconds: float = 86_400.0
    #: For how long results can be fetched.
    retention_days: float | None = None

    def enqueued_tokens(self, model: str) -> int | None:
        """The limit of waiting tokens that applies to `model`."""
        if isinstance(self.max_enqueued_tokens, Mapping):
            return self.max_enqueued_tokens.get(model)
        return self.max_enqueued_tokens


def new_marker() -> str:
    """A batch's random name; 103 bits, so that no two are ever alike."""
    return "".join(secrets.choice(MARKER_ALPHABET) for _ in range(MARKER_LENGTH))


def is_marker(word: object) -> TypeGuard[str]:
    """Whether `word` looks like a marker: what some gateway of this kind may have made."""
    return isinstance(word, str) and len(word) == MARKER_LENGTH and set(word) <= set(MARKER_ALPHABET)


def line_id(marker: str, n: int) -> str:
    """The name of line `n` of the batch called `marker`: `<marker>-<n>`."""
    return f"{marker}-{n}"


def line_number(marker: str, name: str) -> int | None:
    """Which line of the batch `marker` is called `name`; None when it is none of it."""
    number = name.rpartition("-")[2]
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        return None
    n = int(number)
    return n if line_id(marker, n) == name else None
