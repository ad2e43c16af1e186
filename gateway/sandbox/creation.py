"""What is decided when a batch is created: whether there is room for it, and how its life will go."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, replace

from gateway.sandbox.faults import Fault, FaultBook, FaultKind
from gateway.sandbox.records import Plan, Problem
from gateway.sandbox.settings import SandboxSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBatch:
    """What a create call asks for, after the simulator has checked it."""

    file_id: str
    endpoint: str
    model: str
    #: Bytes of its input.
    size: int
    metadata: dict[str, str] | None = None
    #: Lifetime of its result files.
    output_seconds: float | None = None
    #: The window that was asked for, where callers choose it; None: the simulator's own.
    window_seconds: float | None = None

    @property
    def tokens(self) -> int:
        """An estimate of its input tokens."""
        return self.size // 4


class Quota:
    """How many create calls the last hour has seen; forgotten with the process."""

    def __init__(self) -> None:
        self._creates: deque[float] = deque()

    def wait_seconds(self, limit: int | None, now: float) -> float:
        """For how long there is no room for another create; 0.0 when there is."""
        while self._creates and self._creates[0] <= now - 3600:
            self._creates.popleft()
        if limit is None or len(self._creates) < limit:
            return 0.0
        return self._creates[0] + 3600 - now if self._creates else 3600.0

    def spend(self, now: float) -> None:
        """One more create."""
        self._creates.append(now)


def make_plan(
    settings: SandboxSettings, faults: FaultBook, asked: NewBatch, *, number: int, now: float, crowded: bool
) -> Plan:
    """How batch `number` will go; uses up the faults that were ordered for it. `crowded`: no room for its tokens."""
    pace = 1 + settings.jitter * (2 * random.Random(f"{settings.seed} {number}").random() - 1)
    plan = Plan(
        validating_seconds=settings.validating_seconds * pace,
        running_seconds=settings.running_seconds * pace,
        finalizing_seconds=settings.finalizing_seconds * pace,
        cancelling_seconds=settings.cancelling_seconds,
        window_seconds=settings.window_seconds if asked.window_seconds is None else asked.window_seconds,
        listed_from=now + settings.list_lag_seconds,
        polled_from=now + settings.poll_lag_seconds,
        refusal=token_limit(asked.model) if crowded else None,
    )
    return _faulty(plan, faults, asked, now) if faults else plan


def ordered(faults: FaultBook, kind: FaultKind, asked: NewBatch, when: str | None = None) -> Fault | None:
    """The ordered fault of this kind that fits the create call, used up."""
    return faults.take(kind, when=when, text=str(asked.metadata)) if faults else None


def token_limit(model: str) -> Problem:
    """The refusal of a batch whose model has no room for its tokens."""
    message = f"Enqueued token limit reached for {model}. Please try again once some in_progress batches are completed."
    return Problem(code="token_limit_exceeded", message=message)


def _faulty(plan: Plan, faults: FaultBook, asked: NewBatch, now: float) -> Plan:
    if fault := ordered(faults, FaultKind.LIST_LAG, asked):
        plan = replace(plan, listed_from=now + fault.seconds)
    if fault := ordered(faults, FaultKind.POLL_LAG, asked):
        plan = replace(plan, polled_from=now + fault.seconds)
    if ordered(faults, FaultKind.TOKEN_LIMIT, asked, when="after"):
        plan = replace(plan, refusal=token_limit(asked.model))
    if fault := ordered(faults, FaultKind.REFUSED, asked):
        message = fault.message or "The sandbox was told to refuse this batch."
        plan = replace(plan, refusal=Problem(code=fault.code or "invalid_request", message=message))
    if ordered(faults, FaultKind.ENDLESS, asked):
        plan = replace(plan, endless=True)
    if fault := ordered(faults, FaultKind.EXPIRED, asked):
        plan = replace(plan, ending="expired", fraction=fault.fraction)
    if fault := ordered(faults, FaultKind.CANCELLED, asked):
        plan = replace(plan, ending="cancelled", fraction=fault.fraction)
    if fault := ordered(faults, FaultKind.ALL_FAILED, asked):
        plan = replace(plan, failing_status=fault.status)
    return plan
