"""Reading JSON that somebody else wrote: what is not of the type that is needed is as good as not there. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

_NOTHING: Mapping[str, object] = {}


def mapping(content: object) -> Mapping[str, object]:
    """`content` if it is an object, else an empty one."""
    return content if isinstance(content, dict) else _NOTHING


def items(content: object) -> Sequence[object]:
    """`content` if it is an array, else an empty one."""
    return content if isinstance(content, list) else ()


def text(content: object) -> str | None:
    """`content` if it is a string that is not empty."""
    return content if isinstance(content, str) and content else None


def count(content: object) -> int | None:
    """A number from 0, also one written as a string, as int64 is in this API."""
    if isinstance(content, str) and content.isascii() and content.isdecimal() and len(content) < 19:
        return int(content)
    return content if isinstance(content, int) and not isinstance(content, bool) and content >= 0 else None


def number(content: object) -> float | None:
    """A finite number."""
    if isinstance(content, bool) or not isinstance(content, int | float):
        return None
    try:
        return float(content) if math.isfinite(content) else None
    except OverflowError:
        return None


def moment(content: object) -> datetime | None:
    """A time in RFC 3339; None when it is none."""
    if not isinstance(content, str):
        return None
    try:
        read = datetime.fromisoformat(content)
    except ValueError:
        return None
    return read if read.tzinfo is not None else read.replace(tzinfo=UTC)
