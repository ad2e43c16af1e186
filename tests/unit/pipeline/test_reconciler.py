"""A batch that may or may not have been created: found, sent again after the quarantine, or held; never sent twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import Retries
from gateway.errors import Ambiguous, Missing, Retryable, Unauthorised
from gateway.records import BatchState, RemoteBatch, RemoteState, RequestState, new_marker
from gateway.store.shipping import Cut
from tests.unit.pipeline.rig import claimed, open_rig, sealed
from tests.unit.pipeline.stages import all_missing, create, doubted, look, look_through, reconciler_of


async def test_a_batch_that_is_there_is_adopted(tmp_path: Path) -> None:
    """A lost response: the batch is found by its marker and goes on, and nothing is sent twice."""
    async with open_rig(tmp_path) as rig:
        await doubted(rig, created=True)
        assert (await look(rig, reconciler_of(rig))).state is BatchState.SUBMITTED
        assert rig.remote.duplicates() == {}
        assert (await rig.batches())[0].remote_id == "fake-1"


async def test_only_two_empty_listings_a_quarantine_apart_are_believed(tmp_path: Path) -> None:
    """One empty list proves nothing: it is sent again after a second one, 900 s later, under the same marker and file."""
    async with open_rig(tmp_path) as rig:
        batch = await doubted(rig, created=False)
        reconciler = reconciler_of(rig)
        assert (await look(rig, reconciler)).state is BatchState.RECONCILING
        for _ in range(14):
            assert (await look(rig, reconciler, 60)).state is BatchState.RECONCILING
        assert (await look(rig, reconciler, 60)).state is BatchState.SEALED
        again = await create(rig, await claimed(rig))
        assert (again.state, again.marker, again.file_id) == (BatchState.SUBMITTED, batch.marker, batch.file_id)
        assert rig.remote.duplicates() == {}


async def test_a_listing_that_fails_is_no_empty_listing(tmp_path: Path) -> None:
    """Errors do not count towards the quarantine, however long they go on."""
    async with open_rig(tmp_path) as rig:
        await doubted(rig, created=False)
        reconciler = reconciler_of(rig)
        for error in (Retryable("503"), Missing("x"), RuntimeError("bug"), Ambiguous("reset"), TimeoutError()):
            rig.remote.before["find"].append(error)
            assert (await look(rig, reconciler, 1000)).state is BatchState.RECONCILING
        rig.remote.before["find"].append(Unauthorised("401"))
        assert (await look(rig, reconciler, 1000)).state is BatchState.RECONCILING
        assert (await look(rig, reconciler, 1000)).state is BatchState.RECONCILING
        assert rig.remote.calls["submit"] == 1


async def test_a_batch_that_shows_late_is_adopted(tmp_path: Path) -> None:
    """Lists lag: what shows up between the two listings is taken, not repeated."""
    async with open_rig(tmp_path) as rig:
        await doubted(rig, created=True)
        hidden = dict(rig.remote.batches)
        rig.remote.batches.clear()
        reconciler = reconciler_of(rig)
        assert (await look(rig, reconciler)).state is BatchState.RECONCILING
        rig.remote.batches.update(hidden)
        assert (await look(rig, reconciler, 901)).state is BatchState.SUBMITTED
        assert rig.remote.duplicates() == {}


async def test_a_restart_starts_the_quarantine_anew(tmp_path: Path) -> None:
    """Another process knows nothing of the first listing, and a clock that was set proves nothing."""
    async with open_rig(tmp_path) as rig:
        await doubted(rig, created=False)
        assert (await look(rig, reconciler_of(rig))).state is BatchState.RECONCILING
        await rig.clock.advance(800)
        rig.clock.jump(10_000)
        second = reconciler_of(rig)
        assert (await look(rig, second)).state is BatchState.RECONCILING
        rig.clock.jump(10_000)
        assert (await look(rig, second, 60)).state is BatchState.RECONCILING
        assert (await look(rig, second, 900)).state is BatchState.SEALED


async def test_of_several_the_oldest_is_kept_and_the_others_stopped(tmp_path: Path) -> None:
    """A create that acted twice: one batch is ours, the other is cancelled and counted."""
    async with open_rig(tmp_path) as rig:
        await doubted(rig, created=True)
        await rig.clock.advance(5)
        twin = rig.remote.create(rig.upstream.view((await rig.batches())[0]))
        assert (await look(rig, reconciler_of(rig))).state is BatchState.SUBMITTED
        assert (await rig.batches())[0].remote_id == "fake-1"
        assert twin.cancelled
        assert b'duplicate_batches_total{provider="fake"} 1.0' in rig.metrics.render()


async def test_a_crash_in_the_create_call_is_doubt(tmp_path: Path) -> None:
    """A batch found in `submitting` after a restart is looked for, not sent."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a")
        batch = await rig.ledger.batches.intend(batch, rig.clock.now())
        await rig.ledger.boots.begin(exclusive=True)
        reconciler = reconciler_of(rig)
        assert (await look(rig, reconciler)).state is BatchState.RECONCILING
        assert (await look(rig, reconciler)).state is BatchState.RECONCILING
        assert rig.remote.calls["submit"] == 0
        assert rig.remote.calls["find"] == 1


