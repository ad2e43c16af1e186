"""Pages by token, as Google's lists have them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from gateway.sandbox import page
from gateway.sandbox.paging import Named

Item = TypeVar("Item", bound=Named)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPage(Generic[Item]):
    """A part of a list; the token of the next part is empty at the end."""

    items: Sequence[Item]
    token: str


def page_of(items: Sequence[Item], query: Mapping[str, str], *, most: int) -> TokenPage[Item] | None:
    """The part that `pageSize` and `pageToken` ask for, larger sizes cut to `most`; None for a token that is none."""
    size = query.get("pageSize", "")
    limit = min(int(size), most) if size.isdecimal() and int(size) else 10
    token = query.get("pageToken", "")
    try:
        after = base64.urlsafe_b64decode(token.encode()).decode() if token else None
    except (binascii.Error, ValueError):
        return None
    part = page(items, after=after, limit=limit)
    if part is None:
        return None
    following = base64.urlsafe_b64encode(part.items[-1].id.encode()).decode() if part.has_more else ""
    return TokenPage(items=part.items, token=following)
