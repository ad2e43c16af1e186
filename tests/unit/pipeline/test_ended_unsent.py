"""Requests that end where no provider has answered are counted like those that were answered: once, by how they ended."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.endings import cancelled
from tests.unit.pipeline.rig import Rig, open_rig, sealed
from tests.unit.pipeline.test_janitor import HOUR, janitor_of, left


def ended(rig: Rig) -> dict[str, int]:
    """What the metric says."""
    found = re.findall(rb'requests_ended_total\{provider="fake",state="(\w+)"\} (\S+)', rig.metrics.render())
    return {state.decode(): int(float(count)) for state, count in found}


async def test_what_waited_too_long(tmp_path: Path) -> None:
    """In its lane, in a batch that could not be sent, in one of which nothing was heard: each expires, and is counted."""
    async with open_rig(tmp_path) as rig:
        batches = rig.ledger.batches
        lost = await batches.intend(await sealed(rig, "lost"), rig.clock.now())
        await batches.doubt(lost, "lost", rig.clock.now())
        (lost,) = await batches.claim([lost.state.RECONCILING], rig.clock.now(), 1)
        await batches.release(lost, retry_at=0, parked_reason="list: 503", troubles=99)
        unsent = await sealed(rig, "a", "b")
        await batches.release(unsent, retry_at=0, parked_reason="the provider is gone")
        await rig.admit("queued")
        await rig.clock.advance(400 * HOUR)
        for _ in range(3):
            await janitor_of(rig).round()
        assert ended(rig) == {"expired": 4}


async def test_what_nobody_waits_for_or_wants(tmp_path: Path) -> None:
    """A request that was abandoned, and one that was cancelled in a batch that is not sent, end cancelled, and are counted."""
    async with open_rig(tmp_path) as rig:
        await rig.admit("a")
        await left(rig)
        await rig.clock.advance(121)
        await janitor_of(rig, on_disconnect="cancel").round()
        assert ended(rig) == {"cancelled": 1}
        await rig.ledger.batches.release(await sealed(rig, "b"), retry_at=0)
        await rig.ledger.requests.cancel(2, rig.clock.now(), cancelled())
        await janitor_of(rig).round()
        assert ended(rig) == {"cancelled": 2}
