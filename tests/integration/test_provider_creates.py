"""Create calls that go wrong at every kind of provider: each line is in one live batch, also where no marker tells whose."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.sandbox import Fault, FaultKind, Operation
from gateway.store.shipping import BatchRow
from tests.integration.crowd import answered, batched, crowded_town, lines, order, repeats, wrong
from tests.integration.house import patient
from tests.integration.town import Town

COUNT = 4


async def batches(here: Town) -> dict[str, BatchRow]:
    """The one batch of each kind."""
    found = await here.gateway.ledger.batches.listed()
    assert len(found) == len(here.simulators)
    return {batch.lane.provider: batch for batch in found}


@pytest.mark.parametrize("kind", [FaultKind.CUT, FaultKind.STATUS])
async def test_a_create_whose_response_is_lost_is_not_repeated(tmp_path: Path, kind: FaultKind) -> None:
    """The batch was made and nobody was told: it is found by its marker, or proven by its line ids, and paid once."""
    async with crowded_town(tmp_path, batched()) as here:
        order(here, Fault(kind=kind, operation=Operation.CREATE, when="after", status=503))
        answers = await answered(here, COUNT)

        assert await wrong(here, answers, tmp_path) == []
        assert await lines(here) == dict.fromkeys(here.simulators, COUNT)
        assert await repeats(here) == dict.fromkeys(here.simulators, 0)
        tries = {name: (row.ambiguous, row.submissions) for name, row in (await batches(here)).items()}
        assert tries == dict.fromkeys(here.simulators, (True, 1))


async def test_two_batches_of_one_create_are_told_apart(tmp_path: Path) -> None:
    """One lost call made two batches: one is kept and answers everybody, the other is counted, also where no marker names it."""
    async with crowded_town(tmp_path, batched()) as here:
        order(here, Fault(kind=FaultKind.TWICE))
        order(here, Fault(kind=FaultKind.CUT, operation=Operation.CREATE, when="after"))
        answers = await answered(here, COUNT)
        counted = here.gateway.metrics.render().decode()

        assert await wrong(here, answers, tmp_path) == []
        assert await lines(here) == dict.fromkeys(here.simulators, COUNT * 2)
        copies = [f'batchway_duplicate_batches_total{{provider="{kind}"}} 1.0' for kind in here.simulators]
        assert [each for each in copies if each not in counted] == []


async def test_a_lost_batch_that_lists_show_late_is_waited_for(tmp_path: Path) -> None:
    """The response is lost and the list does not show the batch for a while: within the quarantine nothing is sent again."""
    async with crowded_town(tmp_path, batched(), retries=patient(quarantine_seconds=900.0)) as here:
        order(here, Fault(kind=FaultKind.LIST_LAG, seconds=300.0))
        order(here, Fault(kind=FaultKind.CUT, operation=Operation.CREATE, when="after"))
        answers = await answered(here, COUNT)

        assert await wrong(here, answers, tmp_path) == []
        assert await lines(here) == dict.fromkeys(here.simulators, COUNT)
        assert await repeats(here) == dict.fromkeys(here.simulators, 0)


@pytest.mark.parametrize("kind", [FaultKind.CUT, FaultKind.STATUS])
async def test_a_create_that_never_acted_is_sent_again(tmp_path: Path, kind: FaultKind) -> None:
    """The call was lost before it acted: lists that show nothing say so, and the same batch is sent again, once."""
    async with crowded_town(tmp_path, batched()) as here:
        order(here, Fault(kind=kind, operation=Operation.CREATE, when="before", status=500))
        answers = await answered(here, COUNT)

        assert await wrong(here, answers, tmp_path) == []
        assert await lines(here) == dict.fromkeys(here.simulators, COUNT)
        tries = {name: (row.ambiguous, row.submissions) for name, row in (await batches(here)).items()}
        assert tries == dict.fromkeys(here.simulators, (True, 2))


async def test_a_create_that_comes_too_fast_waits_as_it_was_told(tmp_path: Path) -> None:
    """429 with `Retry-After`: the batch stays sealed for as long, then is sent again, and nothing is in doubt."""
    async with crowded_town(tmp_path, batched()) as here:
        order(here, Fault(kind=FaultKind.STATUS, operation=Operation.CREATE, status=429, retry_after=120.0))
        began = here.clock.now()
        answers = await answered(here, COUNT)
        made = [(kind, batch) for kind, each in here.simulators.items() for batch in each.store.batches.values()]

        assert await wrong(here, answers, tmp_path) == []
        assert await lines(here) == dict.fromkeys(here.simulators, COUNT)
        tries = {name: (row.ambiguous, row.submissions) for name, row in (await batches(here)).items()}
        assert tries == dict.fromkeys(here.simulators, (False, 2))
        assert [kind for kind, batch in made if batch.created < began + 120.0] == []
