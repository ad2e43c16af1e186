"""Providers without a marker: what concerns one batch, or somebody else's, does not hold up the others."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from gateway.config import Cache as CacheSettings
from gateway.config import ProviderTable, Server, Storage
from gateway.endings import cancelled
from gateway.errors import Ambiguous, Missing, Retryable
from gateway.pipeline.collector import Collector
from gateway.pipeline.discarder import Discarder
from gateway.pipeline.janitor import Janitor
from gateway.records import Batch, BatchState, RemoteBatch, RemoteState, RequestState, new_marker
from gateway.store.cache import Cache
from gateway.store.shipping import BatchRow, Cut
from gateway.testing import FakeClock, FakeRemote
from tests.unit.pipeline.rig import Rig, claimed, open_rig, sealed
from tests.unit.pipeline.stages import doubted, look, reconciler_of, submitter_of
from tests.unit.pipeline.test_candidates import UnmarkedProvider, open_gate, stranger

__all__ = ["open_gate"]


class FussyProvider(UnmarkedProvider):
    """Cannot read one batch's results."""

    async def fetch(self, remote: RemoteBatch, to: Path) -> None:
        """The rows of every other one."""
        if remote.remote_id == "fake-theirs":
            raise Retryable("unavailable")
        await super().fetch(remote, to)


class SlowProvider(UnmarkedProvider):
    """Takes its time to take a file."""

    late: ClassVar[str]
    uploads: ClassVar[asyncio.Event]

    async def upload(self, batch: Batch) -> str | None:
        """One batch's once it is told to, the others' at once."""
        if batch.marker == self.late:
            await self.uploads.wait()
        return await super().upload(batch)


