"""No more tokens wait at a provider than it allows, by our own estimate, whatever happens; and everything is sent in the end."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.config import Batching, ProviderTable
from gateway.errors import Refusal, Rejected, TokenLimit
from gateway.lines import refuse_tokens
from gateway.records import Batch, BatchState, RemoteBatch, RequestState
from gateway.store.rows import Arrival, LaneKey
from gateway.store.settling import learn
from gateway.testing import FakeClock, FakeProvider, FakeRemote
from tests.unit.pipeline.rig import CHAT, arrival, open_rig, sealed
from tests.unit.pipeline.works import Works, open_works

ALLOWED = 1_000
DAY = 86_400.0
#: The place of the batcher among the stages.
SEALING = 1
LANE = LaneKey(provider="fake", endpoint=CHAT, model="m")


class CrowdedProvider(FakeProvider):
    """Has room for so many true tokens (words of the prompts), some of which others use, and refuses what is more."""

    room: ClassVar[int] = 10**9
    of_others: ClassVar[int] = 0
    refusals: ClassVar[int] = 0
    #: Words that make the provider refuse a whole batch, without saying which line.
    poison: ClassVar[str] = "poison"

    async def submit(self, batch: Batch) -> RemoteBatch:
        """Refuse, or take."""
        lines = self.remote.files.get(batch.file_id or "", b"")
        waiting = [each for each in self.remote.batches.values() if self.clock.now() < each.due]
        words = lines.count(b"w ") + sum(line.count(b"w ") for each in waiting for line in each.lines)
        if words + self.of_others > self.room:
            type(self).refusals += 1
            raise TokenLimit("no room")
        if self.poison.encode() in lines:
            raise Rejected("something is wrong with it")
        return await super().submit(batch)


def table(name: str, remote: FakeRemote, limits: Mapping[str, object]) -> ProviderTable:
    """One of the tables of the account `acme`."""
    own = {"api_key": "fake-key", "remote": remote}
    return ProviderTable(name=name, kind="fake", account="acme", settings=own, limits=limits)


def asking(number: int, tokens: int, words: int, provider: str = "east") -> Arrival:
    """A call whose estimate is `tokens`, and that has `words` of them in truth."""
    lane = LaneKey(provider=provider, endpoint=CHAT, model="m")
    return replace(arrival(f"{number} " + "w " * words, tokens), lane=lane)


async def waiting(works: Works) -> tuple[int, int]:
    """Estimated tokens of what waits at the provider, and in how many batches."""
    open_states = (BatchState.SEALED, BatchState.SUBMITTING, BatchState.SUBMITTED, BatchState.RECONCILING)
    batches = await works.rig.batches(*open_states)
    return sum(batch.tokens for batch in batches), len(batches)


async def until_over(works: Works, *, seconds: float) -> None:
    """Look until everything has ended; whenever something is sealed, no more waits than may."""
    began = works.rig.clock.monotonic()
    while not all(state.ended for state in await works.rig.states()):
        assert works.rig.clock.monotonic() - began < seconds, await works.rig.batches()
        known = len(await works.rig.batches())
        await works.looks[SEALING]()
        tokens, batches = await waiting(works)
        assert len(await works.rig.batches()) == known or tokens <= ALLOWED or batches == 1
        await works.look()
        await works.rig.clock.advance(45)


SIZES = st.lists(
    st.tuples(st.integers(1, 600), st.sampled_from([0.3, 1.0, 1.7]), st.booleans()), min_size=1, max_size=14
)


@settings(max_examples=8, deadline=None)
@given(sizes=SIZES, of_others=st.sampled_from([0, 300, 900]), poisoned=st.booleans())
def test_never_too_many_and_always_on(sizes: list[tuple[int, float, bool]], of_others: int, poisoned: bool) -> None:
    """Whatever estimates, others of the account and refusals do, two tables of one account keep to it, and all is answered."""

    async def scenario(directory: Path) -> None:
        clock = FakeClock()
        remote = FakeRemote(clock=clock)
        CrowdedProvider.room, CrowdedProvider.of_others = ALLOWED, of_others
        tables = {name: table(name, remote, {"max_enqueued_tokens": ALLOWED}) for name in ("east", "west")}
        async with open_works(
            directory, plugin=CrowdedProvider, tables=tables, clock=clock, batching=Batching(max_requests=6)
        ) as works:
            for number, (words, factor, east) in enumerate(sizes):
                if number % 3 == 0:
                    await works.look()
                one = asking(number, max(1, int(words * factor)), words, "east" if east else "west")
                await works.rig.ledger.requests.admit([one])
            if poisoned:
                text = replace(arrival("poison", 10), lane=LaneKey(provider="east", endpoint=CHAT, model="m"))
                await works.rig.ledger.requests.admit([text])
            for _ in range(3):
                await works.look()
                await clock.advance(60)
            CrowdedProvider.of_others = 0
            await until_over(works, seconds=5 * DAY)
            states = await works.rig.states()
            assert states.count(RequestState.FAILED) == int(poisoned)
            assert states.count(RequestState.SUCCEEDED) == len(sizes)
            assert remote.duplicates() == {}

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(scenario(Path(directory)))


async def test_the_tables_of_an_account_are_counted_together(tmp_path: Path) -> None:
    """What one table has waiting leaves less room for another that names the same account, and none for nobody else's."""
    clock = FakeClock()
    remote = FakeRemote(clock=clock)
    tables = {name: table(name, remote, {"max_enqueued_tokens": ALLOWED}) for name in ("east", "west")}
    async with open_works(tmp_path, limits={"max_enqueued_tokens": ALLOWED}, tables=tables, clock=clock) as works:
        await works.rig.ledger.requests.admit([asking(1, 900, 5, "east")])
        await clock.advance(10)
        await works.look()
        assert [batch.lane.provider for batch in await works.rig.batches()] == ["east"]
        await works.rig.ledger.requests.admit([asking(2, 900, 5, "west"), asking(3, 900, 5, "fake")])
        await clock.advance(40)
        await works.look()
        assert [batch.lane.provider for batch in await works.rig.batches()] == ["east", "fake"]
        await works.until_over(step_seconds=60, at_most_seconds=DAY)


