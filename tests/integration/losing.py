"""Which call to a provider is lost how, and which test shows that nothing comes of it: the matrix, made of what is ordered.

`STYLES` says what is ordered in the whole-gateway passes of `test_lost_responses.py`; `ELSEWHERE` names the tests of what is
lost in another place or another way. `matrix()` puts them together: a cell without a test is an operation that nobody loses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from gateway.sandbox import Fault, FaultKind, Operation
from tests.integration.crowd import batched
from tests.integration.town import Town


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """One way to lose a call."""

    name: str
    kind: FaultKind
    when: str
    status: int = 500

    def fault(self, operation: Operation, skip: int = 0) -> Fault:
        """The order that loses the call of an operation behind so many others."""
        return Fault(kind=self.kind, operation=operation, when=self.when, status=self.status, skip=skip)  # type: ignore[arg-type]


STYLES = (
    Style(name="acts-and-cuts", kind=FaultKind.CUT, when="after"),
    Style(name="acts-and-500", kind=FaultKind.STATUS, when="after", status=500),
    Style(name="acts-and-503", kind=FaultKind.STATUS, when="after", status=503),
    Style(name="acts-and-cuts-half-way", kind=FaultKind.CUT, when="during"),
    Style(name="cuts", kind=FaultKind.CUT, when="before"),
    Style(name="503", kind=FaultKind.STATUS, when="before", status=503),
)
#: Lost one after the other: the first call, then the second of the next try, and so on: each HTTP step of an upload once.
STEPS: Mapping[Operation, int] = MappingProxyType(
    {
        Operation.UPLOAD: 4,
        Operation.CREATE: 1,
        Operation.LIST: 2,
        Operation.POLL: 3,
        Operation.FETCH: 3,
        Operation.DISCARD: 2,
    }
)
ONE_PASS = "tests/integration/test_lost_responses.py::test_every_call_of_a_batch_can_be_lost"
CANCELS = "tests/integration/test_lost_responses.py::test_a_cancel_that_is_lost"
COMPLETIONS = "tests/integration/test_lost_responses.py::test_a_completion_that_is_lost"
#: Tests of other files, by operation: what they lose besides.
ELSEWHERE: Mapping[tuple[Operation, str], Sequence[str]] = MappingProxyType(
    {
        (Operation.CREATE, "500, and nothing was created"): [
            "tests/integration/test_provider_creates.py::test_a_create_that_never_acted_is_sent_again"
        ],
        (Operation.CREATE, "two batches with one marker"): [
            "tests/integration/test_provider_creates.py::test_two_batches_of_one_create_are_told_apart"
        ],
        (Operation.CREATE, "429 with Retry-After"): [
            "tests/integration/test_provider_creates.py::test_a_create_that_comes_too_fast_waits_as_it_was_told"
        ],
        (Operation.LIST, "shows it late, within the quarantine"): [
            "tests/integration/test_provider_creates.py::test_a_lost_batch_that_lists_show_late_is_waited_for"
        ],
        (Operation.LIST, "shows it after the quarantine"): [
            "tests/integration/test_windows.py::test_a_list_that_lags_longer_than_the_quarantine"
        ],
        (Operation.POLL, "404 after create"): [
            "tests/integration/test_lost_responses.py::test_a_batch_that_polls_do_not_know_yet"
        ],
        (Operation.POLL, "500 three times"): [
            "tests/integration/test_provider_hitches.py::test_lost_polls_and_downloads_mean_nothing"
        ],
        (Operation.FETCH, "rows doubled, lost, broken, foreign, empty"): [
            "tests/integration/test_provider_faults.py::test_damaged_rows_harm_nobody"
        ],
        (Operation.COMPLETE, "cut after it acted, 5xx"): [
            "tests/integration/test_fanout.py::test_a_lost_answer_is_asked_for_again"
        ],
    }
)


def matrix() -> Mapping[tuple[Operation, str], Sequence[str]]:
    """Which tests lose which call how."""
    ours = {(operation, style.name): [test] for style in STYLES for operation, test in _tests()}
    return {**ours, **ELSEWHERE}


def _tests() -> Iterator[tuple[Operation, str]]:
    for operation in STEPS:
        yield operation, ONE_PASS
    yield Operation.CANCEL, CANCELS
    yield Operation.COMPLETE, COMPLETIONS


def table() -> str:
    """The matrix for a person: `python -m tests.integration.losing`."""
    rows = (f"| {operation} | {way} | {', '.join(tests)} |" for (operation, way), tests in sorted(matrix().items()))
    kinds = ", ".join(part.kind for part in batched())
    return "\n".join([f"Each for {kinds}.", "", "| call | lost how | test |", "|---|---|---|", *rows])


def lose(here: Town, style: Style, steps: Mapping[Operation, int] = STEPS) -> None:
    """Order that each of these calls be lost, at every kind."""
    for simulator in here.simulators.values():
        for operation, most in steps.items():
            for skip in range(most):
                simulator.faults.order(style.fault(operation, skip))


def escaped(here: Town, steps: Mapping[Operation, int] = STEPS) -> list[tuple[str, Operation]]:
    """Where an operation was called, and no call of it was lost."""
    found = []
    for kind, simulator in here.simulators.items():
        left = [fault.operation for fault in simulator.faults.pending().values()]
        found += [
            (kind, operation)
            for operation, most in steps.items()
            if simulator.ledger.calls[operation] and left.count(operation) == most
        ]
    return found


if __name__ == "__main__":
    print(table())  # noqa: T201 - for a person