async def test_all_batches_missing_at_once_are_parked_not_sent(tmp_path: Path) -> None:
    """When every batch that was surely there is gone, the key or the address is wrong, not the batches."""
    async with open_rig(tmp_path) as rig:
        await all_missing(rig)
        reconciler = reconciler_of(rig)
        for _ in range(12):
            await rig.clock.advance(301)
            await look_through(rig, reconciler)
        assert {row.state for row in await rig.batches()} == {BatchState.RECONCILING}
        assert all("missing" in (row.parked_reason or "") for row in await rig.batches())
        assert rig.remote.calls["submit"] == 2


async def test_by_the_operators_wish_it_is_sent_again_at_once(tmp_path: Path) -> None:
    """`ambiguous = "resubmit"` takes the first empty listing for an answer."""
    async with open_rig(tmp_path, retries=Retries(ambiguous="resubmit")) as rig:
        await doubted(rig, created=False)
        assert (await look(rig, reconciler_of(rig))).state is BatchState.SEALED


@pytest.mark.parametrize("created", [False, True])
async def test_by_the_operators_wish_it_fails_unless_it_is_there(created: bool, tmp_path: Path) -> None:
    """`ambiguous = "fail"`: nobody pays twice; callers are told once a late list is out of question, what shows is taken."""
    async with open_rig(tmp_path, retries=Retries(ambiguous="fail")) as rig:
        await doubted(rig, created=created)
        future = rig.waiters.attach(1)
        listed_late = dict(rig.remote.batches)
        rig.remote.batches.clear()
        reconciler = reconciler_of(rig)
        assert (await look(rig, reconciler)).state is BatchState.RECONCILING
        rig.remote.batches.update(listed_late)
        after = (await look(rig, reconciler, 901)).state
        if created:
            assert after is BatchState.SUBMITTED
        else:
            assert after is BatchState.DISSOLVED
            assert await rig.states() == [RequestState.FAILED] * 2
            assert future.result().status == 503


@pytest.mark.parametrize("ambiguous", ["resubmit", "fail"])
async def test_wishes_about_doubt_do_not_hold_when_all_are_missing(ambiguous: str, tmp_path: Path) -> None:
    """A wrong key must not make anybody's paid batches fail or be paid again, whatever is configured."""
    async with open_rig(tmp_path, retries=Retries(ambiguous=ambiguous)) as rig:
        await all_missing(rig)
        reconciler = reconciler_of(rig)
        await look_through(rig, reconciler)
        assert {row.state for row in await rig.batches()} == {BatchState.RECONCILING}


async def test_what_is_missing_elsewhere_proves_nothing_here(tmp_path: Path) -> None:
    """A batch that was made for another address and is parked does not hold one that is missing at this one."""
    async with open_rig(tmp_path) as rig:
        await rig.admit("a")
        [window] = await rig.ledger.lanes.windows()
        now, batches = rig.clock.now(), rig.ledger.batches
        await batches.seal(window.lane_id, Cut(), new_marker(), "", "http://before", now)
        there = RemoteBatch(remote_id="r", state=RemoteState.RUNNING)
        await batches.submitted(await batches.intend(await claimed(rig), now), there, now, now)
        await batches.doubt(await claimed(rig), "missing", now)
        await create(rig, await sealed(rig, "b"))
        await batches.doubt(await claimed(rig), "missing", now)
        rig.remote.batches.clear()
        reconciler = reconciler_of(rig)
        for _ in range(5):
            await rig.clock.advance(301)
            await look_through(rig, reconciler)
        assert [row.state for row in await rig.batches()] == [BatchState.RECONCILING, BatchState.SEALED]
