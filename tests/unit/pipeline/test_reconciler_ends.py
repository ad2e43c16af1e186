"""Doubt that hangs, or that nothing can resolve: it holds up nobody else, and it ends."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import TypeVar

import pytest

from gateway.accounts import Accounts
from gateway.config import Cache as CacheSettings
from gateway.config import ProviderTable, Server, Storage
from gateway.configured import ConfiguredProvider
from gateway.endings import cancelled
from gateway.errors import Ambiguous, Missing, Retryable, StorageFull, Unauthorised
from gateway.pipeline import submitter
from gateway.pipeline.collector import Collector
from gateway.pipeline.janitor import Janitor
from gateway.pipeline.reconciler import Reconciler
from gateway.records import Batch, BatchState, RemoteBatch, RemoteState, RequestState, new_marker
from gateway.store.cache import Cache
from gateway.store.shipping import BatchRow, Cut
from gateway.testing import FakeClock, FakeProvider, FakeRemote
from tests.unit.pipeline.rig import Rig, claimed, open_rig, sealed
from tests.unit.pipeline.stages import all_missing, create, doubted, look, look_through, reconciler_of, submitter_of
from tests.unit.pipeline.test_candidates import UnmarkedProvider, open_gate

__all__ = ["open_gate"]

DAY = 86_400.0
T = TypeVar("T")


class HangingProvider(FakeProvider):
    """Its list and its uploads never come, where the table is called so."""

    async def find(self, batch: Batch) -> list[RemoteBatch]:
        """As ever, or never."""
        found = await super().find(batch)
        await self._hang()
        return found

    async def upload(self, batch: Batch) -> str | None:
        """As ever, or never."""
        file_id = await super().upload(batch)
        await self._hang()
        return file_id

    async def _hang(self) -> None:
        if self.name == "hanging":
            await asyncio.Event().wait()


def hanging(remote: FakeRemote) -> dict[str, ProviderTable]:
    """A table whose provider hangs."""
    return {"hanging": ProviderTable(name="hanging", kind="fake", settings={"api_key": "fake-key", "remote": remote})}


async def sealed_for(rig: Rig, provider: str, text: str) -> BatchRow:
    """A batch of one request of this table, to be claimed."""
    await rig.admit(text, provider=provider)
    windows = await rig.ledger.lanes.windows()
    [lane] = [window.lane_id for window in windows if window.lane.provider == provider]
    home = rig.router.providers[provider].home
    batch = await rig.ledger.batches.seal(lane, Cut(), new_marker(), "", home, rig.clock.now())
    assert batch is not None
    return batch


async def second_seen_again(rig: Rig) -> tuple[BatchRow, BatchRow, Reconciler]:
    """Two batches that were missing when they were looked for, the second of which is at the provider again."""
    await all_missing(rig)
    first, second = await rig.batches()
    reconciler = reconciler_of(rig)
    await look_through(rig, reconciler)
    rig.remote.create(rig.upstream.view(second))
    return first, second, reconciler


async def until(calls: Mapping[str, int], verb: str) -> None:
    """Return when a call of this verb has been made."""
    async with asyncio.timeout(10):
        while not calls[verb]:
            await asyncio.sleep(0.001)


async def test_a_listing_that_hangs_delays_no_other_account(tmp_path: Path) -> None:
    """A provider whose list never comes holds up its own batches in doubt, one at a time, and nobody else's."""
    clock = FakeClock()
    remote = FakeRemote(clock=clock)
    async with open_rig(tmp_path, tables=hanging(remote), clock=clock, plugin=HangingProvider) as rig:
        for number, name in enumerate(("hanging", "hanging", "fake")):
            batch = await rig.ledger.batches.claim_one((await sealed_for(rig, name, f"q{number}")).id)
            assert batch is not None
            await rig.ledger.batches.doubt(await rig.ledger.batches.intend(batch, clock.now()), "lost", clock.now())
        reconciler = reconciler_of(rig)

        assert await reconciler.tick() == 2
        await until(remote.calls, "find")
        await until(rig.remote.calls, "find")
        assert await reconciler.tick() == 0
        assert remote.calls["find"] == 1


