"""How long a caller bears silence, read from its headers. Pure.

Source: what 28 configurations of real clients were seen to do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.config import Waiting

#: Grace for a caller that says nothing of its timeout, for one that tries again, and the least for anybody.
USUAL_GRACE_SECONDS = 4.0
RETRY_GRACE_SECONDS = 1.0
LEAST_GRACE_SECONDS = 0.5
#: No caller is told more often that it waits, whatever it announces.
LEAST_BEAT_SECONDS = 0.1
#: httpx gives up after 5 s of silence and does not say so.
HTTPX_SECONDS = 3.0
_HTTPX = re.compile(r"python-httpx\d*/", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a caller bears silence."""

    grace_seconds: float
    beat_seconds: float


def patience(headers: Mapping[str, str], retry: bool, waiting: Waiting) -> Patience:  # noqa: FBT001 - a fact, not a switch
    """What a caller's headers tell of its timeout: `x-stainless-*`, or a user agent whose default is known."""
    announced = _announced(headers)
    beat = waiting.heartbeat_seconds
    grace = USUAL_GRACE_SECONDS
    if announced is not None:
        grace, beat = announced / 2, min(beat, max(LEAST_BEAT_SECONDS, announced / 3))
    elif _HTTPX.match(headers.get("User-Agent", "")):
        grace, beat = HTTPX_SECONDS, min(beat, HTTPX_SECONDS)
    if retry:
        grace = min(grace, RETRY_GRACE_SECONDS)
    return Patience(grace_seconds=max(LEAST_GRACE_SECONDS, min(grace, waiting.grace_seconds)), beat_seconds=beat)


def _announced(headers: Mapping[str, str]) -> float | None:
    """The read timeout a client tells of itself; None for what is not a finite positive number."""
    for name in ("x-stainless-read-timeout", "x-stainless-timeout"):
        try:
            seconds = float(headers.get(name, ""))
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds > 0:
            return seconds
    return None
