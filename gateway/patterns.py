"""Regular expressions of strangers: found in a text, or not told, but never at a price that grows without bound. Pure.

Floor 1. Python's `re` tries one way to match after the other and holds the interpreter meanwhile: a pattern of ten
characters can stop the whole process for years. So what a pattern may cost is worked out from its parse tree first, and
one that may be dear is not tried.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeAlias

#: A part of a pattern as Python's own parser has it, which has no annotations.
Parsed: TypeAlias = Any

#: What one search may cost at most: some ten milliseconds.
MOST_STEPS = 1_000_000
#: Longer patterns are not read.
LONGEST_PATTERN = 1_000
#: A part that may match in several ways is repeated so often at most.
_MOST_COPIES = 16
#: Where these stand in a set, Python warns that they may mean something else some day.
_AMBIGUOUS = ("[[", "[^[", "--", "&&", "~~", "||")


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """What matching costs at most: operations on each way, and how many ways there are.

    Each of `spans` is a repeat, and the most times it may do more than it must; `math.inf`: as often as the text is long.
    """

    operations: int = 1
    ways: int = 1
    spans: tuple[float, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether there is one way at most."""
        return self.ways == 1 and not self.spans

    def steps(self, length: int) -> float:
        """What it costs to match a text of `length`, begun at one place."""
        return self.operations * self.ways * math.prod(min(span, length) + 1 for span in self.spans)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Whether a pattern was found, and what that may have cost."""

    found: bool
    steps: int


class Unread(Exception):
    """A pattern has a part whose cost is not known."""


def search(pattern: str, text: str) -> Found | None:
    """Whether `pattern` is found anywhere in `text`; None: it cannot be read, or it could take too long."""
    known = _known(pattern)
    if known is None:
        return None
    compiled, growth, starts_anywhere = known
    steps = growth.steps(len(text)) * (len(text) + 1 if starts_anywhere else 1)
    if steps > MOST_STEPS:
        return None
    return Found(found=compiled.search(text) is not None, steps=int(steps))


@lru_cache(maxsize=256)
def _known(pattern: str) -> tuple[re.Pattern[str], Growth, bool] | None:
    if len(pattern) > LONGEST_PATTERN or any(words in pattern for words in _AMBIGUOUS):
        return None
    try:
        # Python's own parser, which is not public: where it is gone, or speaks otherwise, no pattern is tried.
        tree = importlib.import_module("re._parser").parse(pattern)
        anchored = bool(tree) and str(tree[0][1]) == "AT_BEGINNING" and not tree.state.flags & re.MULTILINE
        growth = _in_turn(tree)
        return (re.compile(pattern), growth, not anchored) if growth.steps(0) <= MOST_STEPS else None
    except Exception:  # noqa: BLE001 - other dialects, deep nesting: what cannot be read is not tried
        return None


def _in_turn(sequence: Iterable[tuple[object, Parsed]]) -> Growth:
    """Of parts that follow each other."""
    parts = [_part(str(code), argument) for code, argument in sequence]
    return Growth(
        operations=1 + sum(part.operations for part in parts),
        ways=math.prod(part.ways for part in parts),
        spans=tuple(span for part in parts for span in part.spans),
    )


def _part(code: str, argument: Parsed) -> Growth:
    known = _PARTS.get(code)
    if known is None:
        raise Unread(code)
    return known(argument)


def _one(_: object) -> Growth:
    return Growth()


def _group(argument: Parsed) -> Growth:
    *_, inner = argument
    return _in_turn(inner)


def _branches(argument: Parsed) -> Growth:
    _, branches = argument
    grown = [_in_turn(branch) for branch in branches]
    return Growth(
        operations=max(branch.operations for branch in grown),
        ways=sum(branch.ways for branch in grown),
        spans=tuple(span for branch in grown for span in branch.spans),
    )


def _repeat(argument: Parsed) -> Growth:
    least, most, inner = argument
    body = _in_turn(inner)
    limit = math.inf if str(most) == "MAXREPEAT" else int(most)
    own = (limit - least,) if limit > least else ()
    if body.plain:
        return Growth(operations=body.operations * max(1, int(least)), spans=own)
    if limit > _MOST_COPIES:
        raise Unread("a repeat of something that matches in several ways")
    copies = int(limit)
    return Growth(operations=body.operations * copies, ways=body.ways**copies, spans=body.spans * copies + own)


_PARTS: Mapping[str, Callable[[Parsed], Growth]] = MappingProxyType(
    {
        **dict.fromkeys(("LITERAL", "NOT_LITERAL", "ANY", "IN", "AT"), _one),
        "SUBPATTERN": _group,
        "BRANCH": _branches,
        "MAX_REPEAT": _repeat,
        "MIN_REPEAT": _repeat,
    }
)