async def test_uploads_that_hang_delay_no_other_account(tmp_path: Path) -> None:
    """A provider that takes no file to its end keeps four of its batches waiting, and no other provider's."""
    clock = FakeClock()
    remote = FakeRemote(clock=clock)
    async with open_rig(tmp_path, tables=hanging(remote), clock=clock, plugin=HangingProvider) as rig:
        for number in range(5):
            await sealed_for(rig, "hanging", f"q{number}")
        working = submitter_of(rig)
        assert await working.tick() == 4
        await clock.advance(1)
        await sealed_for(rig, "fake", "q5")
        assert await working.tick() == 1
        await until(rig.remote.calls, "submit")
        assert remote.calls["upload"] == 4


async def test_what_can_never_be_proven_expires(tmp_path: Path) -> None:
    """A candidate whose results are gone is named with what to do about it, and is given up after `give_up_hours`."""
    async with open_rig(tmp_path, plugin=UnmarkedProvider) as rig:
        lost = await doubted(rig, "a", "b", created=True)
        rig.remote.before["fetch"].extend([Missing("archived")] * 5)
        future = rig.waiters.attach(1)
        reconciler = reconciler_of(rig)
        held = await look(rig, reconciler, DAY)
        assert "its results are gone or name nobody" in (held.parked_reason or "")
        assert f"batchway cancel --batch {lost.id}" in (held.parked_reason or "")
        given_up = await look(rig, reconciler, 7 * DAY)

        assert given_up.state is BatchState.DISSOLVED
        assert await rig.states() == [RequestState.EXPIRED] * 2
        assert future.result().status == 504
        assert rig.remote.duplicates() == {}


async def test_all_missing_for_a_week_expire(tmp_path: Path) -> None:
    """Batches that are all out of sight are never sent again, and still end: as expired, after `give_up_hours`."""
    async with open_rig(tmp_path) as rig:
        await all_missing(rig)
        reconciler = reconciler_of(rig)
        for _ in range(20):
            await rig.clock.advance(DAY / 2)
            await look_through(rig, reconciler)
        assert await rig.states() == [RequestState.EXPIRED] * 2
        assert rig.remote.calls["submit"] == 2


async def test_all_missing_can_be_given_up_by_hand(tmp_path: Path) -> None:
    """Their parked reason says how, and cancelling ends one of them, after two listings a quarantine apart, and not the other."""
    async with open_rig(tmp_path) as rig:
        await all_missing(rig)
        first = (await rig.batches())[0]
        reconciler = reconciler_of(rig)
        await look_through(rig, reconciler)
        assert f"batchway cancel --batch {first.id}" in ((await rig.batches())[0].parked_reason or "")
        await rig.ledger.batches.cancel_members(first.id, cancelled(), rig.clock.now())
        await Janitor(rig.upstream, rig.waiters, Server(), Storage(), rig.retries).round()
        await rig.clock.advance(1_000)
        await look_through(rig, reconciler)

        assert await rig.states() == [RequestState.CANCELLED, RequestState.BATCHED]
        assert rig.remote.calls["submit"] == 2


@pytest.mark.parametrize("restarted", [True, False])
@pytest.mark.parametrize("error", [Retryable("503"), Unauthorised("401")])
async def test_the_last_one_out_of_sight_is_not_sent_again_after_a_hitch(
    error: Exception, restarted: bool, tmp_path: Path
) -> None:
    """When the others were given up, a listing that fails does not make the last one a batch that was never there."""
    async with open_rig(tmp_path) as rig:
        await all_missing(rig)
        first, second = await rig.batches()
        reconciler = reconciler_of(rig)
        for _ in range(2):
            await look_through(rig, reconciler)
            await rig.ledger.batches.cancel_members(first.id, cancelled(), rig.clock.now())
            await Janitor(rig.upstream, rig.waiters, Server(), Storage(), rig.retries).round()
            await rig.clock.advance(1_000)
        rig.remote.before["find"].append(error)
        for turn in range(4):
            await look_through(rig, reconciler)
            await rig.clock.advance(1_000 if turn else 10)
            reconciler = reconciler_of(rig) if restarted and turn == 1 else reconciler

        assert await rig.states() == [RequestState.CANCELLED, RequestState.BATCHED]
        assert rig.remote.before["find"] == deque()
        last = await rig.ledger.batches.get(second.id)
        assert last is not None
        assert (last.state, rig.remote.calls["submit"]) == (BatchState.RECONCILING, 2)


