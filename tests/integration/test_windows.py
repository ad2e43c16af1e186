"""The windows in which nobody can know what a provider did: each costs one duplicate batch at most, counted, and no answer.

The letters are those of the promises: (a) a create that arrives after the quarantine, (b) a list that lags longer than it,
(c) another process that deletes our batch or takes our marker, (d) a stranger's batch of our size whose results are gone,
(e) a ledger that was restored from an older backup.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.config import Retries
from gateway.pipeline import janitor, reconciler, submitter
from gateway.pipeline.collector import collecting
from gateway.records import BatchState
from gateway.sandbox import Fault, FaultKind, Operation, SandboxSettings, Simulator, StoredBatch
from gateway_openai.sandbox import OpenAISimulator
from tests.integration.callers import HELD_BACK
from tests.integration.callers import begin as ask
from tests.integration.crowd import accepted, batched, begin, crowded_town, finish, lines, order, repeats, wrong
from tests.integration.house import House, open_house, patient
from tests.integration.town import Town

COUNT = 3
#: Batches that run for as long as a test does not put the clock forward.
LONG = SandboxSettings(validating_seconds=0.0, running_seconds=3_000.0, finalizing_seconds=0.0)
SOON = patient(quarantine_seconds=60.0)
LOST = Fault(kind=FaultKind.CUT, operation=Operation.CREATE, when="after")
NEVER_SENT = Fault(kind=FaultKind.CUT, operation=Operation.CREATE, when="before")
LATE = Fault(kind=FaultKind.LIST_LAG, seconds=900.0)


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for time that the test's clock has put forward."""
    for worker in (submitter, reconciler, collecting, janitor):
        monkeypatch.setattr(worker, "TICK_SECONDS", 0.2)


def copied(simulator: Simulator, batch: StoredBatch, **changes: object) -> StoredBatch:
    """One more batch of the same lines, made now."""
    number = simulator.store.next_number()
    fresh: dict[str, object] = {"id": simulator.new_batch_id(), "number": number, "created": simulator.clock.now()}
    return simulator.store.put_batch(replace(batch, results=None, checked=False, **(fresh | changes)))  # type: ignore[arg-type]


async def sent_twice(here: Town) -> None:
    """Return when every kind has its batch at the second try."""

    async def there() -> bool:
        here.gateway.batcher.flush()
        rows = await here.gateway.ledger.batches.listed()
        done = [row for row in rows if row.state is BatchState.SUBMITTED and row.submissions == 2]
        return len(done) == len(here.simulators)

    await here.until(there, jump_seconds=20)


async def one_duplicate_each(here: Town, but_uncounted: Sequence[str] = ()) -> None:
    """Every kind has two batches of the same lines, and the second is counted, and billed to nobody."""
    counted = here.gateway.metrics.render().decode()
    told = [kind for kind in here.simulators if kind not in but_uncounted]
    copies = [f'batchway_duplicate_batches_total{{provider="{kind}"}} 1.0' for kind in told]
    assert [each for each in copies if each not in counted] == []
    assert await lines(here) == dict.fromkeys(here.simulators, 2 * COUNT)
    assert await repeats(here) == dict.fromkeys(here.simulators, COUNT)
    bills = await here.gateway.ledger.bills.totals()
    assert {each.provider: each.requests for each in bills} == dict.fromkeys(here.simulators, COUNT)


async def test_a_create_that_arrives_after_the_quarantine(tmp_path: Path) -> None:
    """(a) The lost call acts after its batch was sent again: answers come once, and a copy that bears our marker is counted."""
    # Without a marker a copy that still runs when ours has ended may be anybody's: it is let be.
    async with crowded_town(tmp_path, batched(), LONG, retries=SOON) as here:
        order(here, NEVER_SENT)
        asked = begin(here, COUNT)
        await accepted(here, COUNT * len(here.simulators))
        await sent_twice(here)
        for simulator in here.simulators.values():
            copied(simulator, next(reversed(simulator.store.batches.values())))
        answers = await finish(here, asked, jump_seconds=60)

        assert await wrong(here, answers, tmp_path) == []
        await one_duplicate_each(
            here, but_uncounted=[part.kind for part in here.cast if not part.provider_class.marked]
        )


