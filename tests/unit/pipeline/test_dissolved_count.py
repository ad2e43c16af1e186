"""Every batch that is taken apart is counted, by what took it apart."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.config import Retries
from gateway.endings import cancelled
from gateway.records import BatchState
from tests.unit.pipeline.rig import Rig, open_rig, sealed
from tests.unit.pipeline.stages import submitter_of
from tests.unit.pipeline.test_leaving_out import go_round
from tests.unit.pipeline.test_unfound import DAY, CrashingProvider, go_on
from tests.unit.pipeline.works import open_works

_COUNT = re.compile(rb'^batchway_batches_dissolved_total\{provider="fake",reason="(\w+)"\} (\d+)', re.MULTILINE)


def counted(rig: Rig) -> dict[str, int]:
    """By reason."""
    return {reason.decode(): int(count) for reason, count in _COUNT.findall(rig.metrics.render())}


@pytest.mark.parametrize("by_janitor", [False, True])
async def test_whoever_meets_the_wish_counts_it(by_janitor: bool, tmp_path: Path) -> None:
    """A batch of which a request was cancelled before it was sent: by its round, or right before it is sent."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a", "b")
        if by_janitor:
            await rig.ledger.batches.release(batch, retry_at=rig.clock.now() + 1e6)
        await rig.ledger.requests.cancel(1, rig.clock.now(), cancelled())
        await (go_round(rig) if by_janitor else submitter_of(rig).submit(batch))
        assert (await rig.batch()).state is BatchState.DISSOLVED
        assert counted(rig) == {"cancelled": 1}


async def test_what_could_not_be_sent_in_time_is_counted(tmp_path: Path) -> None:
    """A sealed batch that waited for its provider for as long as anybody waits."""
    async with open_rig(tmp_path) as rig:
        await rig.ledger.batches.release(await sealed(rig, "a"), retry_at=rig.clock.now() + 100 * DAY)
        await rig.clock.advance(rig.retries.give_up_hours * 3_600 + 1)
        await go_round(rig)
        assert counted(rig) == {"given_up": 1}


async def test_what_was_in_doubt_for_too_long_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each whole that falls in halves, and the line that stands alone in the end."""
    monkeypatch.setattr(CrashingProvider, "poison", b"poison")
    async with open_works(tmp_path, plugin=CrashingProvider, retries=Retries(give_up_hours=48)) as works:
        await works.rig.admit("a", "poison")
        await go_on(works, 3 * DAY, step=2_400)
        dissolved = await works.rig.batches(BatchState.DISSOLVED)
        assert counted(works.rig) == {"halved": 1, "given_up": len(dissolved) - 1}