async def test_what_is_missing_when_another_one_is_seen_again_is_sent_again(tmp_path: Path) -> None:
    """Then the account is in sight: two empty listings are believed, also if the other one is over by the second."""
    async with open_rig(tmp_path) as rig:
        first, second, reconciler = await second_seen_again(rig)
        for _ in range(3):
            await rig.clock.advance(1_000)
            await look_through(rig, reconciler)
            seen = await rig.ledger.batches.claim_one(second.id, [BatchState.SUBMITTED])
            if seen is not None:
                await rig.ledger.batches.dissolve(seen, rig.clock.now(), {})

        after = await rig.ledger.batches.get(first.id)
        assert after is not None
        assert after.state is BatchState.SEALED


async def test_a_ledger_that_fails_as_one_is_seen_again_holds_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk is full at that moment, the others that were missing are free to be looked for once it is not."""
    async with open_rig(tmp_path) as rig:
        first, second, reconciler = await second_seen_again(rig)
        release = rig.ledger.batches.release
        faults = [StorageFull("no room")]

        async def hampered(batch: BatchRow, *, retry_at: float, parked_reason: str | None, troubles: int) -> BatchRow:
            if batch.id == first.id and faults:
                raise faults.pop()
            return await release(batch, retry_at=retry_at, parked_reason=parked_reason, troubles=troubles)

        monkeypatch.setattr(rig.ledger.batches, "release", hampered)
        await rig.clock.advance(1_000)
        own = await rig.ledger.batches.claim_one(second.id)
        assert own is not None
        await rig.upstream.guard(own, reconciler.reconcile(own))
        await rig.clock.advance(1_000)
        assert not faults
        assert await rig.ledger.batches.claim_one(first.id) is not None


async def test_a_batch_that_was_made_later_is_no_evidence(tmp_path: Path) -> None:
    """Under another project's key new batches go well, and those of before are missing all the same: none is sent again."""
    async with open_rig(tmp_path) as rig:
        await all_missing(rig)
        reconciler = reconciler_of(rig)
        for _ in range(4):
            await look_through(rig, reconciler)
            await rig.clock.advance(1_000)
            await create(rig, await sealed(rig, f"made at {rig.clock.now()}"))

        assert [row.state for row in await rig.batches()][:2] == [BatchState.RECONCILING] * 2


async def test_a_batch_that_nobody_has_seen_lately_is_no_evidence(tmp_path: Path) -> None:
    """One is missing, and the other's polls fail: the account may be out of sight, so nothing is sent again."""
    async with open_rig(tmp_path) as rig:
        for text in ("a", "b"):
            assert (await create(rig, await sealed(rig, text))).state is BatchState.SUBMITTED
        first, second = await rig.batches()
        missing = await rig.ledger.batches.claim_one(first.id)
        unseen = await rig.ledger.batches.claim_one(second.id)
        assert missing is not None
        assert unseen is not None
        await rig.ledger.batches.doubt(missing, "missing", rig.clock.now())
        await rig.ledger.batches.release(unseen, retry_at=rig.clock.now() + DAY, troubles=1)
        rig.remote.batches.clear()
        reconciler = reconciler_of(rig)
        for _ in range(5):
            await rig.clock.advance(1_000)
            await look_through(rig, reconciler)
        assert [row.state for row in await rig.batches()] == [BatchState.RECONCILING, BatchState.SUBMITTED]
        assert "every open batch" in ((await rig.batches())[0].parked_reason or "")