async def test_one_that_finds_no_room_by_itself_lets_others_go_first(tmp_path: Path) -> None:
    """A request larger than what others leave of an account does not stop the smaller ones behind it."""
    CrowdedProvider.room, CrowdedProvider.of_others = ALLOWED, 600
    async with open_works(tmp_path, plugin=CrowdedProvider) as works:
        large = asking(1, 500, 500, "fake")
        await works.rig.ledger.requests.admit([large])
        await works.rig.clock.advance(10)
        await works.look()
        await works.rig.ledger.requests.admit([asking(number, 10, 10, "fake") for number in (2, 3, 4)])
        while (await works.rig.states())[1:] != [RequestState.SUCCEEDED] * 3:
            assert works.rig.clock.monotonic() < DAY
            await works.look()
            await works.rig.clock.advance(30)
        assert (await works.rig.states())[0] is not RequestState.SUCCEEDED
        CrowdedProvider.of_others = 0
        await works.until_over(step_seconds=60, at_most_seconds=DAY)
        assert set(await works.rig.states()) == {RequestState.SUCCEEDED}


async def test_limits_lowered_while_work_is_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that was sealed under higher limits is taken apart before it is sent, and goes in smaller ones."""
    async with open_works(tmp_path) as works:
        batch = await sealed(works.rig, *"abcdef", tokens=400)
        await works.rig.ledger.batches.release(batch, retry_at=works.rig.clock.now())
        provider = works.rig.router.providers["fake"]
        lowered = dataclasses.replace(provider.limits, max_enqueued_tokens=ALLOWED)
        monkeypatch.setattr(provider, "limits", lowered)
        await works.look()
        await until_over(works, seconds=DAY)
        assert [each.count for each in await works.rig.batches()][:2] == [6, 2]
        assert (await works.rig.batches())[0].submissions == 0
        assert works.rig.remote.duplicates() == {}


def test_what_could_never_be_sent_is_refused() -> None:
    """A request larger than the whole limit gets a 400 that says by how much, and what to do; a doubtful one does not."""
    with pytest.raises(Refusal, match="about 1001 tokens") as caught:
        refuse_tokens(1_001, 1.0, ALLOWED, LANE)
    assert (caught.value.code, caught.value.rule.status) == ("too_many_tokens", 400)
    refuse_tokens(1_000, 5.0, ALLOWED, LANE)
    refuse_tokens(1_900, 0.5, ALLOWED, LANE)


async def test_a_target_does_not_grow_beyond_all_bounds(tmp_path: Path) -> None:
    """After hundreds of good batches a target is none any more; before it was a number that no database holds."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a")
        database = rig.ledger.database
        await rig.ledger.lanes.park(batch.lane_id, "token_limit", 0.0, 1, 1)
        targets = set()
        for _ in range(600):
            await database.write(lambda session: learn(session, batch), bulk=True)
            await rig.admit("x")
            [window] = await rig.ledger.lanes.windows()
            targets.add(window.target_tokens)
        assert None in targets
        assert max(target for target in targets if target is not None) <= 2 * 10**12
