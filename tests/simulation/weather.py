"""Everything that can go wrong on the way to the provider and back, and how likely it is."""

from __future__ import annotations

import enum
from dataclasses import dataclass

#: Words that begin a prompt and decide what becomes of its line.
POISON, POISON_NAMED, POISON_LATE, BAD, FLAKY, HOPELESS = (
    "poison",
    "named poison",
    "late poison",
    "bad",
    "flaky",
    "hopeless",
)


class Fault(enum.StrEnum):
    """What may happen to one call."""

    #: The connection is refused: nothing was sent.
    DOWN = "down"
    #: 429 with Retry-After.
    BUSY = "busy"
    #: 5xx, and nothing was done.
    BROKEN = "broken"
    #: 5xx, and it was done.
    BROKEN_AFTER = "broken after"
    #: The connection is reset before the request arrives.
    LOST = "lost"
    #: It was done, and the response is lost.
    LOST_AFTER = "lost after"
    #: No answer ever; nothing was done.
    HANG = "hang"
    #: No answer ever; it was done.
    HANG_AFTER = "hang after"
    #: The connection is reset, and the request arrives later.
    LATE = "late"
    #: One create makes two batches.
    TWIN = "twin"
    #: As `TWIN`, and the response is lost.
    TWIN_LOST = "twin lost"
    #: The plugin raises what it must not.
    BUG = "bug"
    #: The key is refused.
    KEY = "key"
    #: 404.
    MISSING = "missing"
    #: A download breaks off with an error.
    CUT = "cut"
    #: A download breaks off without one.
    SHORT = "short"


@dataclass(frozen=True, kw_only=True)
class Weather:
    """How likely what is; all zero: a fine day."""

    #: That a call meets one of the faults that it can meet.
    faults: float = 0.0
    #: The same, of creates alone, if that is more.
    create_faults: float = 0.0
    #: Seconds until a new batch is listed, and until it can be asked for, at most.
    lag: float = 0.0
    #: Seconds by which a `LATE` create comes late, at most.
    late: float = 0.0
    #: That a line is answered with 429 or 500, is missing, or is garbled.
    bad_lines: float = 0.0
    #: That a line has two rows, or a stranger's row stands beside it.
    odd_rows: float = 0.0
    #: That a batch never ends, that it is refused after all, that it is gone for good.
    endless: float = 0.0
    refused: float = 0.0
    #: That a batch ends as expired with a part done.
    expired: float = 0.0
    #: Batches of others, of the same size, in the same account.
    strangers: float = 0.0


CREATE_FAULTS = (
    Fault.DOWN, Fault.BUSY, Fault.BROKEN, Fault.BROKEN_AFTER, Fault.LOST, Fault.LOST_AFTER, Fault.HANG, Fault.HANG_AFTER,
    Fault.LATE, Fault.TWIN, Fault.TWIN_LOST, Fault.BUG,
)  # fmt: skip
FAULTS = {
    "submit": CREATE_FAULTS,
    "upload": (Fault.DOWN, Fault.BUSY, Fault.LOST, Fault.LOST_AFTER, Fault.HANG, Fault.BUG),
    "find": (Fault.DOWN, Fault.BUSY, Fault.LOST, Fault.HANG, Fault.BUG),
    "poll": (Fault.DOWN, Fault.BUSY, Fault.LOST, Fault.HANG, Fault.BUG, Fault.MISSING),
    "fetch": (Fault.DOWN, Fault.BUSY, Fault.CUT, Fault.SHORT, Fault.HANG, Fault.BUG, Fault.MISSING),
    "cancel": (Fault.DOWN, Fault.LOST, Fault.LOST_AFTER, Fault.HANG_AFTER, Fault.BUG),
    "discard": (Fault.DOWN, Fault.HANG, Fault.BUG),
    "complete": (Fault.DOWN, Fault.BUSY, Fault.LOST, Fault.LOST_AFTER, Fault.HANG, Fault.HANG_AFTER, Fault.BUG),
}
