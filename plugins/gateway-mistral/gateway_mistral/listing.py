"""Finding our job in the workspace's list, which comes in numbered pages that do not say where they end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from gateway import Ambiguous, Batch, Retryable
from gateway.listing import Page
from gateway.reading import mapping
from gateway.records import is_marker
from gateway_mistral.remote import input_files

#: The metadata key that carries the marker. Filters of a list travel as bare query parameters, so no parameter may be
#: called like it.
MARKER_KEY = "batchway"
#: Jobs asked for at once; the default and, as far as is known, the most.
PAGE = 100


class Numbered:
    """One reading of the list, as pages that `gateway.listing` follows."""

    def __init__(self, ask: Callable[[int], Awaitable[Mapping[str, object]]]) -> None:
        """`ask` asks for the page of a number, from 0."""
        self._ask = ask
        self._known: set[str] = set()

    async def page(self, after: str | None) -> Page:
        """The page numbered `after`. The last is the one without a job, or without a new one where `total` says so too.

        Raises `Retryable` when a page says nothing new and nothing says that it is the last.
        """
        number = int(after or 0)
        content = await self._ask(number)
        items = listed(content)
        fresh = {str(item.get("id")) for item in items} - self._known
        self._known |= fresh
        if not items or (not fresh and self._is_whole(content)):
            return Page(items=items, after=None)
        if not fresh:
            raise Retryable("list: the same page came twice")
        return Page(items=items, after=str(number + 1))

    def _is_whole(self, content: Mapping[str, object]) -> bool:
        """Whether all that there is has been seen, by a `total` that is asked only where pages do not end by themselves."""
        total = content.get("total")
        return isinstance(total, int) and len(self._known) >= total


def is_ours(job: Mapping[str, object], batch: Batch) -> bool:
    """Whether a listed job carries the marker of `batch`, or was made of its file."""
    if mapping(job.get("metadata")).get(MARKER_KEY) == batch.marker:
        return True
    return batch.file_id is not None and batch.file_id in input_files(job)


def marker_of(job: Mapping[str, object]) -> str | None:
    """The marker that a listed job carries; None: it is nobody's of our kind."""
    word = mapping(job.get("metadata")).get(MARKER_KEY)
    return word if is_marker(word) else None


def listed(page: Mapping[str, object]) -> Sequence[Mapping[str, object]]:
    """The jobs of one page of a list. Raises `Ambiguous` when it is no page."""
    items = page.get("data")
    if items is None and page.get("object") == "list":
        return []
    if not isinstance(items, list):
        raise Ambiguous("the answer is not a list of jobs")
    return [item for item in items if isinstance(item, dict)]
