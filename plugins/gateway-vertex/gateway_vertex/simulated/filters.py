"""The list's filter language (AIP-160), as far as jobs have fields: comparisons, AND, OR, NOT, parentheses."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

#: Whether a job's own fields (`display_name`, `state`, `create_time`, `labels.KEY` ...) fit.
Test = Callable[[Mapping[str, str]], bool]

FIELDS = frozenset({"display_name", "model_display_name", "state", "create_time", "update_time", "has_error"})
_TOKEN = re.compile(r"""\s*(?:(\(|\))|(!=|<=|>=|=|:|<|>)|"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s()=:<>!"']+))""")
_ORDERS: Mapping[str, Callable[[str, str], bool]] = {
    "=": lambda known, wanted: known == wanted,
    "!=": lambda known, wanted: known != wanted,
    "<": lambda known, wanted: known < wanted,
    ">": lambda known, wanted: known > wanted,
    "<=": lambda known, wanted: known <= wanted,
    ">=": lambda known, wanted: known >= wanted,
    ":": lambda known, wanted: fnmatchcase(known, wanted) if "*" in wanted else wanted in known,
}


class BadFilter(ValueError):
    """The filter cannot be understood; its text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    kind: str
    text: str


@dataclass(slots=True, kw_only=True)
class _Reader:
    """A walk over the tokens, by precedence: OR binds closer than AND, as the guideline has it."""

    tokens: list[_Token]
    at: int = field(default=0)

    def all_of(self) -> Test:
        tests = [self.any_of()]
        while self.take("word", "AND") or (self.at < len(self.tokens) and not self.sees("paren", ")")):
            tests.append(self.any_of())
        return lambda job: all(test(job) for test in tests)

    def any_of(self) -> Test:
        tests = [self.one()]
        while self.take("word", "OR"):
            tests.append(self.one())
        return lambda job: any(test(job) for test in tests)

    def one(self) -> Test:
        if self.take("word", "NOT") or self.take("word", "-"):
            test = self.one()
            return lambda job: not test(job)
        if self.take("paren", "("):
            inner = self.all_of()
            if not self.take("paren", ")"):
                raise BadFilter("a parenthesis is not closed")
            return inner
        return self.comparison()

    def comparison(self) -> Test:
        name = self.next("word")
        if name not in FIELDS and not name.startswith("labels."):
            raise BadFilter(f"unknown field {name[:64]!r}")
        order = _ORDERS[self.next("order")]
        wanted = self.next("text", "word")
        if name == "state" and not wanted.startswith("JOB_STATE_"):
            raise BadFilter(f"no state is called {wanted[:64]!r}")
        return lambda job: name in job and order(job[name], wanted)

    def sees(self, kind: str, text: str) -> bool:
        return self.at < len(self.tokens) and self.tokens[self.at] == _Token(kind=kind, text=text)

    def take(self, kind: str, text: str) -> bool:
        seen = self.sees(kind, text)
        self.at += seen
        return seen

    def next(self, *kinds: str) -> str:
        if self.at >= len(self.tokens) or self.tokens[self.at].kind not in kinds:
            raise BadFilter(f"expected {' or '.join(kinds)} at token {self.at + 1}")
        self.at += 1
        return self.tokens[self.at - 1].text


def parse_filter(text: str) -> Test:
    """What `text` asks of a job; an empty one asks nothing. Raises `BadFilter`."""
    if not text.strip():
        return lambda _job: True
    reader = _Reader(tokens=_tokens(text))
    test = reader.all_of()
    if reader.at < len(reader.tokens):
        raise BadFilter("a parenthesis was never opened")
    return test


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        if found is None:
            raise BadFilter(f"character {at + 1} cannot be read")
        at = found.end()
        paren, order, double, single, word = found.groups()
        quoted = double if double is not None else single
        if quoted is not None:
            tokens.append(_Token(kind="text", text=re.sub(r"\\(.)", r"\1", quoted)))
        else:
            kind = "paren" if paren else "order" if order else "word"
            tokens.append(_Token(kind=kind, text=paren or order or word))
    return tokens
