"""What becomes of a batch that its provider refused as a whole: halves, smaller ones, or its requests go back."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.dissolving import dissolve
from gateway.errors import Missing, Rejected, Retryable, TokenLimit, Unauthorised
from gateway.records import BatchState, RequestState
from tests.unit.pipeline.rig import open_rig, sealed


@pytest.mark.parametrize("error", [Unauthorised("401"), Retryable("busy"), Missing("gone")])
async def test_what_says_nothing_of_the_lines_sends_all_back(error: Exception, tmp_path: Path) -> None:
    """Every request is queued again as it was, and one batch is gone."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a", "b")
        settled = await dissolve(rig.upstream, batch, error)  # type: ignore[arg-type]
        assert settled == []
        assert await rig.states() == [RequestState.QUEUED] * 2
        assert [request.attempts for request in await rig.ledger.requests.listed(None)] == [0, 0]
        assert [each.state for each in await rig.batches()] == [BatchState.DISSOLVED]
        assert rig.upstream.arrived.is_set()


async def test_the_log_says_what_became_of_whom(tmp_path: Path) -> None:
    """How many ended, how many go back, and by what name the one is known that was refused, without the provider's words."""
    async with open_rig(tmp_path) as rig:
        refusal = Rejected("the flag of wxyz is not allowed", lines={1: "bad"})
        batch = await sealed(rig, "a", "b", "c")
        names = [request.custom_id for request in await rig.ledger.requests.listed(None)]
        with capture_logs() as logs:
            await dissolve(rig.upstream, batch, refusal)
    [log] = [log for log in logs if log["event"] == "batch_dissolved"]

    assert (log["requests"], log["ended_requests"], log["again"]) == (3, 1, 2)
    assert log["custom_ids"] == names[1:2]
    assert "wxyz" not in str(log)


async def test_halves_are_sealed_in_the_same_step(tmp_path: Path) -> None:
    """The halves have markers of their own, keep the order of the lines, and the submitter is told."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a", "b", "c")
        await dissolve(rig.upstream, batch, Rejected("bad"))
        parts = await rig.batches(BatchState.SEALED)
        assert [part.count for part in parts] == [2, 1]
        assert batch.marker not in {part.marker for part in parts}
        requests = await rig.ledger.requests.listed(None)
        assert [(request.batch, request.n) for request in requests] == [
            (parts[0].id, 0),
            (parts[0].id, 1),
            (parts[1].id, 0),
        ]
        assert rig.upstream.sealed.is_set()


async def test_token_limits_in_a_row_wait_longer(tmp_path: Path) -> None:
    """The lane waits 60 s, then 120 s, then 240 s, its target halving each time, and the small go first."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a", "b", "c", "d")
        for pause, target, left in ((60, 200, 4), (120, 100, 4), (240, 50, 3)):
            await dissolve(rig.upstream, batch, TokenLimit("full"))
            (window,) = await rig.ledger.lanes.windows()
            assert (window.count, window.target_tokens) == (left, target)
            assert window.retry_at - rig.clock.now() == pause
            await rig.clock.advance(pause)
            await rig.batcher().tick()
            (smaller,) = await rig.batches(BatchState.SEALED)
            assert smaller.tokens <= max(target, 100)
            found = await rig.ledger.batches.claim_one(smaller.id)
            assert found is not None
            batch = found


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("factor", [0.1, 0.3, 1.0, 4.0])
async def test_after_a_token_limit_batches_are_half_as_large(factor: float, sent: bool, tmp_path: Path) -> None:
    """However far the lane's estimates are from the provider's count, the next batch has about half the lines."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, *map(str, range(20)))
        await rig.ledger.database.write(
            lambda session: session._connection.execute("UPDATE lanes SET token_factor = ?", (factor,))  # type: ignore[attr-defined]
        )
        if sent:
            batch = await rig.ledger.batches.intend(batch, rig.clock.now())
        await dissolve(rig.upstream, batch, TokenLimit("full"))
        await rig.clock.advance(60)
        await rig.batcher().tick()
        assert [each.count for each in await rig.batches(BatchState.SEALED)] == [pytest.approx(10, abs=1)]


async def test_a_longer_wish_of_the_provider_is_heeded(tmp_path: Path) -> None:
    """A lane waits at least as long as the provider asks for, up to an hour."""
    async with open_rig(tmp_path) as rig:
        await dissolve(rig.upstream, await sealed(rig, "a", "b"), TokenLimit("full", retry_after=500.0))
        (window,) = await rig.ledger.lanes.windows()
        assert window.retry_at - rig.clock.now() == 500
