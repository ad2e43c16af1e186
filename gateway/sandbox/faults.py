"""Faults to order: what shall go wrong, where, and how often.

A fault is ordered on a simulator (`simulator.faults.order(...)`, or `POST /_sandbox/faults`) and used up by what it
hits.
"""

from __future__ import annotations

import enum
import itertools
from dataclasses import dataclass, replace
from typing import Literal


class Operation(enum.StrEnum):
    """What a caller of a simulated API does; each is counted, and faults are ordered by it."""

    UPLOAD = "upload"
    CREATE = "create"
    POLL = "poll"
    LIST = "list"
    FETCH = "fetch"
    CANCEL = "cancel"
    DISCARD = "discard"
    COMPLETE = "complete"


class FaultKind(enum.StrEnum):
    """Everything that can be made to go wrong."""

    #: Any operation: wait `seconds` first.
    DELAY = "delay"
    #: Any operation: answer `status`, with `when` before or after acting.
    STATUS = "status"
    #: Any operation: cut the connection, before or after acting; `during`: half of the answer, or of the file, is sent.
    CUT = "cut"
    #: Any operation, for ever unless `times` says otherwise: 401, the key has been revoked.
    REVOKED = "revoked"
    #: Upload: a create call cannot find the file for `seconds`.
    FILE_LAG = "file_lag"
    #: Create: the batch is missing from lists for `seconds`.
    LIST_LAG = "list_lag"
    #: Create: the batch is unknown to polls for `seconds`.
    POLL_LAG = "poll_lag"
    #: Create: two batches are made of one call; the answer names the second.
    TWICE = "twice"
    #: Create: the batch fails in validation with `code` and `message`, and no line number.
    REFUSED = "refused"
    #: Create: too many tokens; before: the call says so (400), after: the batch fails in validation.
    TOKEN_LIMIT = "token_limit"  # noqa: S105 - not a password
    #: Create: the batch never ends.
    ENDLESS = "endless"
    #: Create: the batch expires at the end of its run with `fraction` of its lines done.
    EXPIRED = "expired"
    #: Create: somebody else cancels the batch when `fraction` of its lines is done.
    CANCELLED = "cancelled"
    #: Create: every line fails with `status`, and there is no file of answers.
    ALL_FAILED = "all_failed"
    #: Lines whose text has `contains`: fail with `status`; once per line.
    LINE = "line"
    #: The next result file, `rows` of its rows each: written twice.
    ROW_DUPLICATE = "row_duplicate"
    #: ... left out.
    ROW_MISSING = "row_missing"
    #: ... no JSON.
    ROW_MALFORMED = "row_malformed"
    #: ... under a name that nobody sent.
    ROW_UNKNOWN_ID = "row_unknown_id"
    #: ... with bytes that are no UTF-8.
    ROW_INVALID_UTF8 = "row_invalid_utf8"
    #: ... with status 0.
    ROW_STATUS_0 = "row_status_0"
    #: ... with status 200 and no choices.
    ROW_NO_CHOICES = "row_no_choices"
    #: The next result file: its last row is cut in the middle.
    LAST_ROW_TRUNCATED = "last_row_truncated"
    #: The next result file: its second half is gone.
    FILE_TRUNCATED = "file_truncated"


#: Faults of single rows; simulators name the two whose look depends on the wire format themselves.
ROW_FAULTS = frozenset(kind for kind in FaultKind if kind.startswith("row_"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One order. Fields that a kind does not mention are ignored by it."""

    kind: FaultKind
    #: None: every operation (delay, status, cut, revoked); the others know their own.
    operation: Operation | None = None
    #: How often it strikes; None: for ever.
    times: int | None = 1
    #: How many calls that it would fit pass before it strikes.
    skip: int = 0
    when: Literal["before", "after", "during"] = "before"
    status: int = 500
    code: str | None = None
    message: str | None = None
    #: Seconds in the `Retry-After` header; None: no header.
    retry_after: float | None = None
    seconds: float = 0.0
    #: How many rows of one result file.
    rows: int = 1
    fraction: float = 0.5
    #: Only where the line, the create call's metadata or the path contains this text.
    contains: str = ""


class FaultBook:
    """The orders that have not been used up, oldest first."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._orders: dict[int, Fault] = {}

    def order(self, fault: Fault) -> int:
        """Put `fault` in the book; the number can be given to `withdraw`."""
        number = next(self._numbers)
        if fault.kind is FaultKind.REVOKED:
            fault = replace(fault, status=401, code="invalid_api_key", times=None)
        self._orders[number] = fault
        return number

    def withdraw(self, number: int) -> None:
        """Forget one order; nothing happens when it has been used up."""
        self._orders.pop(number, None)

    def clear(self) -> None:
        """Forget all orders."""
        self._orders.clear()

    def pending(self) -> dict[int, Fault]:
        """What is still to come."""
        return dict(self._orders)

    def take(
        self, kind: FaultKind, *, operation: Operation | None = None, when: str | None = None, text: str = ""
    ) -> Fault | None:
        """The oldest order that fits, one time less from now on; None when nothing was ordered."""
        for number, fault in self._orders.items():
            if fault.kind is not kind or (when is not None and fault.when != when) or fault.contains not in text:
                continue
            if operation is None or fault.operation in (None, operation):
                if fault.skip:
                    self._orders[number] = replace(fault, skip=fault.skip - 1)
                    return None
                self._spend(number, fault)
                return fault
        return None

    def __bool__(self) -> bool:
        return bool(self._orders)

    def _spend(self, number: int, fault: Fault) -> None:
        if fault.times is None:
            return
        if fault.times > 1:
            self._orders[number] = replace(fault, times=fault.times - 1)
        else:
            del self._orders[number]
