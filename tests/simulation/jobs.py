"""A batch as the provider has it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from gateway.errors import ProviderError


@dataclass(kw_only=True)
class Line:
    """One line of a remote batch."""

    line_id: str
    model: str
    prompt: str
    #: When it is finished, if the batch lives so long.
    finished_at: float
    #: 200, an error's status, or 0: it has no row that can be read.
    status: int
    garbled: bool = False
    rows: int = 1


@dataclass(kw_only=True)
class Job:
    """A batch as the provider has it."""

    remote_id: str
    marker: str
    #: Requests of the gateway, by line.
    seqs: tuple[int, ...]
    lines: list[Line]
    #: When its create was sent, and when it was made.
    sent_at: float
    created: float
    due: float
    expires: float
    visible_from: float
    pollable_from: float
    #: Made by a create that made another one too.
    twin: bool = False
    foreign: bool = False
    cancelled_at: float = math.inf
    refusal: ProviderError | None = None
    strangers_rows: int = 0
    #: Lines that were not done when it ended have no row at all.
    silent: bool = False

    @property
    def ends_at(self) -> float:
        """When it is over, as things stand."""
        return min(self.due, self.expires, self.cancelled_at)

    def done(self, now: float) -> list[Line]:
        """Lines that are finished by `now`."""
        until = min(now, self.ends_at)
        return [line for line in self.lines if line.finished_at <= until]

    def named(self) -> bool:
        """Whether some row of its results names a line."""
        done = [line.finished_at <= self.ends_at for line in self.lines]
        readable = any(line.status and not line.garbled for line, ready in zip(self.lines, done, strict=True) if ready)
        return readable or not (all(done) or self.silent)

    def billed(self, now: float) -> list[Line]:
        """Lines that are paid for: answered, in a row that can be read."""
        if self.refusal is not None or self.foreign:
            return []
        return [line for line in self.done(now) if line.status == 200 and not line.garbled]


@dataclass(kw_only=True)
class Pending:
    """A create that is on its way."""

    arrives: float
    make: Callable[[], None]
    marker: str
    seqs: tuple[int, ...]
    sent_at: float
