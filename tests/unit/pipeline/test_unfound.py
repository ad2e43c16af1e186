"""Creates that end in doubt again and again, and batches that vanish again and again: both come to an end."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from gateway.config import Retries
from gateway.errors import Ambiguous, Missing
from gateway.records import Batch, BatchState, RemoteBatch, RequestState
from gateway.testing import FakeProvider
from tests.unit.pipeline.rig import claimed, open_rig
from tests.unit.pipeline.stages import create, doubted, look, reconciler_of
from tests.unit.pipeline.works import Works, open_works

HOUR = 3_600.0
DAY = 24 * HOUR


class CrashingProvider(FakeProvider):
    """Its server falls over at certain creates: nothing is there, and nobody can know."""

    until: ClassVar[float] = float("inf")
    poison: ClassVar[bytes] = b""

    async def submit(self, batch: Batch) -> RemoteBatch:
        """As ever, or status 500."""
        if self.clock.monotonic() < self.until and self.poison in batch.spool.read_bytes():
            self.remote.enter("submit")
            raise Ambiguous("create: status 500")
        return await super().submit(batch)


class ForgetfulProvider(FakeProvider):
    """Takes every batch, and does not know it any more soon after."""

    async def poll(self, remote: RemoteBatch) -> RemoteBatch:
        """Unknown."""
        raise Missing("no such batch")

    async def find(self, batch: Batch) -> list[RemoteBatch]:
        """Nothing."""
        self.remote.enter("find")
        return []


async def go_on(works: Works, seconds: float, step: float = 600.0) -> None:
    """Every stage looks once a step, for so long or until every request has ended; what is sealed is sent at once."""
    submit, reconcile = works.looks[3:5]
    for _ in range(int(seconds // step)):
        if all(state.ended for state in await works.rig.states()):
            return
        for stage in (*works.looks, submit, reconcile, submit):
            await stage()
            await works.quiet()
        await works.rig.clock.advance(step)


async def test_a_create_that_is_always_in_doubt_ends(tmp_path: Path) -> None:
    """It is repeated ever more rarely, and its request ends when it has waited for as long as anybody waits."""
    async with open_works(tmp_path, plugin=CrashingProvider, retries=Retries(give_up_hours=48)) as works:
        await works.rig.admit("a")
        await go_on(works, 47 * HOUR)
        assert await works.rig.states() == [RequestState.BATCHED]
        assert works.rig.remote.calls["submit"] <= 16
        await go_on(works, 8 * HOUR)
        assert await works.rig.states() == [RequestState.EXPIRED]
        [ending] = (await works.rig.ledger.requests.endings([1])).values()
        assert (ending.status, b"retries.give_up_hours" in ending.body) == (504, True)


async def test_a_batch_that_vanishes_again_and_again_is_not_paid_for_ever(tmp_path: Path) -> None:
    """What the provider took and forgot may have been paid: it is sent as often as a line may fail, then its requests fail."""
    async with open_works(tmp_path, plugin=ForgetfulProvider) as works:
        works.rig.remote.turnaround_seconds = 100 * DAY
        await works.rig.admit("a", "b")
        await go_on(works, 2 * DAY)
        assert await works.rig.states() == [RequestState.FAILED] * 2
        assert works.rig.remote.calls["submit"] == works.rig.retries.max_attempts


async def test_one_line_takes_no_others_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch whose creates end in doubt for one of its lines is halved until that one stands alone; each other is paid once."""
    monkeypatch.setattr(CrashingProvider, "poison", b"poison")
    async with open_works(tmp_path, plugin=CrashingProvider, retries=Retries(give_up_hours=48)) as works:
        await works.rig.admit("a", "b", "poison", "c", "d", "e", "f", "g")
        await go_on(works, DAY, step=1_200)
        states = await works.rig.states()
        assert [state is RequestState.SUCCEEDED for state in states] == [True] * 2 + [False] + [True] * 5
        assert works.rig.remote.duplicates() == {}
        assert len(works.rig.remote.submitted) == 7
        await go_on(works, 2 * DAY, step=2_400)
        assert (await works.rig.states())[2] is RequestState.EXPIRED


async def test_a_provider_that_creates_nothing_for_a_day_costs_nobody_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every create in doubt, every list empty: nothing fails, nothing is paid twice, and no batch falls into its lines."""
    monkeypatch.setattr(CrashingProvider, "until", DAY)
    async with open_works(tmp_path, plugin=CrashingProvider) as works:
        await works.rig.admit(*(f"q{n}" for n in range(64)))
        await go_on(works, DAY + 8 * HOUR)
        assert set(await works.rig.states()) == {RequestState.SUCCEEDED}
        assert works.rig.remote.duplicates() == {}
        assert len(works.rig.remote.batches) <= 8


async def test_it_is_looked_for_twice_as_long_after_each_create_in_vain(tmp_path: Path) -> None:
    """Lists that lag, and providers in trouble, are given the more time the more often they told nothing."""
    async with open_rig(tmp_path) as rig:
        await doubted(rig, "a", created=False)
        reconciler = reconciler_of(rig)
        await look(rig, reconciler)
        assert (await look(rig, reconciler, 901)).state is BatchState.SEALED
        rig.remote.before["submit"].append(Ambiguous("timeout"))
        await create(rig, await claimed(rig))
        await look(rig, reconciler)
        assert (await look(rig, reconciler, 901)).state is BatchState.RECONCILING
        assert (await look(rig, reconciler, 901)).state is BatchState.SEALED


async def test_a_wish_to_hurry_does_not_hold_for_ever(tmp_path: Path) -> None:
    """`ambiguous = "resubmit"` sends at once what was in vain up to `max_attempts` times; after that the quarantine is kept."""
    retries = Retries(ambiguous="resubmit", give_up_hours=24)
    async with open_works(tmp_path, plugin=CrashingProvider, retries=retries) as works:
        await works.rig.admit("a")
        await go_on(works, 2 * DAY)
        assert await works.rig.states() == [RequestState.EXPIRED]
        assert works.rig.remote.calls["submit"] <= 12


async def test_a_whole_that_shows_after_it_was_halved_is_stopped_and_counted(tmp_path: Path) -> None:
    """Its lines are on their way in its halves: what comes to light late is a copy."""
    async with open_works(tmp_path, plugin=CrashingProvider) as works:
        rig = works.rig
        await rig.admit("a", "b")
        await go_on(works, 1_200)
        view = rig.upstream.view(await rig.batch())
        rig.remote.turnaround_seconds, lines = 10 * DAY, dict(rig.remote.files)
        while len(await rig.batches()) == 1:
            await go_on(works, 600)
        rig.remote.files.update(lines)
        late = rig.remote.create(view)
        await go_on(works, 12 * HOUR)
        assert late.cancelled
        assert b'duplicate_batches_total{provider="fake"} 1.0' in rig.metrics.render()