async def test_the_only_open_batch_that_goes_missing_is_sent_again(tmp_path: Path) -> None:
    """Nothing else tells whether the account is in sight: two empty listings a quarantine apart are believed."""
    async with open_rig(tmp_path) as rig:
        await create(rig, await sealed(rig, "a"))
        await rig.ledger.batches.doubt(await claimed(rig), "missing", rig.clock.now())
        rig.remote.batches.clear()
        reconciler = reconciler_of(rig)
        assert (await look(rig, reconciler, 0)).state is BatchState.RECONCILING
        assert (await look(rig, reconciler, 1_000)).state is BatchState.SEALED


@pytest.mark.parametrize("copies", [1, 2])
async def test_a_create_that_was_said_not_to_happen_and_did(copies: int, tmp_path: Path) -> None:
    """Refused by a limit, it is found before it is tried again: taken; of several one is kept, the others are stopped."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a")
        rig.remote.before["submit"].append(Retryable("status 429"))
        again = await create(rig, batch)
        assert again.state is BatchState.SEALED
        twins = [rig.remote.create(rig.upstream.view(again)) for _ in range(copies)]
        await rig.clock.advance(10)
        after = await create(rig, await claimed(rig))

        assert (after.state, after.remote_id) == (BatchState.SUBMITTED, twins[0].remote_id)
        assert rig.remote.calls["submit"] == 1
        assert [twin.cancelled for twin in twins] == [False, True][:copies]
        assert (f'duplicate_batches_total{{provider="fake"}} {copies - 1}.0'.encode() in rig.metrics.render()) == (
            copies > 1
        )


async def test_a_large_create_may_take_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the lines travel in the create call its time grows with them: a slow line out must not be doubt for ever."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a")
        waits: list[float] = []
        call = Accounts.call

        async def timed(
            self: Accounts, provider: ConfiguredProvider, verb: str, work: Coroutine[object, object, T], seconds: float
        ) -> T:
            waits.extend([seconds] if verb == "submit" else [])
            return await call(self, provider, verb, work, seconds)

        monkeypatch.setattr(Accounts, "call", timed)
        rig.remote.before["submit"].append(Ambiguous("reset"))
        monkeypatch.setattr(submitter, "SLOWEST_BYTES_PER_SECOND", batch.size / 1_000.0)
        await submitter_of(rig).submit(batch)
        assert waits == [120.0 + 1_000.0]


@pytest.mark.parametrize(("shown", "pause", "again"), [(True, 400, True), (True, 200, False), (False, 400, False)])
async def test_results_that_are_gone_are_asked_again(shown: bool, pause: float, again: bool, tmp_path: Path) -> None:
    """The batch is there and its results are not, for a quarantine: its lines go back; with the batch gone too, they wait."""
    async with open_rig(tmp_path) as rig:
        await create(rig, await sealed(rig, "a", "b"))
        remote = RemoteBatch(remote_id="fake-1", state=RemoteState.ENDED, total=2, done=2)
        await rig.ledger.batches.ended(await claimed(rig), remote, rig.clock.now())
        rig.remote.before["fetch"].extend([Missing("deleted")] * 9)
        if not shown:
            rig.remote.batches.clear()
        cache = Cache.open(tmp_path / "cache", CacheSettings())
        collector = Collector(rig.upstream, rig.waiters, cache, rig.retries, rig.tasks, ended=asyncio.Event())
        states = []
        for _ in range(4):
            await rig.clock.advance(pause)
            batch = await claimed(rig)
            await rig.upstream.guard(batch, collector.collect(batch))
            states.append((await rig.batch()).state)
        cache.close()

        assert states == [BatchState.ENDED] * 3 + [BatchState.COLLECTED if again else BatchState.ENDED]

        assert await rig.states() == [RequestState.QUEUED if again else RequestState.BATCHED] * 2
