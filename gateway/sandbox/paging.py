"""Lists in pages, as cursor APIs give them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Named(Protocol):
    """A record with an id, which is its cursor."""

    @property
    def id(self) -> str:
        """The id."""
        ...


Item = TypeVar("Item", bound=Named)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[Item]):
    """A part of a list, and whether there is more behind it."""

    items: Sequence[Item]
    has_more: bool


def page(items: Sequence[Item], *, after: str | None, limit: int) -> Page[Item] | None:
    """`limit` of `items` behind the one whose id is `after` (None: from the start); None when there is no such one."""
    start = 0
    if after is not None:
        places = [place for place, item in enumerate(items) if item.id == after]
        if not places:
            return None
        start = places[0] + 1
    return Page(items=items[start : start + limit], has_more=len(items) > start + limit)
