"""Finding our batch in the account's list. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from gateway import Batch
from gateway.reading import mapping, moment
from gateway.records import is_marker

#: The metadata key that carries the marker.
MARKER_KEY = "batchway"
#: Batches asked for at once; the most there is.
PAGE = 100


def is_ours(item: Mapping[str, object], batch: Batch) -> bool:
    """Whether a listed batch carries the marker of `batch`, or was made of its file."""
    if mapping(item.get("metadata")).get(MARKER_KEY) == batch.marker:
        return True
    return bool(batch.file_id) and item.get("input_file_id") == batch.file_id


def marker_of(item: Mapping[str, object]) -> str | None:
    """The marker that a listed batch carries; None: it is nobody's of our kind."""
    word = mapping(item.get("metadata")).get(MARKER_KEY)
    return word if is_marker(word) else None


def cursor(
    content: Mapping[str, object], items: Sequence[Mapping[str, object]], after: str | None = None
) -> str | None:
    """Where the next page starts; None when this one, which started after `after`, is the last.

    A page without `has_more`, however short, may have one behind it, as in the SDK: services show fewer than were asked for.
    One that ends where it was to start is what a service shows that has no pages.
    """
    last = items[-1].get("id") if items else None
    more = content.get("has_more")
    goes_on = last != after if more is None else bool(more)
    return last if goes_on and isinstance(last, str) and last else None


def created(item: Mapping[str, object]) -> datetime | None:
    """When a listed batch was made."""
    return moment(item.get("created_at"))
