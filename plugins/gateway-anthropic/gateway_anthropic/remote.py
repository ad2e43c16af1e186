"""From the provider's batch object to a `RemoteBatch`, and finding ours among them. Pure and liberal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from types import MappingProxyType

import orjson

from gateway import Ambiguous, Batch, RemoteBatch, RemoteState

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


def parse_object(content: bytes) -> dict[str, object]:
    """`content` as a JSON object. Raises `Ambiguous` when it is none: something answered, nobody knows what it did."""
    try:
        parsed = orjson.loads(content)
    except orjson.JSONDecodeError:
        parsed = None
    if not isinstance(parsed, dict):
        raise Ambiguous("the answer is not a JSON object")
    return parsed


def remote_batch(content: Mapping[str, object]) -> RemoteBatch:
    """The batch that `content` describes. Raises `Ambiguous` when it has no id."""
    remote_id = content.get("id")
    if not isinstance(remote_id, str) or not remote_id:
        raise Ambiguous("the answer names no batch")
    counts = content.get("request_counts")
    counted = {name: count for name, count in counts.items() if _is_count(count)} if isinstance(counts, dict) else {}
    total = sum(counted.values()) or None
    return RemoteBatch(
        remote_id=remote_id,
        state=STATES.get(status_of(content), RemoteState.RUNNING),
        created=moment(content.get("created_at")),
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


def cursor(content: Mapping[str, object], items: Sequence[Mapping[str, object]]) -> str | None:
    """Where the next page starts; None when this one is the last."""
    last = content.get("last_id") or (items[-1].get("id") if items else None)
    more = content.get("has_more", len(items) >= PAGE)
    return last if more and isinstance(last, str) and last else None


def may_be(remote: RemoteBatch, batch: Batch, horizon: datetime | None) -> bool:
    """Whether a listed batch has the number of requests of `batch`, and is not older than it can be. Unknown may be."""
    if remote.total is not None and remote.total != batch.count:
        return False
    return horizon is None or remote.created is None or remote.created >= horizon


def past(horizon: datetime | None, before: datetime | None, remotes: Sequence[RemoteBatch]) -> bool:
    """Whether everything behind this page is older than `horizon`; `before` is the last time of the page before.

    That the list is newest first counts only if this very page shows it.
    """
    known = [remote.created for remote in remotes if remote.created is not None]
    if horizon is None or len(known) < len(remotes) or not known or known[-1] >= horizon:
        return False
    whole = known if before is None else [before, *known]
    return whole[0] > whole[-1] and all(earlier >= later for earlier, later in pairwise(whole))


def oldest_first(found: Iterable[RemoteBatch]) -> list[RemoteBatch]:
    """By time of creation; unknown times last."""
    latest = datetime.max.replace(tzinfo=UTC)
    return sorted(found, key=lambda remote: (remote.created or latest, remote.remote_id))


def moment(stamp: object) -> datetime | None:
    """A time in RFC 3339; None when it is none."""
    if not isinstance(stamp, str):
        return None
    try:
        read = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return read if read.tzinfo is not None else read.replace(tzinfo=UTC)


def _is_count(content: object) -> bool:
    return isinstance(content, int) and not isinstance(content, bool) and content >= 0
