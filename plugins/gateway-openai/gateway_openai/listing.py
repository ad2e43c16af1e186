"""Finding our batch in the account's list. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise

from gateway import Batch, RemoteBatch
from gateway.records import is_marker
from gateway_openai.remote import moment

#: The metadata key that carries the marker.
MARKER_KEY = "batchway"
#: Batches asked for at once; the most there is.
PAGE = 100


def is_ours(item: Mapping[str, object], batch: Batch) -> bool:
    """Whether a listed batch carries the marker of `batch`, or was made of its file."""
    metadata = item.get("metadata")
    if isinstance(metadata, dict) and metadata.get(MARKER_KEY) == batch.marker:
        return True
    return bool(batch.file_id) and item.get("input_file_id") == batch.file_id


def marker_of(item: Mapping[str, object]) -> str | None:
    """The marker that a listed batch carries; None: it is nobody's of our kind."""
    metadata = item.get("metadata")
    word = metadata.get(MARKER_KEY) if isinstance(metadata, dict) else None
    return word if is_marker(word) else None


def cursor(content: Mapping[str, object], items: Sequence[Mapping[str, object]]) -> str | None:
    """Where the next page starts; None when this one is the last."""
    last = items[-1].get("id") if items else None
    more = content.get("has_more", len(items) >= PAGE)
    return last if more and isinstance(last, str) and last else None


def past(horizon: datetime | None, before: datetime | None, items: Sequence[Mapping[str, object]]) -> bool:
    """Whether everything behind this page is older than `horizon`; `before` is the last time of the page before.

    That the list is newest first is not documented: it counts only if this very page shows it.
    """
    times = [moment(item.get("created_at")) for item in items]
    known = [time for time in times if time is not None]
    if horizon is None or len(known) < len(times) or not known or max(known) >= horizon:
        return False
    whole = known if before is None else [before, *known]
    return whole[0] > whole[-1] and all(earlier >= later for earlier, later in pairwise(whole))


def oldest_first(found: Iterable[RemoteBatch]) -> list[RemoteBatch]:
    """By time of creation; unknown times last."""
    latest = datetime.max.replace(tzinfo=UTC)
    return sorted(found, key=lambda remote: (remote.created or latest, remote.remote_id))
