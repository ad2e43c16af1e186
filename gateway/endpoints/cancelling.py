"""A request is cancelled by wish, its caller's or an operator's: done, counted, told and logged in one way."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from gateway.clock import Clock
from gateway.endings import cancelled
from gateway.metrics import Metrics
from gateway.pipeline.waiters import Waiters
from gateway.store.ledger import Ledger
from gateway.store.rows import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Canceller:
    """What it takes to cancel a request."""

    ledger: Ledger
    waiters: Waiters
    metrics: Metrics
    clock: Clock

    async def cancel(self, found: Request, *, wished_by: str) -> Request:
        """End what is queued, mark what its provider has, leave what has ended; the request as it is then.

        Whoever waits for a request that ended by this is told.
        """
        now = self.clock.now()
        after = await self.ledger.requests.cancel(found.seq, now, cancelled(found.lane.provider))
        if found.state.ended:
            return after
        if after.state.ended and after.ended_at == now:
            self.metrics.requests_ended.of(after.lane.provider, after.state.value).inc()
        if after.state.ended:
            self.waiters.wake(await self.ledger.requests.endings([after.seq]))
        structlog.get_logger().info(
            "cancel_wished",
            custom_id=after.custom_id,
            client=after.client,
            provider=after.lane.provider,
            batch_id=after.batch,
            wished_by=wished_by,
            state=after.state.value,
        )
        return after