async def test_a_list_that_lags_longer_than_the_quarantine(tmp_path: Path) -> None:
    """(b) Two empty listings lied: the batch is sent once more, and the first one is found, stopped and counted when it shows."""
    await lost_and_listed_late(tmp_path, SOON)


async def test_resubmit_costs_one_duplicate_for_each_doubt(tmp_path: Path) -> None:
    """`ambiguous = "resubmit"` believes one empty listing: where that lied, one batch more is paid, counted, and no other."""
    await lost_and_listed_late(tmp_path, patient(quarantine_seconds=900.0, ambiguous="resubmit"))


async def lost_and_listed_late(tmp_path: Path, retries: Retries) -> None:
    """Every kind loses the answer to a create and shows the batch only when it was sent again: one duplicate each."""
    async with crowded_town(tmp_path, batched(), LONG, retries=retries) as here:
        order(here, LATE, LOST)
        asked = begin(here, COUNT)
        await accepted(here, COUNT * len(here.simulators))
        await sent_twice(here)
        answers = await finish(here, asked, jump_seconds=60)

        assert await wrong(here, answers, tmp_path) == []
        await one_duplicate_each(here)


async def test_a_batch_that_somebody_deletes(tmp_path: Path) -> None:
    """(c) Another process deletes our only batch: after the quarantine it is sent once more, and everybody gets an answer."""
    async with crowded_town(tmp_path, batched(), LONG, retries=SOON) as here:
        asked = begin(here, COUNT)
        await accepted(here, COUNT * len(here.simulators))
        await submitted(here)
        for simulator in here.simulators.values():
            simulator.store.batches.clear()
        await sent_twice(here)
        answers = await finish(here, asked, jump_seconds=60)

        assert await wrong(here, answers, tmp_path) == []
        # Lines that the provider had not read yet when their batch was deleted were never on its record.
        assert set((await lines(here)).values()) <= {COUNT, 2 * COUNT}
        assert set((await repeats(here)).values()) <= {0, COUNT}


async def submitted(here: Town) -> None:
    """Return when every kind has its batch."""

    async def there() -> bool:
        here.gateway.batcher.flush()
        rows = await here.gateway.ledger.batches.listed()
        return len([row for row in rows if row.state is BatchState.SUBMITTED]) == len(here.simulators)

    await here.until(there)


async def test_a_batch_of_others_under_our_marker(tmp_path: Path) -> None:
    """(c) Somebody's batch bears the marker of our lost one: none of its answers reaches our callers, who get their own."""
    async with open_house(tmp_path, LONG, batching=HELD_BACK, retries=SOON) as house:
        theirs = ask(house, "What do they want to know?")
        await sealed(house, BatchState.SUBMITTED)
        house.simulator.faults.order(NEVER_SENT)
        house.simulator.faults.order(Fault(kind=FaultKind.STATUS, operation=Operation.LIST, status=503, times=2))
        ours = ask(house, "And what do we?")
        await sealed(house, BatchState.RECONCILING)
        [lost] = await house.gateway.ledger.batches.listed([BatchState.RECONCILING])
        [batch] = house.simulator.store.batches.values()
        copied(house.simulator, batch, metadata={"batchway": lost.marker})

        async def over() -> bool:
            house.clock.jump(120)
            house.gateway.batcher.flush()
            for each in house.simulator.store.batches:
                await house.simulator.finish(each)
            return ours.done() and theirs.done()

        await house.until(over, seconds=60)
        assert "what do we" in (await ours).text
        assert "they want" in (await theirs).text
        assert b'unknown_lines_total{provider="sim"} 1.0' in house.gateway.metrics.render()
        assert [times for times in (await house.simulator.submissions()).repeated.values() if times > 2] == []


