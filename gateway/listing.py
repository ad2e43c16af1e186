"""Reading a provider's list of batches as far back as it matters, and no less: what was not found there is sent again.

Floor 1. For authors of plugins, in `find` and `list_ours`. How a page is asked for, and where the next one starts, is the
plugin's; when a list has been read is the same for all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from gateway.errors import Retryable
from gateway.records import RemoteBatch

__all__ = ["MOST_PAGES", "Page", "is_past", "oldest_first", "read_list"]

#: A list of more pages than that is taken for one without an end.
MOST_PAGES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of a list."""

    #: Batches as the provider describes them.
    items: Sequence[Mapping[str, object]]
    #: Where the next page starts, in the provider's words; None: this one is the last, or it is not said.
    after: str | None
    #: The provider says that the list goes on. Without `after`, nobody knows where: an empty page with `has_more` is no end.
    goes_on: bool = False


def _unknown(_: Mapping[str, object]) -> datetime | None:
    return None


async def read_list(
    page: Callable[[str | None], Awaitable[Page]],
    *,
    since: datetime | None = None,
    created: Callable[[Mapping[str, object]], datetime | None] = _unknown,
) -> AsyncIterator[Mapping[str, object]]:
    """Every item of the list behind `page`, which is given None first, then each page's `after`. One page is in memory.

    Ends before the list does only where all that is left is older than `since`, as the times that `created` reads show.
    Raises `Retryable` when the list goes in circles, has no end, or goes on nobody knows where; what `page` raises comes out.
    """
    before: datetime | None = None
    after: str | None = None
    seen: set[str] = set()
    for _ in range(MOST_PAGES):
        part = await page(after)
        for item in part.items:
            yield item
        times = [created(item) for item in part.items]
        if is_past(since, before, times):
            return
        if part.after is None:
            if part.goes_on:
                raise Retryable("list: it says that it goes on, and not where")
            return
        if part.after in seen:
            raise Retryable(f"list: not at its end after {len(seen)} pages, and in circles")
        seen.add(part.after)
        after, before = part.after, times[-1] if times else before
    raise Retryable(f"list: not at its end after {MOST_PAGES} pages")


def is_past(since: datetime | None, before: datetime | None, times: Sequence[datetime | None]) -> bool:
    """Whether everything behind a page with these `times` is older than `since`; `before` is the last of the page before.

    That a list is newest first is rarely documented: it counts only if this very page, all of it too old, shows it.
    """
    known = [time for time in times if time is not None]
    if since is None or len(known) < len(times) or not known or max(known) >= since:
        return False
    whole = known if before is None else [before, *known]
    return whole[0] > whole[-1] and all(earlier >= later for earlier, later in pairwise(whole))


def oldest_first(found: Iterable[RemoteBatch], *, since: datetime | None = None) -> list[RemoteBatch]:
    """Each batch once, by time of creation, unknown times last; none that is known to be older than `since`.

    A list shifts while it is read, so that a batch may come on two pages.
    """
    latest = datetime.max.replace(tzinfo=UTC)
    young = {
        remote.remote_id: remote
        for remote in found
        if since is None or remote.created is None or remote.created >= since
    }
    return sorted(young.values(), key=lambda remote: (remote.created or latest, remote.remote_id))
