"""The gateway is stopped in every state of a batch, or dies, and is started again: every answer right, each line once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.config import Batching
from gateway.records import BatchState
from gateway.sandbox import Fault, FaultKind, Operation, SandboxSettings
from gateway.store.boots import Boots
from gateway.store.database import Params
from gateway_openai.sandbox import OpenAISimulator
from tests.integration.callers import HELD_BACK, begin, waiting
from tests.integration.house import QUICK, House, open_house

TEXTS = [f"question {number}" for number in range(5)]
Ready = Callable[[House], Awaitable[bool]]


@pytest.fixture
def simulator() -> OpenAISimulator:
    """A provider that outlives the gateway."""
    return OpenAISimulator(clock=SystemClock(), name="sim", settings=QUICK)


def in_state(state: BatchState, *, parked: bool = False) -> Ready:
    """Whether there is one batch, and it stands there."""

    async def ready(house: House) -> bool:
        batches = await house.gateway.ledger.batches.listed()
        return [(batch.state, batch.parked_reason is not None) for batch in batches] == [(state, parked)]

    return ready


async def interrupted(
    directory: Path,
    simulator: OpenAISimulator,
    ready: Ready,
    *,
    prepare: Callable[[House], None] | None = None,
    texts: list[str] = TEXTS,
    **sections: object,
) -> None:
    """Ask, and stop the gateway under its callers as soon as `ready`."""
    async with open_house(directory, simulator=simulator, **sections) as house:  # type: ignore[arg-type]
        if prepare is not None:
            prepare(house)
        asked = [begin(house, text) for text in texts]
        await house.until(lambda: ready(house))
    await asyncio.gather(*asked, return_exceptions=True)


async def resumed(
    directory: Path, simulator: OpenAISimulator, texts: list[str] = TEXTS, *, parked: bool = True
) -> None:
    """Start again, ask again: everybody gets its own answer, and every line was paid once."""
    simulator.faults.clear()
    async with open_house(directory, simulator=simulator) as house:
        asked = asyncio.gather(*(house.ask(text) for text in texts))
        if parked:
            await house.skip_until(asked)
        answers = await asked
        assert [answer.status for answer in answers] == [200] * len(texts)
        assert all(text in answer.text for text, answer in zip(texts, answers, strict=True))
        assert await house.lines() == len(texts)
        assert await house.wasted_and_billed() == (0, len(texts))


def hanging(house: House, write: str, after: int = 0) -> None:
    """From its `after`-th call on, one write on batches never comes to its end, as in a process that dies before it."""
    original = getattr(house.gateway.ledger.batches, write)
    calls = 0

    async def hang(*arguments: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        return await (asyncio.Event().wait() if calls > after else original(*arguments, **named))

    setattr(house.gateway.ledger.batches, write, hang)


async def test_queued_requests_survive(tmp_path: Path, simulator: OpenAISimulator) -> None:
    """Requests that wait in their window when the gateway stops are sent by the next one."""

    async def queued(house: House) -> bool:
        return len(house.gateway.waiters) == len(TEXTS)

    await interrupted(tmp_path, simulator, queued, batching=HELD_BACK)
    await resumed(tmp_path, simulator)


async def test_a_sealed_batch_survives(tmp_path: Path, simulator: OpenAISimulator) -> None:
    """A batch that could not be uploaded yet is uploaded by the next start."""
    simulator.faults.order(Fault(kind=FaultKind.STATUS, operation=Operation.UPLOAD, status=503, times=None))

    await interrupted(tmp_path, simulator, in_state(BatchState.SEALED, parked=True))
    await resumed(tmp_path, simulator)


async def test_a_create_cut_short_by_the_stop_is_found_out_about(tmp_path: Path, simulator: OpenAISimulator) -> None:
    """A create call that is under way when the gateway stops is neither believed nor repeated before it has been looked for."""
    simulator.faults.order(Fault(kind=FaultKind.DELAY, operation=Operation.CREATE, seconds=60))

    await interrupted(tmp_path, simulator, in_state(BatchState.SUBMITTING))
    async with open_house(tmp_path, simulator=simulator, batching=HELD_BACK) as house:
        await house.until(lambda: in_state(BatchState.RECONCILING, parked=True)(house))
    await resumed(tmp_path, simulator)


async def test_a_create_that_acted_and_was_not_written_down_is_adopted(
    tmp_path: Path, simulator: OpenAISimulator
) -> None:
    """The provider has made the batch, the gateway ended before it could write so: it is found by its marker."""
    await interrupted(
        tmp_path, simulator, in_state(BatchState.SUBMITTING), prepare=lambda house: hanging(house, "submitted")
    )
    await resumed(tmp_path, simulator)

    assert (await simulator.submissions()).batches == 1


async def test_a_lost_create_is_adopted_by_the_next_start(tmp_path: Path, simulator: OpenAISimulator) -> None:
    """A create whose answer was lost, and that could not be looked for before the stop, is found after it."""
    simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.CREATE, when="after"))
    simulator.faults.order(Fault(kind=FaultKind.STATUS, operation=Operation.LIST, status=500, times=None))

    await interrupted(tmp_path, simulator, in_state(BatchState.RECONCILING, parked=True))
    await resumed(tmp_path, simulator)

    assert (await simulator.submissions()).batches == 1


async def test_a_remote_batch_runs_on_without_us(tmp_path: Path) -> None:
    """A batch that is at work at the provider is taken up again, not sent again."""
    slow = SandboxSettings(validating_seconds=0.0, running_seconds=1.0, finalizing_seconds=0.0)
    simulator = OpenAISimulator(clock=SystemClock(), name="sim", settings=slow)

    await interrupted(tmp_path, simulator, in_state(BatchState.SUBMITTED))
    await resumed(tmp_path, simulator)

    assert (await simulator.submissions()).batches == 1


async def test_an_ended_batch_is_fetched_by_the_next_start(tmp_path: Path, simulator: OpenAISimulator) -> None:
    """Results that could not be downloaded before the stop are downloaded after it."""
    simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.FETCH, when="during", times=None))

    async def ended(house: House) -> bool:
        return [batch.state for batch in await house.gateway.ledger.batches.listed()] == [BatchState.ENDED]

    await interrupted(tmp_path, simulator, ended)
    await resumed(tmp_path, simulator)


async def test_a_half_collected_batch_is_collected_to_its_end(tmp_path: Path, simulator: OpenAISimulator) -> None:
    """Stopped after the first chunk of results: those are kept, the others are read again, none is booked twice."""
    texts = [f"question {number}" for number in range(1_200)]

    async def half(house: House) -> bool:
        return await house.wasted_and_billed() == (0, 500)

    await interrupted(
        tmp_path, simulator, half, prepare=lambda house: hanging(house, "settle", after=1), texts=texts,
        batching=Batching(window_seconds=5.0, idle_seconds=0.5),
    )  # fmt: skip
    await resumed(tmp_path, simulator, texts, parked=False)


@pytest.mark.parametrize("run", ["", "/run/one"])
@pytest.mark.parametrize("buried", [True, False])
async def test_after_a_crash_identical_calls_find_their_samples(
    tmp_path: Path, simulator: OpenAISimulator, monkeypatch: pytest.MonkeyPatch, run: str, *, buried: bool
) -> None:
    """A hundred calls take the places of a hundred that died waiting, before and after those are buried, and pay none twice."""

    async def nothing(*_: object) -> int:
        return 0

    async with open_house(tmp_path, simulator=simulator, batching=HELD_BACK) as house:
        asked = [begin(house, "dice", run=run) for _ in range(100)]
        await waiting(house, 100)
        # What a dead process commits.
        house.gateway.waiters.fold = nothing  # type: ignore[method-assign, assignment]
    await asyncio.gather(*asked, return_exceptions=True)
    if not buried:
        monkeypatch.setattr(Boots, "bury", nothing)
    async with open_house(tmp_path, simulator=simulator) as house:
        if buried:
            await house.until(lambda: _dead_boots_are_gone(house))
        answers = await asyncio.gather(*(house.ask("dice", run=run) for _ in range(100)))

        assert len({str(answer.body["id"]) for answer in answers}) == 100
        assert await house.lines() == 100


async def _dead_boots_are_gone(house: House) -> bool:
    database = house.gateway.ledger.database
    params: Params = {"boot": house.gateway.ledger.boot, "now": house.clock.now(), "limit": 1}
    return not await database.read(lambda session: session.rows("dead_boots", params))
