"""What is asked in a case, what goes wrong at the provider, and what callers do in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from gateway.sandbox import Fault, FaultKind, Operation, SandboxSettings

#: A batch is seen running before it has ended: the clock is turned by less at a time.
SIMULATED = SandboxSettings(
    validating_seconds=0.0, running_seconds=8.0, finalizing_seconds=0.0, max_creates_per_hour=None
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request of a caller that does not give up: after a crash it asks again until it has an answer."""

    name: str
    #: Nobody else's text has it.
    text: str
    #: Its model, by the place in the scenario's two.
    lane: Literal[0, 1] = 0
    #: True: the caller waits for its answer without a name. False: it leaves the request under its name, and asks later.
    waits: bool = False
    times: int = 1
    #: The status of every right ending.
    ends: tuple[int, ...] = (200,)
    #: Cancelled by its caller as soon as it has come so far.
    cancel: Literal["", "queued", "sealed", "submitted"] = ""
    #: Asked when the one of this name has ended.
    after: str = ""
    #: Not asked of a kind without batches, where it would be a race.
    batched: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One story. `certain`: whatever dies, the same lines are paid in the end.

    The clock is turned by `step_seconds`, less than a boot's lease, when nothing is under way.
    """

    name: str
    questions: tuple[Question, ...]
    faults: tuple[Fault, ...] = ()
    simulated: SandboxSettings = SIMULATED
    poll_seconds: float = 2.0
    step_seconds: float = 10.0
    certain: bool = True
    #: Whether a kind without batches has it too.
    single: bool = False

    def of(self, *, batch: bool) -> Scenario:
        """As it is for a kind with or without batches."""
        return self if batch else replace(self, questions=tuple(each for each in self.questions if not each.batched))


def _fault(kind: FaultKind, operation: Operation | None = None, **more: object) -> Fault:
    return Fault(kind=kind, operation=operation, **more)  # type: ignore[arg-type]


WALK = Scenario(
    name="walk",
    questions=(
        Question(name="first", text="The first of the walk?"),
        Question(name="second", text="The second of the walk?"),
        Question(name="waits", text="Who waits?", waits=True),
        Question(name="waits-too", text="Who else waits?", waits=True, lane=1),
        Question(name="fails-once", text="Who fails once? [sandbox: status=500 times=1]"),
        Question(name="fails", text="Who fails? [sandbox: status=400]", ends=(400,)),
        Question(name="pair", text="Which two?", times=2, lane=1),
        Question(name="not-wanted", text="Who is not wanted?", cancel="queued", ends=(410,), batched=True),
        Question(name="last", text="The last of the walk?", after="first"),
    ),
    # Half of the first batch is done when it expires.
    faults=(_fault(FaultKind.EXPIRED, fraction=0.5),),
    single=True,
)

TROUBLE = Scenario(
    name="trouble",
    questions=(
        Question(name="one", text="The first in trouble?"),
        Question(name="two", text="The second in trouble?", waits=True),
        Question(name="three", text="The third in trouble?"),
        # Later: of a batch that is refused for them nothing is run, and so nothing is paid twice.
        Question(name="poison", text="Who is poison? [sandbox: poison line=no]", ends=(400,), after="one"),
        Question(name="beside", text="Who is beside the poison?", after="one"),
    ),
    faults=(
        _fault(FaultKind.STATUS, Operation.UPLOAD, status=503),
        # Nobody knows, and it is not there; certainly not created; too many tokens; nobody knows, and it is there.
        _fault(FaultKind.STATUS, Operation.CREATE, status=500),
        _fault(FaultKind.STATUS, Operation.CREATE, status=429),
        _fault(FaultKind.TOKEN_LIMIT, when="before"),
        _fault(FaultKind.CUT, Operation.CREATE, when="after"),
        _fault(FaultKind.STATUS, Operation.LIST, status=503),
        _fault(FaultKind.STATUS, Operation.POLL, status=503),
        _fault(FaultKind.CUT, Operation.FETCH, when="during"),
    ),
    # A new batch is shown late: one empty list proves nothing.
    simulated=replace(SIMULATED, list_lag_seconds=12.0, poll_lag_seconds=5.0),
)

CANCEL = Scenario(
    name="cancel",
    questions=(
        Question(name="unsent", text="Who is not sent?", cancel="sealed", ends=(200, 410)),
        Question(name="stopped", text="Who is stopped?", cancel="submitted", ends=(200, 410), after="unsent"),
        Question(name="stopped-too", text="Who is stopped too?", cancel="submitted", ends=(200, 410), after="unsent"),
        Question(name="stays", text="Who stays?", lane=1, after="unsent"),
        Question(
            name="beats-it",
            text="Who is answered all the same?",
            lane=1,
            cancel="submitted",
            ends=(200, 410),
            after="unsent",
        ),
    ),
    # Long enough for the janitor to come round, and for a batch to be cancelled while it runs.
    faults=(_fault(FaultKind.STATUS, Operation.UPLOAD, status=503, times=3),),
    simulated=SandboxSettings(
        validating_seconds=0.0, running_seconds=60.0, finalizing_seconds=0.0, max_creates_per_hour=None
    ),
    # The janitor comes round before the next poll, which would see by itself that nobody wants the batch.
    poll_seconds=29.0,
    step_seconds=7.0,
    certain=False,
)

SCENARIOS: Mapping[str, Scenario] = MappingProxyType({each.name: each for each in (WALK, TROUBLE, CANCEL)})
