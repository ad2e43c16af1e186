"""Is what the ledger says true? What must hold between its rows, and what it knows by name; for an operator's check.

Floor 2. Everything here reads whole tables, which the gateway itself never does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gateway.records import BatchState
from gateway.store.database import Session
from gateway.store.queries import load_queries

#: What no row may be -> how that is said of so many.
_RULES: Mapping[str, str] = MappingProxyType(
    {
        "without_payload": "pending requests whose text is gone",
        "without_result": "ended requests whose outcome is gone",
        "without_batch": "requests in a batch that is over, or gone",
        "without_lane": "requests or batches of a lane that is gone",
        "without_parent": "requests of a family whose parent is gone",
        "lines_without_batch": "settled lines of a batch that is gone",
        "odd_states": "requests whose state does not fit what else is written of them",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneDifference:
    """A lane whose running totals are not what its rows say."""

    provider: str
    model: str
    counted: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchName:
    """What a batch is called, here and at its provider."""

    id: int
    marker: str
    remote_id: str | None
    state: BatchState
    #: Nothing of it is left, at the provider or on disk.
    discarded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedLane:
    """A lane that seals nothing for now."""

    provider: str
    model: str
    waiting: int
    reason: str
    retry_at: float


def check_queries(dialect: str) -> Mapping[str, str]:
    """The statements of this module, beside those of the rooms."""
    return load_queries(f"{dialect}/checks")


def broken_rules(session: Session) -> list[str]:
    """Each rule that some rows break, with how many do."""
    counts = {said: session.rows(query, {})[0][0] for query, said in _RULES.items()}
    return [f"{count} {said}" for said, count in counts.items() if count]


def lane_differences(session: Session) -> list[LaneDifference]:
    """Lanes whose running totals differ from a recount."""
    return [
        LaneDifference(provider=provider, model=model, counted=counted, rows=rows)
        for provider, model, counted, rows in session.rows("lane_differences", {})
    ]


def recount_lanes(session: Session) -> int:
    """Write what a recount says into every lane; how many lanes there are. Within a write."""
    return session.run("recount_lanes", {})


def parked_lanes(session: Session) -> list[ParkedLane]:
    """Lanes that wait, with their reason."""
    return [
        ParkedLane(provider=provider, model=model, waiting=waiting, reason=reason, retry_at=retry_at)
        for provider, model, waiting, reason, retry_at in session.rows("parked_lanes", {})
    ]


def waiting(session: Session) -> tuple[int, float | None]:
    """How many requests wait to be sent, and since when the oldest does."""
    [(count, oldest)] = session.rows("waiting", {})
    return int(count), oldest


def batch_names(session: Session) -> list[BatchName]:
    """Every batch of the ledger."""
    return [
        BatchName(id=number, marker=marker, remote_id=remote_id, state=BatchState(state), discarded=bool(discarded))
        for number, marker, remote_id, state, discarded in session.rows("batch_names", {})
    ]


def last_alive(session: Session, boot: int = 0) -> float | None:
    """Until when the last process that wrote lived, `boot` left out: how old a restored ledger is; None: nobody did."""
    row = session.row("last_alive", {"boot": boot})
    return None if row is None else row[0]
