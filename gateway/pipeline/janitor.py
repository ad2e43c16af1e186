"""What must happen in the end: nothing waits for ever, nothing is kept for ever.

Takes requests that are `queued` too long and leaves them `expired`, queued ones nobody waits for any more (if so
configured) and leaves them `cancelled`; takes batches that are `collected` or `dissolved` and leaves nothing of them
at the provider. If the process dies half-way, the next round finds what is left.
"""

from __future__ import annotations

import asyncio

from gateway.config import Retries, Server, Storage
from gateway.endings import cancelled, failure
from gateway.errors import PluginFault, ProviderError
from gateway.pipeline.waiters import Waiters
from gateway.records import BatchState, RequestState
from gateway.store.shipping import BatchRow
from gateway.upstream import Upstream, remote_of, trouble

TICK_SECONDS = 15.0
AT_ONCE = 500
BATCHES_AT_ONCE = 20
DISCARD_SECONDS = 120.0
#: With `on_disconnect = "cancel"`: how long after its last waiter left a queued request is cancelled.
ABANDONED_SECONDS = 120.0


class Janitor:
    """Goes round every now and then."""

    def __init__(
        self, upstream: Upstream, waiters: Waiters, server: Server, storage: Storage, retries: Retries
    ) -> None:
        """Nothing is done yet."""
        self._upstream = upstream
        self._ledger = upstream.ledger
        self._waiters = waiters
        self._server = server
        self._storage = storage
        self._retries = retries

    async def run(self) -> None:
        """Go round for ever."""
        while True:
            await self.round()
            await self._upstream.clock.sleep(TICK_SECONDS)

    async def round(self) -> None:
        """Do once what is due."""
        now = self._upstream.clock.now()
        while await self._ledger.boots.bury(AT_ONCE) == AT_ONCE:
            pass
        await self._give_up(now)
        await self._give_up_unsent(now)
        if self._server.on_disconnect == "cancel":
            await self._cancel_abandoned(now)
        await self._cancel_batches(now)
        for batch in await self._ledger.batches.undiscarded(now, BATCHES_AT_ONCE):
            await self._discard(batch)
        forget_before = now - self._storage.retention_days * 86_400
        while await self._ledger.requests.forget(forget_before, AT_ONCE) == AT_ONCE:
            pass

    async def _give_up(self, now: float) -> None:
        """Queued for longer than anybody waits: the request ends, and says so."""
        hours = self._retries.give_up_hours
        ending = failure(
            "expired",
            f"The request could not be sent to its provider within {hours:g} hours (retries.give_up_hours).",
            state=RequestState.EXPIRED,
        )
        while ended := await self._ledger.requests.give_up(now - hours * 3600, ending, now, AT_ONCE):
            self._waiters.wake(dict.fromkeys(ended, ending))

    async def _give_up_unsent(self, now: float) -> None:
        """Batches that could not be sent for as long: their requests go back, and are given up in the next round."""
        before = now - self._retries.give_up_hours * 3600
        for waiting in await self._ledger.batches.unsent(before, BATCHES_AT_ONCE):
            batch = await self._ledger.batches.claim_one(waiting.id)
            if batch is not None:
                await self._upstream.guard(batch, self._take_apart(batch, now))

    async def _cancel_abandoned(self, now: float) -> None:
        ending = cancelled()
        while ended := await self._ledger.requests.cancel_abandoned(now - ABANDONED_SECONDS, ending, AT_ONCE):
            self._waiters.wake(dict.fromkeys(ended, ending))

    async def _cancel_batches(self, now: float) -> None:
        """Stop the batches of which nobody wants a line: those not sent fall apart, the poller cancels the others."""
        for unwanted in await self._ledger.batches.cancelled_whole(BATCHES_AT_ONCE):
            batch = await self._ledger.batches.claim_one(unwanted.id)
            if batch is not None:
                await self._upstream.guard(batch, self._stop(batch, now))

    async def _stop(self, batch: BatchRow, now: float) -> None:
        if batch.state is BatchState.SEALED:
            await self._take_apart(batch, now)
        else:
            await self._ledger.batches.mark_cancelling(batch, now)

    async def _take_apart(self, batch: BatchRow, now: float) -> None:
        """Dissolve a claimed batch that was not sent; one that has been sent since it was listed is let go."""
        if batch.state is BatchState.SEALED:
            _, settled = await self._ledger.batches.dissolve(batch, now, {})
            self._waiters.wake(await self._ledger.requests.endings([request.seq for request in settled]))
        else:
            await self._ledger.batches.release(
                batch, retry_at=batch.retry_at, parked_reason=batch.parked_reason, troubles=batch.troubles
            )

    async def _discard(self, batch: BatchRow) -> None:
        """Delete a settled batch's files, at the provider and here. Once: what fails expires by itself."""
        provider = self._upstream.router.providers.get(batch.lane.provider)
        plugin = await provider.ready() if provider is not None else None
        if provider is not None and plugin is not None:
            remote = remote_of(batch) if batch.remote_id is not None else None
            discard = plugin.discard(self._upstream.view(batch), remote)
            try:
                await self._upstream.accounts.call(provider, "discard", discard, DISCARD_SECONDS)
            except (ProviderError, PluginFault, TimeoutError) as error:
                self._upstream.log(batch).warning("discard_failed", reason=trouble(error))
        await asyncio.to_thread(self._upstream.spool.drop, batch.marker)
        await self._ledger.batches.discarded(batch)