async def test_a_create_that_was_lost_meanwhile_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two batches are prepared together and the first create is lost: the second looks again before its own."""
    monkeypatch.setattr(SlowProvider, "uploads", asyncio.Event(), raising=False)
    async with open_rig(tmp_path, plugin=SlowProvider) as rig:
        batches = [await sealed(rig, "a"), await sealed(rig, "b")]
        monkeypatch.setattr(SlowProvider, "late", batches[1].marker, raising=False)
        rig.remote.after["submit"].append(Ambiguous("timeout"))
        submitter = submitter_of(rig)
        first, second = (asyncio.create_task(submitter.submit(batch)) for batch in batches)
        await first
        SlowProvider.uploads.set()
        await second

        assert sorted(batch.state for batch in await rig.batches()) == [BatchState.RECONCILING, BatchState.SEALED]
        assert rig.remote.calls["submit"] == 1


async def test_doubt_about_another_address_stops_no_create(tmp_path: Path) -> None:
    """A batch in doubt whose base_url is not configured any more waits for it alone: nothing can take its place there."""
    async with open_rig(tmp_path, plugin=UnmarkedProvider) as rig:
        await rig.admit("a")
        [window] = await rig.ledger.lanes.windows()
        now, batches = rig.clock.now(), rig.ledger.batches
        await batches.seal(window.lane_id, Cut(), new_marker(), "", "http://before", now)
        await batches.doubt(await batches.intend(await claimed(rig), now), "lost", now)
        assert (await look(rig, reconciler_of(rig), 1)).state is BatchState.RECONCILING
        second = await sealed(rig, "b")
        await rig.upstream.guard(second, submitter_of(rig).submit(second))

        assert [batch.state for batch in await rig.batches()] == [BatchState.RECONCILING, BatchState.SUBMITTED]


async def test_doubt_of_a_table_that_is_gone_stops_no_create(tmp_path: Path) -> None:
    """A batch in doubt whose table was removed, or disabled, cannot be looked for: its account goes on."""
    clock = FakeClock()
    settings = {"api_key": "fake-key", "remote": FakeRemote(clock=clock)}
    tables = {
        name: ProviderTable(name=name, kind="fake", account="shared", settings=settings) for name in ("one", "two")
    }
    async with open_rig(tmp_path, plugin=UnmarkedProvider, tables=tables, clock=clock) as rig:
        lost, other = await _sealed_for(rig, "one"), await _sealed_for(rig, "two")
        batch = await rig.ledger.batches.intend(await _claim(rig, lost), clock.now())
        await rig.ledger.batches.doubt(batch, "lost", clock.now())
        rig.router.providers["one"]._reason = "no key"
        assert (await look(rig, reconciler_of(rig), 1)).state is BatchState.RECONCILING
        batch = await _claim(rig, other)
        await rig.upstream.guard(batch, submitter_of(rig).submit(batch))

        assert (await rig.batches())[1].state is BatchState.SUBMITTED


async def test_tables_of_one_account_share_their_doubts(tmp_path: Path) -> None:
    """What another table has on the same account is no candidate, and its open create is waited for."""
    clock = FakeClock()
    remote = FakeRemote(clock=clock, turnaround_seconds=50_000)
    settings = {"api_key": "fake-key", "remote": remote}
    tables = {
        name: ProviderTable(name=name, kind="fake", account="shared", settings=settings) for name in ("one", "two")
    }
    async with open_rig(tmp_path, plugin=UnmarkedProvider, tables=tables, clock=clock) as rig:
        submitter, reconciler = submitter_of(rig), reconciler_of(rig)
        lost, other = await _sealed_for(rig, "one"), await _sealed_for(rig, "two")
        await rig.ledger.batches.intend(await _claim(rig, lost), clock.now())
        batch = await _claim(rig, other)
        await rig.upstream.guard(batch, submitter.submit(batch))
        assert remote.calls["submit"] == 0
        first = (await rig.batches())[0]
        await rig.ledger.batches.doubt(first, "lost", clock.now())
        await look(rig, reconciler, 5)
        batch = await _claim(rig, other)
        await rig.upstream.guard(batch, submitter.submit(batch))
        assert remote.calls["submit"] == 1

        assert (await look(rig, reconciler, 1_000)).state is BatchState.SEALED


async def test_doubt_at_another_address_in_use_stops_no_create(tmp_path: Path) -> None:
    """Tables of one account at two addresses see nothing of each other's batches: neither waits for the other's doubt."""
    clock = FakeClock()
    remote = FakeRemote(clock=clock)
    tables = {
        name: ProviderTable(
            name=name,
            kind="fake",
            account="shared",
            settings={"api_key": "fake-key", "remote": remote, "base_url": f"http://{name}"},
        )
        for name in ("one", "two")
    }
    async with open_rig(tmp_path, plugin=UnmarkedProvider, tables=tables, clock=clock) as rig:
        lost, other = await _sealed_for(rig, "one"), await _sealed_for(rig, "two")
        batch = await rig.ledger.batches.intend(await _claim(rig, lost), clock.now())
        await rig.ledger.batches.doubt(batch, "lost", clock.now())
        batch = await _claim(rig, other)
        await rig.upstream.guard(batch, submitter_of(rig).submit(batch))
        assert remote.calls["submit"] == 1


async def test_a_second_lost_create_is_looked_for_anew(tmp_path: Path) -> None:
    """Sent again and lost again: the listings of the first time say nothing of it, and the next create waits for another."""
    async with open_rig(tmp_path, plugin=UnmarkedProvider) as rig:
        await doubted(rig, "a", "b", created=False)
        submitter, reconciler = submitter_of(rig), reconciler_of(rig)
        await look(rig, reconciler, 0)
        assert (await look(rig, reconciler, 1_000)).state is BatchState.SEALED
        rig.remote.before["submit"].append(Ambiguous("timeout"))
        batch = await claimed(rig)
        await rig.upstream.guard(batch, submitter.submit(batch))
        await rig.clock.advance(60)
        second = await sealed(rig, "c")
        await rig.upstream.guard(second, submitter.submit(second))

        assert [batch.state for batch in await rig.batches()] == [BatchState.RECONCILING, BatchState.SEALED]
        assert rig.remote.calls["submit"] == 2


async def test_what_was_cancelled_in_doubt_is_not_sent_again(tmp_path: Path) -> None:
    """Surely not there, and wanted by nobody: its requests end, and nothing is created."""
    async with open_rig(tmp_path, plugin=UnmarkedProvider) as rig:
        lost = await doubted(rig, "a", "b", created=False)
        await rig.ledger.batches.cancel_members(lost.id, cancelled(), rig.clock.now())
        await Janitor(rig.upstream, rig.waiters, Server(), Storage(), rig.retries).round()
        reconciler = reconciler_of(rig)
        await look(rig, reconciler, 1)

        assert (await look(rig, reconciler, 1_000)).state is BatchState.DISSOLVED
        assert await rig.states() == [RequestState.CANCELLED] * 2


async def test_a_held_batch_that_nobody_wants_ends(tmp_path: Path) -> None:
    """Its candidate's results are gone, so it can never be proven: cancelling it is the way out, and is final."""
    async with open_rig(tmp_path, plugin=UnmarkedProvider) as rig:
        lost = await doubted(rig, "a", "b", created=True)
        reconciler = reconciler_of(rig)
        assert (await look(rig, reconciler, 1)).state is BatchState.RECONCILING
        await rig.ledger.batches.cancel_members(lost.id, cancelled(), rig.clock.now())
        janitor = Janitor(rig.upstream, rig.waiters, Server(), Storage(), rig.retries)
        await janitor.round()
        assert (await look(rig, reconciler, 10)).state is BatchState.RECONCILING
        rig.remote.before["fetch"].append(Missing("archived"))
        assert (await look(rig, reconciler, 100)).state is BatchState.DISSOLVED
        assert await rig.states() == [RequestState.CANCELLED] * 2


