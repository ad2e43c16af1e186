"""Words in a prompt that make its line fail, so that a user can rehearse from the client's side.

`[sandbox: WORD WORD=VALUE ...]` anywhere in a message, for instance `[sandbox: status=429 times=1]`;
`docs/sandbox.md` lists all of them. Nothing else of the simulator looks at what a prompt says.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

#: What every line that holds a directive contains; looking for it is all that other lines pay.
MAGIC = b"[sandbox:"

#: Words that stand alone.
WORDS = frozenset(
    {
        *("poison", "refusal", "timeout", "expired"),
        *("missing", "duplicate", "malformed", "unknown-id", "invalid-utf8", "status-0", "no-choices"),
    }
)

_PATTERN = re.compile(rb"\[sandbox:([^\]\"\\]{1,200})\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Directive:
    """What one line was told to do."""

    #: One of `WORDS`, or empty.
    word: str = ""
    #: The line fails with this status.
    status: int | None = None
    #: Only so many times for the same body; None: always.
    times: int | None = None
    #: A poisoned line is named by its number.
    numbered: bool = True


@dataclass(slots=True, kw_only=True)
class Tries:
    """How often a directive with `times` has struck, by the hash of the body; forgotten with the process."""

    struck: Counter[str] = field(default_factory=Counter)

    def strikes(self, told: Directive, name: str) -> bool:
        """Whether it strikes now; counted when it does."""
        if told.times is None:
            return True
        if self.struck[name] >= told.times:
            return False
        self.struck[name] += 1
        return True


def directive(line: bytes) -> Directive | None:
    """The first directive in a raw input line; None when there is none that can be understood."""
    found = _PATTERN.search(line)
    if found is None:
        return None
    word, options = "", {}
    for part in found.group(1).decode("ascii", "replace").split():
        key, equals, value = part.partition("=")
        if equals:
            options[key] = value
        elif key in WORDS:
            word = key
    status = _number(options.get("status"))
    if status is None and not word:
        return None
    numbered = options.get("line") not in ("no", "none", "off")
    return Directive(word=word, status=status, times=_number(options.get("times")), numbered=numbered)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 7 else None
