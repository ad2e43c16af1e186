"""Providers that cannot be had for a while, each kind in turn, while another goes on: a revoked key, a service that is down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx2
import pytest

from gateway.records import BatchState
from gateway.sandbox import Fault, FaultKind, Operation, SandboxSettings
from tests.integration.crowd import accepted, batched, begin, calling, crowded_town, finish, lines, repeats, wrong
from tests.integration.town import Town

COUNT = 3
#: Batches that run for as long as a test does not put the clock forward.
LONG = SandboxSettings(validating_seconds=0.0, running_seconds=60.0, finalizing_seconds=0.0)
#: What is asked of the neighbour while the others cannot be had.
MEANWHILE = {0: " And meanwhile?"}


async def ready(here: Town) -> Mapping[str, Sequence[str]]:
    """What the gateway says of itself, to anybody."""
    async with httpx2.AsyncClient(base_url=str(here.client.base_url).removesuffix("v1/")) as http:
        response = await http.get("/readyz")
    assert response.status_code == 200
    told: Mapping[str, Sequence[str]] = response.json()
    return told


async def running(here: Town) -> None:
    """Return when every kind with batches has its batch."""

    async def there() -> bool:
        here.gateway.batcher.flush()
        rows = await here.gateway.ledger.batches.listed()
        return {row.lane.provider for row in rows if row.state is BatchState.SUBMITTED} >= {
            part.kind for part in here.cast if part.provider_class.batch
        }

    await here.until(there)


def break_all_but(here: Town, neighbour: str, fault: Fault) -> set[str]:
    """Order a fault everywhere but at one kind; returns where."""
    broken = set(here.simulators) - {neighbour}
    for kind in broken:
        here.simulators[kind].faults.order(fault)
    return broken


def mend(here: Town) -> None:
    """All faults are over."""
    for simulator in here.simulators.values():
        simulator.faults.clear()


@pytest.mark.parametrize(
    ("operation", "neighbour"), [(Operation.POLL, "openai"), (Operation.FETCH, "mistral"), (None, "gemini")]
)
async def test_a_key_revoked_while_batches_run_loses_nothing(
    tmp_path: Path, operation: Operation | None, neighbour: str
) -> None:
    """Requests stay, each provider is shown as unauthorised, another is not disturbed; with the key comes every answer, once."""
    async with crowded_town(tmp_path, calling(operation), LONG) as here:
        asked = begin(here, COUNT)
        await accepted(here, COUNT * len(here.simulators))
        await running(here)
        broken = break_all_but(here, neighbour, Fault(kind=FaultKind.REVOKED, operation=operation))

        async def shown() -> bool:
            rows = await here.gateway.ledger.batches.listed()
            parked = {row.lane.provider for row in rows if "unauthorised" in (row.parked_reason or "").lower()}
            return parked == broken == set((await ready(here))["unauthorised_providers"])

        await here.until(shown, jump_seconds=5)
        others = await finish(here, begin(here, 1, kinds=[neighbour], words=MEANWHILE))
        assert not asked.done()
        mend(here)
        answers = await finish(here, asked)

        assert await wrong(here, answers, tmp_path) == await wrong(here, others, tmp_path, MEANWHILE) == []
        assert await lines(here) == {kind: COUNT + (kind == neighbour) for kind in here.simulators}
        assert await repeats(here) == dict.fromkeys(here.simulators, 0)
        assert (await ready(here))["unauthorised_providers"] == []


@pytest.mark.parametrize(
    ("kind", "when"), [(FaultKind.STATUS, "before"), (FaultKind.CUT, "before"), (FaultKind.CUT, "while")]
)
async def test_a_provider_that_is_down_is_waited_for(tmp_path: Path, kind: FaultKind, when: str) -> None:
    """Every call fails before its batch is made, or while it runs: nobody is told, another goes on, and it is paid once."""
    async with crowded_town(tmp_path, batched(), LONG) as here:
        asked = begin(here, COUNT)
        await accepted(here, COUNT * len(here.simulators))
        if when == "while":
            await running(here)
        calls = {name: sum(each.ledger.calls.values()) for name, each in here.simulators.items()}
        broken = break_all_but(here, "groq", Fault(kind=kind, status=503, times=None))

        async def turned_away() -> bool:
            here.gateway.batcher.flush()
            return all(sum(here.simulators[name].ledger.calls.values()) >= calls[name] + 2 for name in broken)

        await here.until(turned_away, jump_seconds=5)
        others = await finish(here, begin(here, 1, kinds=["groq"], words=MEANWHILE))
        assert not asked.done()
        mend(here)
        answers = await finish(here, asked)

        assert await wrong(here, answers, tmp_path) == await wrong(here, others, tmp_path, MEANWHILE) == []
        assert await lines(here) == {name: COUNT + (name == "groq") for name in here.simulators}
        assert await repeats(here) == dict.fromkeys(here.simulators, 0)
