"""Where a provider takes little at a time, its lanes have it in turn, those that have waited longest first."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.config import Batching, ProviderTable
from gateway.dissolving import dissolve
from gateway.endings import failure
from gateway.errors import Retryable
from gateway.pipeline import batcher
from gateway.pipeline.batcher import LOOKS_AT_ONCE, Due, NotYet
from gateway.records import BatchState
from gateway.store.lanes import WINDOWS_AT_ONCE
from gateway.store.rows import Arrival, LaneKey
from gateway.store.shipping import BatchRow, Cut, Window
from gateway.testing import FakeClock, FakeRemote
from tests.unit.pipeline.rig import CHAT, Rig, arrival, open_rig

#: Whatever is queued for so long is due, whatever is under way.
PROMPT = Batching(window_seconds=30, max_window_seconds=30)


def asking(text: str, model: str = "m", provider: str = "fake", tokens: int = 100) -> Arrival:
    """A call of the lane of `model` at `provider`."""
    return replace(arrival(text, tokens), lane=LaneKey(provider=provider, endpoint=CHAT, model=model))


async def over(rig: Rig, batch: BatchRow) -> None:
    """The batch makes room again."""
    claimed = await rig.ledger.batches.claim_one(batch.id)
    assert claimed is not None
    endings = dict.fromkeys(range(batch.count), failure("attempts_exhausted", "no answer"))
    await rig.ledger.batches.dissolve(claimed, rig.clock.now(), endings)


async def test_no_lane_starves_beside_a_busy_one(tmp_path: Path) -> None:
    """A model that has always something due does not keep another's requests waiting: the second batch is the other's."""
    async with open_rig(tmp_path, {"max_open_batches": 1}) as rig:
        batcher, served = rig.batcher(PROMPT), list[str]()
        await rig.admit("first")
        await rig.ledger.requests.admit([asking("other", "other")])
        for number in range(4):
            await rig.admit(f"next {number}")
            await rig.clock.advance(31)
            await batcher.tick()
            (batch,) = await rig.batches(BatchState.SEALED)
            served.append(batch.lane.model)
            await over(rig, batch)
        assert served == ["m", "other", "m", "m"]


@pytest.mark.parametrize("seed", range(4))
async def test_every_lane_is_served_within_a_bound(seed: int, tmp_path: Path) -> None:
    """Under any load, whoever is due sees each other lane served once at most before its own turn comes."""
    chance = random.Random(seed)
    places, models = chance.randint(1, 3), [f"m{number}" for number in range(chance.randint(2, 5))]
    async with open_rig(tmp_path, {"max_open_batches": places}) as rig:
        batcher, passed, known, number = rig.batcher(PROMPT), defaultdict[str, Counter[str]](Counter), 0, 0
        for _ in range(30):
            for model in models:
                count = chance.choice([0, 0, 1, 1, 7]) if model != models[0] else 3
                arrivals = [asking(f"{(number := number + 1)}", model) for _ in range(count)]
                await rig.ledger.requests.admit(arrivals)
            await rig.clock.advance(31)
            due = {window.lane.model for window in await rig.ledger.lanes.windows()}
            await batcher.tick()
            batches = await rig.batches()
            served, known = [batch.lane.model for batch in batches[known:]], len(batches)
            for model in due - set(served):
                passed[model].update(served)
                assert not passed[model] or max(passed[model].values()) == 1, (model, passed[model])
            for model in served:
                passed[model].clear()
            for batch in await rig.batches(BatchState.SEALED):
                if chance.random() < 0.5:
                    await over(rig, batch)
        assert known > 10


@pytest.mark.parametrize("first", ["broken", "fine"])
async def test_a_model_that_is_always_refused_keeps_no_other_waiting(first: str, tmp_path: Path) -> None:
    """Requests that come back as old as they were do not go before all others again and again."""
    async with open_rig(tmp_path, {"max_open_batches": 1}) as rig:
        batcher, served = rig.batcher(PROMPT), list[str]()
        for model in sorted(["broken", "fine"], key=lambda model: model != first):
            await rig.ledger.requests.admit([asking(f"first of {model}", model)])
            await rig.clock.advance(1)
        for number in range(8):
            await rig.ledger.requests.admit([asking(f"{number}", "fine")])
            await rig.clock.advance(31)
            await batcher.tick()
            (batch,) = await rig.batches(BatchState.SEALED)
            served.append(batch.lane.model)
            if batch.lane.model == "fine":
                await over(rig, batch)
            elif claimed := await rig.ledger.batches.claim_one(batch.id):
                await dissolve(rig.upstream, claimed, Retryable("the model is overloaded"))
        assert served == [first, {"broken": "fine", "fine": "broken"}[first]] * 4


def tables(remote: FakeRemote, limits: Mapping[str, object]) -> dict[str, ProviderTable]:
    """Two tables of one account."""
    own = {"api_key": "fake-key", "remote": remote}
    return {
        name: ProviderTable(name=name, kind="fake", account="acme", settings=own, limits=limits)
        for name in ("east", "west")
    }


async def test_a_large_request_does_not_starve_beside_small_ones(tmp_path: Path) -> None:
    """A request that needs nearly all the tokens of an account is not passed for ever by small ones of another table."""
    clock = FakeClock()
    both = tables(FakeRemote(clock=clock), {"max_enqueued_tokens": 1_000})
    async with open_rig(tmp_path, tables=both, clock=clock) as rig:
        batcher, flying = rig.batcher(PROMPT), list[BatchRow]()
        await rig.ledger.requests.admit([asking("small", provider="west")])
        await rig.clock.advance(31)
        await batcher.tick()
        await rig.ledger.requests.admit([asking("large", provider="east", tokens=950)])
        for number in range(6):
            await rig.clock.advance(31)
            await rig.ledger.requests.admit([asking(f"small {number}", provider="west")])
            await rig.clock.advance(31)
            await batcher.tick()
            flying = await rig.batches(BatchState.SEALED)
            if any(batch.lane.provider == "east" for batch in flying):
                break
            await over(rig, flying[0])
        assert [batch.lane.provider for batch in flying] == ["east"]


async def test_others_have_their_turn_between_thousands_of_lanes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller of one model does not wait until every other model's window has been read and looked at."""
    lanes, looks, look = 3 * LOOKS_AT_ONCE, Counter[int](), batcher.when_to_seal
    async with open_rig(tmp_path) as rig:
        await rig.ledger.requests.admit([asking("one", f"m{number}") for number in range(lanes)])
        turns = 0

        async def beside() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        rig.tasks.spawn("beside", beside())
        while not turns:
            await asyncio.sleep(0)
        begun = turns
        windows = await rig.ledger.lanes.windows()
        assert len({window.lane_id for window in windows}) == lanes
        assert turns - begun >= lanes // WINDOWS_AT_ONCE

        def looked(window: Window, cut: Cut, batching: Batching, now: float) -> Due | NotYet:
            looks[turns] += 1
            return look(window, cut, batching, now)

        monkeypatch.setattr(batcher, "when_to_seal", looked)
        await rig.batcher().tick()
        assert (looks.total(), max(looks.values())) == (lanes, LOOKS_AT_ONCE)
