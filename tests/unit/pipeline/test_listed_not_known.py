"""A provider that shows a batch in its list, and does not know it when asked for it: no storm of calls, and an end."""

from __future__ import annotations

from pathlib import Path

from gateway.errors import Missing
from gateway.pipeline.poller import Poller
from gateway.records import BatchState, RemoteBatch, RequestState
from gateway.testing import FakeProvider
from tests.unit.pipeline.rig import Rig, open_rig
from tests.unit.pipeline.stages import poller_of, reconciler_of
from tests.unit.pipeline.test_poller import submitted

HOUR = 3_600.0
DAY = 24 * HOUR


class Forgetful(FakeProvider):
    """Lists its batches, and knows none."""

    async def poll(self, remote: RemoteBatch) -> RemoteBatch:
        """Not found."""
        self.remote.calls["poll"] += 1
        raise Missing("404")


class Hall:
    """The two stages between which such a batch goes to and fro."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.poller: Poller = poller_of(rig)
        self.reconciler = reconciler_of(rig)

    async def pass_time(self, seconds: float, steps: int) -> None:
        """Both look as long as there is anything to do, at each of so many moments."""
        for _ in range(steps):
            for _ in range(5):
                await self.poller.tick()
                await self.rig.errands()
                await self.reconciler.tick()
                await self.rig.errands()
            await self.rig.clock.advance(seconds / steps)


async def under_way(rig: Rig) -> Hall:
    """A batch that has been with the provider for an hour, and takes a month."""
    rig.remote.turnaround_seconds = 30 * DAY
    batch = await submitted(rig, "a")
    await rig.ledger.batches.release(batch, retry_at=rig.clock.now())
    await rig.clock.advance(HOUR)
    return Hall(rig)


async def test_it_is_asked_for_at_an_easy_pace(tmp_path: Path) -> None:
    """List and batch contradict each other for an hour: each is asked once a minute, and nothing is sent again."""
    async with open_rig(tmp_path, plugin=Forgetful) as rig:
        await (await under_way(rig)).pass_time(HOUR, 120)
        assert 50 <= rig.remote.calls["poll"] <= 62
        assert rig.remote.calls["find"] <= 62
        assert rig.remote.calls["submit"] == 1
        assert await rig.states() == [RequestState.BATCHED]


async def test_it_does_not_go_on_for_ever(tmp_path: Path) -> None:
    """Once its requests have waited for as long as anybody waits they expire."""
    async with open_rig(tmp_path, plugin=Forgetful) as rig:
        hall = await under_way(rig)
        await hall.pass_time(6.9 * DAY, 40)
        assert await rig.states() == [RequestState.BATCHED]
        await hall.pass_time(HOUR * 4, 40)
        assert await rig.states() == [RequestState.EXPIRED]


async def test_what_is_found_after_a_long_absence_is_not_given_up(tmp_path: Path) -> None:
    """A gateway that was off for longer than anybody waits finds its batch in the list: it waits for the results all the same."""
    async with open_rig(tmp_path, plugin=Forgetful) as rig:
        hall = await under_way(rig)
        await rig.clock.advance(9 * DAY)
        await hall.pass_time(300, 5)
        assert [batch.state for batch in await rig.batches()] == [BatchState.SUBMITTED]
