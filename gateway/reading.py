"""Reading JSON that somebody else wrote: what is not of the type that is needed is as good as not there. Pure.

Floor 1. For authors of plugins: batches, jobs and files as providers describe them. For rows of result files see `gateway.rows`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import orjson

from gateway.errors import Ambiguous

__all__ = ["count", "items", "mapping", "moment", "number", "parse_object", "text"]

#: All counts are less.
_MOST = 10**15


def parse_object(content: bytes | str) -> dict[str, object]:
    """`content` as a JSON object. Raises `Ambiguous` when it is none: something answered, nobody knows what it did."""
    try:
        parsed = orjson.loads(content)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        parsed = None
    if not isinstance(parsed, dict):
        raise Ambiguous("the answer is not a JSON object")
    return parsed


def mapping(content: object) -> Mapping[str, object]:
    """`content` if it is an object, else an empty one."""
    return content if isinstance(content, dict) else {}


def items(content: object) -> Sequence[object]:
    """`content` if it is an array, else an empty one."""
    return content if isinstance(content, list) else ()


def text(content: object) -> str | None:
    """`content` if it is a string that is not empty."""
    return content if isinstance(content, str) and content else None


def count(content: object) -> int | None:
    """A number from 0, also one written as a string, as int64 is in some APIs.

    One that nobody can have counted to is unknown: an unsigned number that ran below zero is more than a ledger can hold.
    """
    if isinstance(content, str) and content.isascii() and content.isdecimal() and len(content) < 19:
        content = int(content)
    return content if isinstance(content, int) and not isinstance(content, bool) and 0 <= content < _MOST else None


def number(content: object) -> float | None:
    """A finite number."""
    if isinstance(content, bool) or not isinstance(content, int | float):
        return None
    try:
        return float(content) if math.isfinite(content) else None
    except OverflowError:
        return None


def moment(content: object) -> datetime | None:
    """A time in ISO form (without a zone: UTC), or as unix seconds, also written as text; None when it is neither."""
    try:
        if isinstance(content, str) and content.isascii() and content.isdecimal():
            content = int(content)
        if isinstance(content, int | float) and not isinstance(content, bool) and content > 0:
            return datetime.fromtimestamp(content, UTC)
        if isinstance(content, str):
            read = datetime.fromisoformat(content)
            return read if read.tzinfo is not None else read.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None
