"""Stages of the pipeline each by itself, and the ways of a batch through them that many tests begin with."""

from __future__ import annotations

import asyncio

from gateway.config import Polling
from gateway.errors import Ambiguous
from gateway.pipeline.poller import Poller
from gateway.pipeline.reconciler import Reconciler
from gateway.pipeline.submitter import Submitter
from gateway.records import BatchState
from gateway.store.shipping import BatchRow
from tests.unit.pipeline.rig import Rig, sealed


def submitter_of(rig: Rig) -> Submitter:
    """A submitter that has not begun."""
    return Submitter(rig.upstream, rig.waiters, rig.tasks, submitted=asyncio.Event(), doubted=asyncio.Event())


def poller_of(rig: Rig) -> Poller:
    """A poller with the ordinary intervals that has asked nothing yet."""
    submitted, ended, doubted = asyncio.Event(), asyncio.Event(), asyncio.Event()
    return Poller(
        rig.upstream, rig.waiters, Polling(), rig.retries, rig.tasks, submitted=submitted, ended=ended, doubted=doubted
    )


def reconciler_of(rig: Rig) -> Reconciler:
    """A reconciler of a process that has listed nothing yet."""
    return Reconciler(
        rig.upstream, rig.waiters, rig.retries, rig.tasks, doubted=asyncio.Event(), submitted=asyncio.Event()
    )


async def create(rig: Rig, batch: BatchRow) -> BatchRow:
    """Make the one create call of a claimed batch; how the newest batch stands after it."""
    await rig.upstream.guard(batch, submitter_of(rig).submit(batch))
    return (await rig.batches())[-1]


async def doubted(rig: Rig, *texts: str, created: bool) -> BatchRow:
    """A batch whose create call was lost, before or after it had its effect."""
    batch = await sealed(rig, *(texts or ("a", "b")))
    (rig.remote.after if created else rig.remote.before)["submit"].append(Ambiguous("timeout"))
    after = await create(rig, batch)
    assert after.state is BatchState.RECONCILING
    return after


async def all_missing(rig: Rig) -> None:
    """Two batches that were surely there and that the provider does not know any more."""
    for n in range(2):
        assert (await create(rig, await sealed(rig, f"q{n}"))).state is BatchState.SUBMITTED
    for row in await rig.batches():
        found = await rig.ledger.batches.claim_one(row.id)
        assert found is not None
        await rig.ledger.batches.doubt(found, "missing", rig.clock.now())
    rig.remote.batches.clear()


async def look(rig: Rig, reconciler: Reconciler, seconds: float = 0.0) -> BatchRow:
    """Turn the clock, look once, and say how the oldest batch stands."""
    await rig.clock.advance(seconds)
    await reconciler.tick()
    await rig.errands()
    return (await rig.batches())[0]


async def look_through(rig: Rig, reconciler: Reconciler) -> None:
    """Look until every batch that is due was looked for."""
    while await reconciler.tick():
        await rig.errands()
