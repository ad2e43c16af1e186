"""A wish to cancel a whole batch reaches its provider soon and for certain, whoever works on the batch meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import Server, Storage
from gateway.endings import cancelled
from gateway.errors import Missing, Retryable
from gateway.pipeline.janitor import Janitor
from gateway.records import Batch, BatchState, RemoteBatch, RequestState
from gateway.testing import FakeProvider
from tests.unit.pipeline.rig import Rig, claimed, open_rig, sealed
from tests.unit.pipeline.stages import poller_of, submitter_of
from tests.unit.pipeline.test_poller import submitted

DAY = 86_400.0


def janitor_of(rig: Rig) -> Janitor:
    """A janitor with the ordinary settings."""
    return Janitor(rig.upstream, rig.waiters, Server(), Storage(), rig.retries)


async def wish(rig: Rig, *numbers: int) -> None:
    """These requests are not wanted any more."""
    for seq in numbers:
        await rig.ledger.requests.cancel(seq, rig.clock.now(), cancelled())


async def under_way(rig: Rig, *texts: str) -> None:
    """A batch of these that the provider works on for a day, free to be polled."""
    rig.remote.turnaround_seconds = DAY
    batch = await submitted(rig, *texts)
    await rig.ledger.batches.release(batch, retry_at=rig.clock.now())


def while_it_is_polled(rig: Rig, monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    """During the next poll these requests are cancelled, and the janitor comes round, which cannot have the batch."""
    poll = FakeProvider.poll

    async def slow(fake: FakeProvider, remote: RemoteBatch) -> RemoteBatch:
        monkeypatch.setattr(FakeProvider, "poll", poll)
        await wish(rig, *numbers)
        await janitor_of(rig).round()
        return await poll(fake, remote)

    monkeypatch.setattr(FakeProvider, "poll", slow)


async def test_a_wish_during_a_poll_is_heeded_right_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever cancels while the batch is being polled has the provider told by the poll that follows at once."""
    async with open_rig(tmp_path) as rig:
        await under_way(rig, "a", "b")
        while_it_is_polled(rig, monkeypatch, 1, 2)
        poller = poller_of(rig)
        for _ in range(2):
            assert await poller.tick() == 1
            await rig.errands()
        assert rig.remote.calls["cancel"] == 1
        assert rig.remote.batches["fake-1"].cancelled
        assert rig.faults == []


async def test_one_wish_of_two_delays_no_poll(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as somebody wants a line the batch is polled in its ordinary time, and nothing is stopped."""
    async with open_rig(tmp_path) as rig:
        await under_way(rig, "a", "b")
        while_it_is_polled(rig, monkeypatch, 1)
        poller = poller_of(rig)
        assert await poller.tick() == 1
        await rig.errands()
        assert await poller.tick() == 0
        batch = await rig.batch()
        assert (batch.cancel_at, rig.remote.calls["cancel"]) == (None, 0)
        assert 4.5 <= batch.retry_at - rig.clock.now() <= 5.5


async def test_a_wish_is_heeded_though_no_poll_goes_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that answers no poll is told all the same, at the next try, though the janitor never has the batch."""
    async with open_rig(tmp_path) as rig:
        await under_way(rig, "a")
        while_it_is_polled(rig, monkeypatch, 1)
        rig.remote.before["poll"].extend([Retryable("503")] * 3)
        poller = poller_of(rig)
        assert await poller.tick() == 1
        await rig.errands()
        await rig.clock.advance(10)
        for _ in range(2):
            assert await poller.tick() == 1
            await rig.errands()
        assert rig.remote.calls["cancel"] == 1


async def test_a_cancel_is_asked_for_once_and_then_at_the_pace_of_polls(tmp_path: Path) -> None:
    """One that was told to stop and runs on is told again with each poll, whose pace the wish does not change."""
    async with open_rig(tmp_path) as rig:
        await under_way(rig, "a")
        await wish(rig, 1)
        rig.remote.before["cancel"].extend([Retryable("503")] * 2)
        poller = poller_of(rig)
        await janitor_of(rig).round()
        for told in (1, 2, 3):
            assert await poller.tick() == 1
            await rig.errands()
            await janitor_of(rig).round()
            assert await poller.tick() == 0
            assert rig.remote.calls["cancel"] == told
            await rig.clock.advance(6)


async def test_the_next_poll_is_not_waited_for(tmp_path: Path) -> None:
    """Once the janitor has seen the wish, the poll that carries it is due, however far off the next one was."""
    async with open_rig(tmp_path) as rig:
        await under_way(rig, "a")
        await rig.ledger.batches.release(await claimed(rig), retry_at=rig.clock.now() + 60)
        await wish(rig, 1)
        await janitor_of(rig).round()
        assert await poller_of(rig).tick() == 1
        await rig.errands()
        assert rig.remote.calls["cancel"] == 1


async def test_a_provider_in_trouble_keeps_its_pause(tmp_path: Path) -> None:
    """A batch that waits since its polls failed waits on: a provider that wished for a pause is not asked sooner."""
    async with open_rig(tmp_path) as rig:
        await under_way(rig, "a")
        await rig.ledger.batches.release(await claimed(rig), retry_at=rig.clock.now() + 60, troubles=2)
        await wish(rig, 1)
        await janitor_of(rig).round()
        batch = await rig.batch()
        assert (batch.cancel_at, batch.retry_at) == (rig.clock.now(), rig.clock.now() + 60)


@pytest.mark.parametrize("marked", [True, False])
async def test_what_nobody_wants_once_it_is_uploaded_is_not_sent(
    marked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload may take an hour: who cancels meanwhile costs nothing, for no batch is made of it."""
    monkeypatch.setattr(FakeProvider, "marked", marked)
    upload = FakeProvider.upload
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a", "b")
        future = rig.waiters.attach(1)

        async def slow(fake: FakeProvider, view: Batch) -> str | None:
            await wish(rig, 1, 2)
            await janitor_of(rig).round()
            return await upload(fake, view)

        monkeypatch.setattr(FakeProvider, "upload", slow)
        await rig.upstream.guard(batch, submitter_of(rig).submit(batch))
        assert rig.remote.calls["submit"] == 0
        assert (await rig.batch()).state is BatchState.DISSOLVED
        assert await rig.states() == [RequestState.CANCELLED] * 2
        assert future.result().code == "cancelled"


async def test_a_provider_without_a_way_to_cancel_is_polled_all_the_same(tmp_path: Path) -> None:
    """A 404 to the cancel says nothing of the batch: a server may have no such path, and the poll knows what there is."""
    async with open_rig(tmp_path) as rig:
        await under_way(rig, "a")
        await wish(rig, 1)
        await janitor_of(rig).round()
        await rig.clock.advance(DAY / 2)
        poller = poller_of(rig)
        for state in (BatchState.SUBMITTED, BatchState.ENDED):
            rig.remote.before["cancel"].append(Missing("status 404"))
            assert await poller.tick() == 1
            await rig.errands()
            assert (await rig.batch()).state is state
            await rig.clock.advance(DAY)
