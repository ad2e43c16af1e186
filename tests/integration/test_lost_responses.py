"""Every call to a provider is lost, in every way, at every kind: each caller gets its own answer, and it is paid once.

One gateway with all kinds at once; `losing.py` has the matrix.
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from gateway.cli.demo.cast import parts
from gateway.endings import cancelled
from gateway.pipeline import janitor, reconciler, submitter
from gateway.pipeline.collector import collecting
from gateway.records import BatchState, RequestState
from gateway.sandbox import Fault, FaultKind, Operation, SandboxSettings
from tests.integration.crowd import (
    accepted,
    answered,
    batched,
    begin,
    crowded_town,
    finish,
    lines,
    order,
    repeats,
    wrong,
)
from tests.integration.house import patient
from tests.integration.losing import ELSEWHERE, STEPS, STYLES, Style, escaped, lose, matrix
from tests.integration.town import Town

COUNT = 3
#: Batches that run for as long as a test does not put the clock forward.
LONG = SandboxSettings(validating_seconds=0.0, running_seconds=3_000.0, finalizing_seconds=0.0)
#: A rest between cancelled and over, in which a cancel can be lost and asked for again.
SLOW_END = SandboxSettings(
    validating_seconds=0.0, running_seconds=3_000.0, finalizing_seconds=0.0, cancelling_seconds=30.0
)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for time that the test's clock has put forward."""
    for worker in (submitter, reconciler, collecting, janitor):
        monkeypatch.setattr(worker, "TICK_SECONDS", 0.2)


async def bill(here: Town) -> dict[str, tuple[int, int, int]]:
    """By kind: requests that were paid for, lines that were booked, and lines among them that nobody can use."""
    bills = await here.gateway.ledger.bills.totals()
    return {each.provider: (each.requests, each.lines, each.wasted_lines) for each in bills}


async def settled(here: Town) -> None:
    """Return when every batch is collected and nothing of it is left at its provider."""

    async def over() -> bool:
        rows = await here.gateway.ledger.batches.listed()
        return all(row.state is BatchState.COLLECTED and row.discarded for row in rows)

    await here.until(over, jump_seconds=20)


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
async def test_every_call_of_a_batch_can_be_lost(tmp_path: Path, style: Style) -> None:
    """Uploads in each step, create, lists, polls, downloads and deletions: every answer is right, and every line billed once."""
    async with crowded_town(tmp_path, batched(), retries=patient(quarantine_seconds=60.0)) as here:
        lose(here, style)
        answers = await answered(here, COUNT)
        await settled(here)

        assert escaped(here) == []
        assert await wrong(here, answers, tmp_path) == []
        assert await lines(here) == dict.fromkeys(here.simulators, COUNT)
        assert await repeats(here) == dict.fromkeys(here.simulators, 0)
        assert await bill(here) == dict.fromkeys(here.simulators, (COUNT, COUNT, 0))
        rows = await here.gateway.ledger.batches.listed()
        assert Counter(row.lane.provider for row in rows) == dict.fromkeys(here.simulators, 1)


async def test_a_batch_that_polls_do_not_know_yet(tmp_path: Path) -> None:
    """404 for a while after its creation, at every kind: a lost poll, and nothing is sent again."""
    async with crowded_town(tmp_path, batched(), retries=patient(quarantine_seconds=900.0)) as here:
        order(here, Fault(kind=FaultKind.POLL_LAG, seconds=120.0))
        answers = await answered(here, COUNT)

        assert await wrong(here, answers, tmp_path) == []
        assert await lines(here) == dict.fromkeys(here.simulators, COUNT)
        rows = await here.gateway.ledger.batches.listed()
        assert {(row.lane.provider, row.submissions, row.ambiguous) for row in rows} == {
            (kind, 1, False) for kind in here.simulators
        }


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
async def test_a_cancel_that_is_lost(tmp_path: Path, style: Style) -> None:
    """Nobody wants a running batch any more, and the cancel call is lost: it is asked again, and every request ends cancelled."""
    async with crowded_town(tmp_path, batched(), SLOW_END) as here:
        lose(here, style, {Operation.CANCEL: 2})
        asked = begin(here, COUNT)
        await accepted(here, COUNT * len(here.simulators))
        await all_running(here)
        for row in await here.gateway.ledger.batches.listed():
            await here.gateway.ledger.batches.cancel_members(row.id, cancelled(), here.clock.now())
        answers = await finish(here, asked)
        await settled(here)

        assert escaped(here, {Operation.CANCEL: 2}) == []
        assert {(told.status, told.code) for each in answers.values() for told in each} == {(410, "cancelled")}
        assert await lines(here) == dict.fromkeys(here.simulators, COUNT)
        requests = await here.gateway.ledger.requests.listed(None, limit=1_000)
        assert {request.state for request in requests} == {RequestState.CANCELLED}


async def all_running(here: Town) -> None:
    """Return when every kind has its batch."""

    async def there() -> bool:
        here.gateway.batcher.flush()
        rows = await here.gateway.ledger.batches.listed()
        return {row.lane.provider for row in rows if row.state is BatchState.SUBMITTED} == set(here.simulators)

    await here.until(there)


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
async def test_a_completion_that_is_lost(tmp_path: Path, style: Style) -> None:
    """A provider without batches keeps no list: what was lost is asked again, and that is all that is asked twice."""
    cast = [part for part in parts([]) if not part.provider_class.batch]
    async with crowded_town(tmp_path, cast) as here:
        order(here, style.fault(Operation.COMPLETE), style.fault(Operation.COMPLETE, skip=1))
        answers = await finish(here, begin(here, COUNT))

        assert escaped(here, {Operation.COMPLETE: 2}) == []
        assert await wrong(here, answers, tmp_path) == []
        for simulator in here.simulators.values():
            assert simulator.ledger.calls[Operation.COMPLETE] == COUNT + 2


def test_every_call_is_lost_in_every_way() -> None:
    """The matrix has no hole, and names only tests that there are."""
    lost = {operation for operation, _ in matrix()}
    assert lost == set(Operation)
    for operation in Operation:
        assert {way for each, way in matrix() if each is operation} >= {style.name for style in STYLES}
    assert set(STEPS) | {Operation.CANCEL, Operation.COMPLETE} == set(Operation)
    assert [test for tests in matrix().values() for test in tests if not _exists(test)] == []
    assert len(ELSEWHERE) > 0


def _exists(test: str) -> bool:
    path, _, name = test.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
