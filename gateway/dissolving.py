"""The end of a batch that does not go on: its provider refused it as a whole, or nothing more will be heard of it.

Floor 3. What becomes of its requests is decided in `endings`, and is one transaction of the ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.delivery import count_ended, names_of
from gateway.endings import dissolution
from gateway.errors import ProviderError, TokenLimit
from gateway.records import BatchState, new_marker
from gateway.store.batches import SETTLE_AT_MOST
from gateway.store.rows import Ending
from gateway.store.shipping import BatchRow, Member, Settled, Settlement
from gateway.troubles import unquoted
from gateway.upstream import Upstream

#: A lane refused for its tokens waits this long for one of its batches to end, doubling up to the second.
TOKEN_PAUSE_SECONDS = 60.0
LONGEST_TOKEN_PAUSE_SECONDS = 3600.0


async def dissolve(upstream: Upstream, batch: BatchRow, refusal: ProviderError) -> list[Settled]:
    """Take a batch apart that its provider refused as a whole; nothing of it was run or paid."""
    plan = dissolution(batch, refusal)
    now = upstream.clock.now()
    pause = await _shrink(upstream, batch, refusal, now) if plan.shrink else 0.0
    # One that found no room all by itself lets the others go first: they may be smaller.
    not_before = now + pause if plan.shrink and batch.count == 1 else None
    parts, settled = await upstream.ledger.batches.dissolve(
        batch, now, plan.refused, [new_marker() for _ in range(plan.parts)], not_before
    )
    upstream.metrics.batches_dissolved.of(batch.lane.provider, type(refusal).__name__).inc()
    count_ended(upstream.metrics, batch.lane.provider, (request.state for request in settled))
    upstream.log(batch).warning(
        "batch_dissolved",
        reason=unquoted(refusal.reason),
        cause=type(refusal).__name__,
        requests=batch.count,
        refused_requests=len(plan.refused),
        ended_requests=len(settled),
        custom_ids=await names_of(upstream.ledger, settled),
        again=batch.count - len(settled),
        parts=len(parts),
    )
    (upstream.sealed if parts else upstream.arrived).set()
    return settled


async def _shrink(upstream: Upstream, batch: BatchRow, refusal: ProviderError, now: float) -> float:
    """Halve what the lane's batches may hold, and wait until one of them ends or a growing pause is over: its seconds."""
    wish = refusal.retry_after if isinstance(refusal, TokenLimit) else None
    # As corrected by what the lane has learned by now: so its windows are counted.
    counted = await upstream.ledger.batches.get(batch.id) or batch
    return await upstream.ledger.lanes.shrink(
        batch.lane_id,
        target_tokens=max(1, counted.tokens // 2),
        now=now,
        first_pause=TOKEN_PAUSE_SECONDS,
        longest_pause=LONGEST_TOKEN_PAUSE_SECONDS,
        at_least=wish or 0.0,
    )


async def give_up(upstream: Upstream, batch: BatchRow, ending: Ending) -> list[Settled]:
    """End what is left of a claimed batch that was sent, and of which nothing more will be heard.

    It is never sent again: the provider may have run it, and may run it still. Lines whose cancel was wished end cancelled,
    the others with `ending`; what they cost is not known.
    """
    now = upstream.clock.now()
    members = await asyncio.to_thread(upstream.members, batch)
    upstream.log(batch).error("batch_given_up", state=batch.state.value, reason=batch.parked_reason, lines=len(members))
    upstream.metrics.batches_dissolved.of(batch.lane.provider, "given_up").inc()
    if batch.state is not BatchState.ENDED:
        refused = {member.n: ending for member in members if member.cancel_at is None}
        _, settled = await upstream.ledger.batches.dissolve(batch, now, refused)
    else:
        settled = await _settle_lost(upstream, batch, members, ending, now)
        await upstream.ledger.batches.collected(batch, now)
    count_ended(upstream.metrics, batch.lane.provider, (request.state for request in settled))
    upstream.arrived.set()
    return settled


async def _settle_lost(
    upstream: Upstream, batch: BatchRow, members: Sequence[Member], ending: Ending, now: float
) -> list[Settled]:
    settled: list[Settled] = []
    for start in range(0, len(members), SETTLE_AT_MOST):
        lines = [
            Settlement(n=member.n, status=0, ending=None if member.cancel_at is not None else ending, trouble="missing")
            for member in members[start : start + SETTLE_AT_MOST]
        ]
        settled += await upstream.ledger.batches.settle(batch, lines, now)
    return settled
