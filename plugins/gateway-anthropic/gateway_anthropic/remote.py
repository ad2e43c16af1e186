"""From the provider's batch object to a `RemoteBatch`, and finding ours among them. Pure and liberal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from gateway import Ambiguous, Batch, RemoteBatch, RemoteState
from gateway.reading import count, mapping, moment

#: The provider's words -> ours. Unknown words count as running.
STATES: Mapping[str, RemoteState] = MappingProxyType(
    {
        "in_progress": RemoteState.RUNNING,
        "canceling": RemoteState.RUNNING,
        "cancelling": RemoteState.RUNNING,
        "ended": RemoteState.ENDED,
    }
)
#: Words of batches that have ended or been told to.
STOPPING = frozenset({"canceling", "cancelling", "ended"})
#: Batches asked for at once; the most there is.
PAGE = 1_000


def remote_batch(content: Mapping[str, object]) -> RemoteBatch:
    """The batch that `content` describes. Raises `Ambiguous` when it has no id."""
    remote_id = content.get("id")
    if not isinstance(remote_id, str) or not remote_id:
        raise Ambiguous("the answer names no batch")
    counts = mapping(content.get("request_counts"))
    counted = {name: known for name, number in counts.items() if (known := count(number)) is not None}
    total = sum(counted.values()) or None
    return RemoteBatch(
        remote_id=remote_id,
        state=STATES.get(status_of(content), RemoteState.RUNNING),
        created=created(content),
        total=total,
        done=None if total is None else total - counted.get("processing", 0),
    )


def status_of(content: Mapping[str, object]) -> str:
    """The provider's own word for the state; empty when there is none."""
    status = content.get("processing_status")
    return status.strip().lower() if isinstance(status, str) else ""


def listed(content: Mapping[str, object]) -> Sequence[Mapping[str, object]]:
    """The batch objects of one page of a list. Raises `Ambiguous` when it is no page."""
    items = content.get("data")
    if not isinstance(items, list):
        raise Ambiguous("the answer is not a list of batches")
    return [item for item in items if isinstance(item, dict)]


def cursor(
    content: Mapping[str, object], items: Sequence[Mapping[str, object]], after: str | None = None
) -> str | None:
    """Where the next page starts; None when this one, which started after `after`, is the last.

    A page that does not say whether there are more may have one behind it, as in the SDK, unless it repeats the one before.
    """
    last = content.get("last_id") or (items[-1].get("id") if items else None)
    more = content.get("has_more")
    goes_on = bool(items) and last != after if more is None else bool(more)
    return last if goes_on and isinstance(last, str) and last else None


def may_be(remote: RemoteBatch, batch: Batch, horizon: datetime | None) -> bool:
    """Whether a listed batch has the number of requests of `batch`, and is not older than it can be. Unknown may be."""
    if remote.total is not None and remote.total != batch.count:
        return False
    return horizon is None or remote.created is None or remote.created >= horizon


def created(content: Mapping[str, object]) -> datetime | None:
    """When a batch was made."""
    return moment(content.get("created_at"))