async def test_a_strangers_results_do_not_stand_before_ours(tmp_path: Path) -> None:
    """Of two candidates one cannot be read: the other is read all the same, and taken when it is ours."""
    async with open_rig(tmp_path, plugin=FussyProvider) as rig:
        stranger(rig, "fake-theirs", lines=2)
        await doubted(rig, "a", "b", created=True)
        taken = await look(rig, reconciler_of(rig), 100)

        assert (taken.state, taken.remote_id) == (BatchState.SUBMITTED, "fake-2")


@pytest.mark.parametrize("verb", ["find", "fetch"])
async def test_results_do_not_wait_for_the_look_for_copies(verb: str, tmp_path: Path) -> None:
    """A list that is down, or a stranger's results that cannot be read, withhold no answer; a copy is counted when it can be."""
    async with open_rig(tmp_path, plugin=FussyProvider) as rig:
        lost = await doubted(rig, "a", "b", created=True)
        assert (await look(rig, reconciler_of(rig), 100)).state is BatchState.SUBMITTED
        ended = RemoteBatch(remote_id="fake-1", state=RemoteState.ENDED, total=2)
        await rig.ledger.batches.ended(await claimed(rig), ended, rig.clock.now())
        ours = rig.remote.batches["fake-1"]
        if verb == "fetch":
            stranger(rig, "fake-theirs", lines=2, turnaround_seconds=0)
        cache = Cache.open(tmp_path / "cache", CacheSettings())
        collector = Collector(rig.upstream, rig.waiters, cache, rig.retries, rig.tasks, ended=asyncio.Event())
        discarder = Discarder(rig.upstream, rig.retries.quarantine_seconds)
        rig.remote.before["find"].extend([Retryable("unavailable")] * 2 if verb == "find" else [])
        batch = await claimed(rig)
        await rig.upstream.guard(batch, collector.collect(batch))
        cache.close()
        assert (await rig.batch()).state is BatchState.COLLECTED
        assert await rig.states() == [RequestState.SUCCEEDED] * 2

        rig.remote.batches["fake-2"] = replace(ours, remote_id="fake-2", marker=lost.marker)
        await discarder.round()
        assert not (await rig.batch()).discarded
        await rig.clock.advance(400)
        await discarder.round()
        assert rig.upstream.known_copies == {"fake-2"}
        for _ in range(60):
            await rig.clock.advance(3_600)
            await discarder.round()
        assert (await rig.batch()).discarded


async def _sealed_for(rig: Rig, provider: str) -> int:
    """A batch of one request of this table; its number."""
    await rig.admit(f"for {provider}", provider=provider)
    windows = await rig.ledger.lanes.windows()
    [lane] = [window.lane_id for window in windows if window.lane.provider == provider]
    home = rig.router.providers[provider].home
    batch = await rig.ledger.batches.seal(lane, Cut(), new_marker(), "shared", home, rig.clock.now())
    assert batch is not None
    return batch.id


async def _claim(rig: Rig, batch_id: int) -> BatchRow:
    batch = await rig.ledger.batches.claim_one(batch_id)
    assert batch is not None
    return batch
