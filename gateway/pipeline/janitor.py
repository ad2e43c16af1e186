"""What must happen in the end: nothing waits for ever, nothing is kept for ever.

Takes requests that are `queued` too long, or in batches of which nothing is heard any more, and leaves them `expired`;
queued ones nobody waits for any more (if so configured) and leaves them `cancelled`; forgets what ended long ago. If the process
dies half-way, the next round finds what is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from gateway.config import Retries, Server, Storage
from gateway.delivery import count_ended
from gateway.dissolving import give_up
from gateway.endings import cancelled, failure
from gateway.pipeline.waiters import Waiters
from gateway.records import BatchState, Limits, RequestState
from gateway.store.rows import Ending
from gateway.store.shipping import BatchRow
from gateway.troubles import LOST_TROUBLES, deadline
from gateway.upstream import Upstream

TICK_SECONDS = 15.0
AT_ONCE = 500
#: With bodies of 100 KB, 500 keep the writer from its callers for 0.13 s (measured).
FORGET_AT_ONCE = 100
BATCHES_AT_ONCE = 20
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
        await self._give_up_lost(now)
        if self._server.on_disconnect == "cancel":
            await self._cancel_abandoned(now)
        await self._cancel_batches(now)
        forget_before = now - self._storage.retention_days * 86_400
        while await self._ledger.requests.forget(forget_before, FORGET_AT_ONCE) == FORGET_AT_ONCE:
            pass

    def _unsent(self) -> Ending:
        return failure(
            "expired",
            "The request could not be sent to its provider within "
            f"{self._retries.give_up_hours:g} hours (retries.give_up_hours).",
            state=RequestState.EXPIRED,
        )

    async def _give_up(self, now: float) -> None:
        """Queued for longer than anybody waits: the request ends, and says so."""
        ending, before = self._unsent(), now - self._retries.give_up_hours * 3600
        while ended := await self._ledger.requests.give_up(before, ending, now, AT_ONCE):
            await self._tell(ended)

    async def _give_up_unsent(self, now: float) -> None:
        """Batches that could not be sent for as long: requests that have waited too long end with them, the others go back.

        They end here and not in the next round: until then the batcher would have sealed them anew.
        """
        before = now - self._retries.give_up_hours * 3600
        for waiting in await self._ledger.batches.unsent(before, BATCHES_AT_ONCE):
            batch = await self._ledger.batches.claim_one(waiting.id)
            if batch is not None:
                await self._upstream.guard(batch, self._end_unsent(batch, now, before))

    async def _end_unsent(self, batch: BatchRow, now: float, before: float) -> None:
        members = await asyncio.to_thread(self._upstream.members, batch)
        old = (member.n for member in members if member.queued_at < before and member.cancel_at is None)
        await self._take_apart(batch, now, "given_up", dict.fromkeys(old, self._unsent()))

    async def _give_up_lost(self, now: float) -> None:
        """Batches that were sent, and of which nothing has been heard for as long: their requests end, and are not sent again.

        Their provider was taken out of the configuration, its key is refused, nobody answers, its plugin fails: it may have
        run them all the same.
        """
        hours = self._retries.give_up_hours
        for lost in await self._ledger.batches.lost(now - hours * 3600, LOST_TROUBLES, AT_ONCE):
            provider = self._upstream.router.providers.get(lost.lane.provider)
            window = Limits().window_seconds if provider is None else provider.limits.window_seconds
            if now < deadline(lost, window, hours):
                continue
            # It may have been found since.
            batch = await self._ledger.batches.claim_one(lost.id, [lost.state])
            if batch is not None:
                await self._upstream.guard(batch, self._end_lost(batch))

    async def _end_lost(self, batch: BatchRow) -> None:
        ending = failure(
            "expired",
            f"Nothing was heard of the batch of this request for {self._retries.give_up_hours:g} hours after provider "
            f"{batch.lane.provider!r} should have ended it (retries.give_up_hours). It may have been run.",
            state=RequestState.EXPIRED,
            provider=batch.lane.provider,
            batch=batch.id,
        )
        settled = await give_up(self._upstream, batch, ending)
        self._waiters.wake(await self._ledger.requests.endings([request.seq for request in settled]))

    async def _cancel_abandoned(self, now: float) -> None:
        """Queued, and its last caller has left: the request ends, unless somebody waits for it at `/v1/results`."""
        ending, before, cancel = cancelled(), now - ABANDONED_SECONDS, self._ledger.requests.cancel_abandoned
        while ended := await cancel(before, ending, AT_ONCE, but=self._waiters.watched()):
            await self._tell(ended)

    async def _tell(self, ended: Sequence[int]) -> None:
        """Count requests that have just ended in their lanes, and wake whoever waits for them."""
        endings = await self._ledger.requests.endings(ended)
        for ending in endings.values():
            count_ended(self._upstream.metrics, ending.provider, [ending.state])
        self._waiters.wake(endings)

    async def _cancel_batches(self, now: float) -> None:
        """Stop the batches of which nobody wants a line: those not sent fall apart, the poller cancels the others.

        One that somebody works on now is left to them: they look for the wish themselves when they are done with it.
        Of one that was not sent, single lines can still be left out: it falls apart, too, and the others are sealed anew.
        """
        for number in await self._ledger.batches.wished_unsent(BATCHES_AT_ONCE):
            batch = await self._ledger.batches.claim_one(number)
            if batch is not None:
                await self._upstream.guard(batch, self._leave_out(batch, now))
        for unwanted in await self._ledger.batches.cancelled_whole(BATCHES_AT_ONCE):
            batch = await self._ledger.batches.claim_one(unwanted.id)
            if batch is not None:
                await self._upstream.guard(batch, self._stop(batch, now))

    async def _leave_out(self, batch: BatchRow, now: float) -> None:
        await self._take_apart(batch, now, "cancelled", {})
        self._upstream.arrived.set()

    async def _stop(self, batch: BatchRow, now: float) -> None:
        if batch.state is BatchState.SEALED:
            await self._take_apart(batch, now, "cancelled", {})
        elif self._is_left_of_a_rehearsal(batch):
            settled = await give_up(self._upstream, batch, cancelled())
            self._waiters.wake(await self._ledger.requests.endings([request.seq for request in settled]))
        else:
            await self._ledger.batches.mark_cancelling(batch, now)

    def _is_left_of_a_rehearsal(self, batch: BatchRow) -> bool:
        """Whether the simulator that has it is gone: nobody will tell what came of it, and nothing of it was paid."""
        provider = self._upstream.router.providers.get(batch.lane.provider)
        return batch.lane.rehearsal and provider is not None and not provider.rehearsal

    async def _take_apart(self, batch: BatchRow, now: float, cause: str, refused: Mapping[int, Ending]) -> None:
        """Dissolve a claimed batch that was not sent; one that has been sent since it was listed is let go."""
        if batch.state is BatchState.SEALED:
            _, settled = await self._ledger.batches.dissolve(batch, now, refused)
            self._upstream.metrics.batches_dissolved.of(batch.lane.provider, cause).inc()
            count_ended(self._upstream.metrics, batch.lane.provider, (request.state for request in settled))
            self._waiters.wake(await self._ledger.requests.endings([request.seq for request in settled]))
        else:
            await self._ledger.batches.release(
                batch, retry_at=batch.retry_at, parked_reason=batch.parked_reason, troubles=batch.troubles
            )