async def sealed(house: House, state: BatchState) -> None:
    """Return when what waits has been sealed and a batch stands there."""

    async def there() -> bool:
        house.gateway.batcher.flush()
        return bool(await house.gateway.ledger.batches.listed([state]))

    await house.until(there)


async def test_a_strangers_batch_whose_results_are_gone(tmp_path: Path) -> None:
    """(d) Whether it was ours can never be known: nothing is sent again, the reason says what to do, and the requests expire."""
    cast = [part for part in batched() if not part.provider_class.marked]
    async with crowded_town(tmp_path, cast, retries=SOON) as here:
        first = await finish(here, begin(here, COUNT))
        for simulator in here.simulators.values():
            [known] = simulator.store.batches.values()
            strange = copied(simulator, known)
            gone = Fault(kind=FaultKind.STATUS, operation=Operation.FETCH, status=404, times=None, contains=strange.id)
            simulator.faults.order(gone)
        order(here, NEVER_SENT)
        words = dict.fromkeys(range(COUNT), " Again?")
        asked = begin(here, COUNT, words=words)
        await accepted(here, COUNT * len(here.simulators))

        async def held() -> bool:
            here.gateway.batcher.flush()
            rows = await here.gateway.ledger.batches.listed([BatchState.RECONCILING])
            return bool(rows) and all("batchway cancel --batch" in (row.parked_reason or "") for row in rows)

        await here.until(held, jump_seconds=60)
        answers = await finish(here, asked, jump_seconds=7_200)

        assert await wrong(here, first, tmp_path) == []
        assert {(told.status, told.code) for each in answers.values() for told in each} == {(504, "expired")}
        assert await lines(here) == dict.fromkeys(here.simulators, 2 * COUNT)


@pytest.mark.parametrize("moment", ["queued", "submitted"])
async def test_a_ledger_from_an_older_backup(tmp_path: Path, moment: str) -> None:
    """(e) What was answered then stays; what was on its way, or came later, is asked once more; and nobody is told wrong."""
    simulator = OpenAISimulator(clock=SystemClock(), name="sim", settings=LONG)
    live, backup = tmp_path / "live", tmp_path / "backup"
    async with open_house(live, simulator=simulator, batching=HELD_BACK, retries=SOON) as house:
        first = ask(house, "first")
        await sealed(house, BatchState.SUBMITTED)
        await finished(house, simulator)
        kept = ask(house, "kept")
        await waiting(house)
        if moment == "submitted":
            await sealed(house, BatchState.SUBMITTED)
        shutil.copytree(live, backup)
        await sealed(house, BatchState.SUBMITTED)
        await finished(house, simulator)
        later = ask(house, "later")
        await waiting(house)
        await sealed(house, BatchState.SUBMITTED)
        await finished(house, simulator)
        before = [(await each).text for each in (first, kept, later)]
    shutil.rmtree(live)
    shutil.copytree(backup, live)
    async with open_house(live, simulator=simulator, batching=HELD_BACK, retries=SOON) as house:
        again = [ask(house, text) for text in ("first", "kept", "later")]

        async def over() -> bool:
            house.clock.jump(120)
            house.gateway.batcher.flush()
            for each in simulator.store.batches:
                await simulator.finish(each)
            return all(each.done() for each in again)

        await house.until(over, seconds=60)
        assert [(await each).text for each in again] == before
    repeated = sorted((await simulator.submissions()).repeated.values())
    # What was with the provider is found there, and asked again only where its results have been deleted by then.
    assert repeated == [2, 2] or (moment == "submitted" and repeated == [2])


async def waiting(house: House) -> None:
    """Return when a caller waits."""

    async def there() -> bool:
        return len(house.gateway.waiters) > 0

    await house.until(there)


async def finished(house: House, simulator: OpenAISimulator) -> None:
    """Let every batch end, and return when all of them are collected."""

    async def over() -> bool:
        for each in simulator.store.batches:
            await simulator.finish(each)
        rows = await house.gateway.ledger.batches.listed()
        return all(row.state is BatchState.COLLECTED for row in rows)

    await house.until(over, seconds=60)
