"""What a check comes to: one line, and what to do about it."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Status(enum.StrEnum):
    """How bad it is."""

    OK = "ok"
    #: Worth knowing; nothing has to be done now.
    NOTE = "note"
    #: Something is wrong, and the operator is asked to do something.
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the doctor's."""

    status: Status
    #: What was looked at.
    check: str
    #: What was found, in one sentence.
    said: str
    #: What to do about it; empty: nothing.
    advice: str = ""


def ok(check: str, said: str) -> Finding:
    """Nothing is wrong."""
    return Finding(status=Status.OK, check=check, said=said)


def note(check: str, said: str, advice: str = "") -> Finding:
    """Worth knowing."""
    return Finding(status=Status.NOTE, check=check, said=said, advice=advice)


def problem(check: str, said: str, advice: str) -> Finding:
    """Something is wrong."""
    return Finding(status=Status.PROBLEM, check=check, said=said, advice=advice)


def lasting(seconds: float) -> str:
    """A length of time as a person says it."""
    seconds = max(0.0, seconds)
    for size, word in ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {word}"
    return f"{seconds:.0f} s"


def sized(count: float) -> str:
    """Bytes as a person says them."""
    for size, word in ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")):
        if count >= size:
            return f"{count / size:.1f} {word}"
    return f"{count:.0f} bytes"
