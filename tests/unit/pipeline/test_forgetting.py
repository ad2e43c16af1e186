"""What a process alone knows of a batch it lets go with the batch."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.records import BatchState
from tests.unit.pipeline.rig import open_rig
from tests.unit.pipeline.stages import poller_of, reconciler_of
from tests.unit.pipeline.test_listed_not_known import Forgetful
from tests.unit.pipeline.test_poller import submitted

DAY = 86_400.0


@pytest.mark.parametrize("gone", [False, True])
async def test_what_was_told_to_stop_is_forgotten_when_it_has(gone: bool, tmp_path: Path) -> None:
    """An overdue batch that is over, or not known any more, leaves nothing behind in the poller."""
    async with open_rig(tmp_path) as rig:
        batch = await submitted(rig, "a")
        rig.remote.batches["fake-1"].due += 10 * DAY
        poller = poller_of(rig)
        await rig.ledger.batches.release(batch, retry_at=rig.clock.now())
        await rig.clock.advance(3 * DAY)
        if gone:
            rig.remote.batches.clear()
        for _ in range(2):
            await poller.tick()
            await rig.errands()
            await rig.clock.advance(3_600)
        assert (await rig.batch()).state is (BatchState.RECONCILING if gone else BatchState.ENDED)
        assert poller._stopping == {}


async def test_what_is_let_be_is_forgotten(tmp_path: Path) -> None:
    """A batch that was listed and never known, and is not listed any more, leaves nothing behind in the reconciler."""
    async with open_rig(tmp_path, plugin=Forgetful) as rig:
        batch = await submitted(rig, "a")
        reconciler = reconciler_of(rig)
        await rig.ledger.batches.doubt(batch, "missing", rig.clock.now())
        await reconciler.tick()
        await rig.errands()
        assert (await rig.batch()).state is BatchState.SUBMITTED
        missing = await rig.ledger.batches.claim_one(batch.id)
        assert missing is not None
        await rig.ledger.batches.doubt(missing, "missing", rig.clock.now())
        rig.remote.batches.clear()
        for _ in range(2):
            await rig.clock.advance(1_000)
            await reconciler.tick()
            await rig.errands()
        assert (await rig.batch()).state is BatchState.SEALED
        assert (reconciler._first_empty, dict(reconciler._listed_only), rig.upstream.looked_for) == ({}, {}, set())
