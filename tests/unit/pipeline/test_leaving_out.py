"""Requests that are cancelled before their sealed batch is sent are left out of it: they cost nothing."""

from __future__ import annotations

from pathlib import Path

from gateway.config import Server, Storage
from gateway.endings import cancelled
from gateway.pipeline.janitor import Janitor
from gateway.records import BatchState, RequestState
from tests.unit.pipeline.rig import Rig, claimed, open_rig, sealed
from tests.unit.pipeline.stages import submitter_of

LEFT_OUT = [RequestState.CANCELLED, RequestState.QUEUED]
KEPT = [RequestState.BATCHED, RequestState.BATCHED]


async def go_round(rig: Rig) -> None:
    """One round of the janitor."""
    await Janitor(rig.upstream, rig.waiters, Server(), Storage(), rig.retries).round()


async def test_the_last_look_is_right_before_it_is_sent(tmp_path: Path) -> None:
    """Whoever cancels until the batch is taken up is not in it; the other goes back, due at once, without an attempt."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a", "b")
        await rig.ledger.requests.cancel(1, rig.clock.now(), cancelled())
        await submitter_of(rig).submit(batch)
        assert await rig.states() == LEFT_OUT
        assert (await rig.ledger.requests.listed(None))[1].attempts == 0
        assert rig.remote.calls["upload"] == 0
        [window] = await rig.ledger.lanes.windows()
        assert window.count == 1


async def test_a_parked_batch_is_not_waited_for(tmp_path: Path) -> None:
    """A cancel comes true at the janitor's next round, however long the batch has to wait for its provider."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a", "b")
        await rig.ledger.batches.release(batch, retry_at=rig.clock.now() + 1e6, parked_reason="the key was refused")
        await go_round(rig)
        assert await rig.states() == KEPT
        future = rig.waiters.attach(1)
        await rig.ledger.requests.cancel(1, rig.clock.now(), cancelled())
        await go_round(rig)
        assert await rig.states() == LEFT_OUT
        assert future.result().code == "cancelled"


async def test_what_is_at_the_provider_is_not_taken_apart(tmp_path: Path) -> None:
    """A batch whose file was uploaded, or whose create was tried, is sent as it is: its lines have their numbers there."""
    async with open_rig(tmp_path) as rig:
        batch = await rig.ledger.batches.uploaded(await sealed(rig, "a", "b"), "file-1")
        await rig.ledger.batches.release(batch, retry_at=0.0)
        await rig.ledger.requests.cancel(1, rig.clock.now(), cancelled())
        await go_round(rig)
        assert await rig.states() == KEPT
        batch = await rig.ledger.batches.intend(await claimed(rig), rig.clock.now())
        await rig.ledger.batches.reseal(batch, 0.0)
        await go_round(rig)
        assert await rig.states() == KEPT
        assert (await rig.batch()).state is BatchState.SEALED
