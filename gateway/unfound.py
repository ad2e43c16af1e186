"""What becomes of a batch that is certainly not at its provider, and of one of which that will never be known.

Floor 3. A claimed batch in `reconciling` comes to be `sealed` (sent again under the same marker), or `dissolved`: in halves, or
ended. Each is one transaction: if the process dies before it, the quarantine starts anew.

A create that ends in doubt each time costs nothing, and may be the provider's trouble: it is repeated ever more rarely, until its
requests are too old; a batch of several falls in halves, so that one line takes no other along. What the provider took, and does
not know any more, may have been paid: it is sent `max_attempts` times at most.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from gateway.config import Retries
from gateway.delivery import count_ended
from gateway.endings import failure
from gateway.records import RequestState, new_marker
from gateway.store.rows import Ending
from gateway.store.shipping import BatchRow, Settled
from gateway.upstream import Side, Upstream

#: The quarantine doubles with each create in vain, so often.
DOUBLINGS = 4
#: After so many creates in doubt a batch of several lines may be at fault itself.
HALVED_AFTER = 3


class Unfound:
    """Ends doubt about a batch, for good or until it is sent again. Every verb gives the claim back, and returns what ended."""

    def __init__(self, upstream: Upstream, retries: Retries) -> None:
        """Tells by `upstream.sealed` and `upstream.arrived`."""
        self._upstream = upstream
        self._ledger = upstream.ledger
        self._retries = retries

    def hurries(self, batch: BatchRow) -> bool:
        """Whether one empty listing is believed, as the operator wishes (`ambiguous = "resubmit"`): not over and over again."""
        return self._retries.ambiguous == "resubmit" and in_vain(batch) < self._retries.max_attempts

    def is_given_up(self, batch: BatchRow) -> bool:
        """Whether its requests have waited for as long as anybody waits."""
        return self._upstream.clock.now() - batch.sealed_at >= self._retries.give_up_hours * 3600

    async def not_there(self, batch: BatchRow, side: Side) -> list[Settled]:
        """It is certainly not at its provider: as what was never sent, but for what its creates have come to so far."""
        if batch.cancel_at is not None:
            return await self.let_be(batch, side)
        if self._retries.ambiguous == "fail":
            return await self._fail(batch, side)
        if old := await self._waited_too_long(batch):
            return await self._dissolve(batch, side, "given_up", dict.fromkeys(old, self._never_known(batch)))
        if batch.submitted_at is not None and batch.vanished + 1 >= self._retries.max_attempts:
            return await self._vanished(batch, side)
        if batch.submitted_at is None and batch.count > 1 and _is_to_blame(batch, side):
            return await self._halve(batch, side)
        return await self._send_again(batch, side)

    async def let_be(self, batch: BatchRow, side: Side) -> list[Settled]:
        """Every line of it was cancelled: it is not looked for, nor sent, any more."""
        self._upstream.log(batch).warning("batch_let_be", submissions=batch.submissions)
        return await self._dissolve(batch, side, "cancelled", {})

    async def expire(self, batch: BatchRow, side: Side) -> list[Settled]:
        """Nobody will know in time whether it is there, and nothing waits for ever: all of it ends, as all of it may be there."""
        self._upstream.log(batch).error("batch_given_up", submissions=batch.submissions, lines=batch.count)
        ending = self._expired(
            batch,
            "It could not be found out within "
            f"{self._retries.give_up_hours:g} hours (retries.give_up_hours) whether the provider has this request.",
        )
        return await self._dissolve(batch, side, "given_up", dict.fromkeys(range(batch.count), ending))

    async def _send_again(self, batch: BatchRow, side: Side) -> list[Settled]:
        self._upstream.metrics.reconciliations.of(side.provider.name, "not_there").inc()
        self._upstream.log(batch).warning("batch_not_found", submissions=batch.submissions)
        await self._ledger.batches.reseal(batch, self._upstream.clock.now(), "not found at the provider", 0)
        self._upstream.sealed.set()
        return []

    async def _halve(self, batch: BatchRow, side: Side) -> list[Settled]:
        """Its halves go on as it would have, and are as patient; what a create of it may still bring is looked for."""
        self._upstream.metrics.reconciliations.of(side.provider.name, "halved").inc()
        self._upstream.log(batch).warning("batch_halved", submissions=batch.submissions, lines=batch.count)
        now, counted = self._upstream.clock.now(), replace(batch, unfound=batch.unfound + 1)
        _, settled = await self._ledger.batches.dissolve(counted, now, {}, [new_marker(), new_marker()])
        self._upstream.metrics.batches_dissolved.of(batch.lane.provider, "halved").inc()
        count_ended(self._upstream.metrics, batch.lane.provider, (request.state for request in settled))
        self._upstream.sealed.set()
        return settled

    async def _fail(self, batch: BatchRow, side: Side) -> list[Settled]:
        """By the operator's wish (`ambiguous = "fail"`): nobody pays twice, and nobody gets an answer."""
        ending = failure(
            "attempts_exhausted",
            "It is not known whether the provider has this request, and the gateway is set not to send it again "
            '(retries.ambiguous = "fail").',
            provider=batch.lane.provider,
            batch=batch.id,
        )
        return await self._dissolve(batch, side, "failed", dict.fromkeys(range(batch.count), ending))

    async def _vanished(self, batch: BatchRow, side: Side) -> list[Settled]:
        """Taken and forgotten as often as a line may fail: it may have been paid each time."""
        self._upstream.log(batch).error("batch_vanishes", submissions=batch.submissions, lines=batch.count)
        ending = failure(
            "attempts_exhausted",
            f"The provider took the batch of this request {batch.vanished + 1} times and did not know it any more soon after "
            "(retries.max_attempts): it may have been paid each time, and is not sent again.",
            provider=batch.lane.provider,
            batch=batch.id,
        )
        return await self._dissolve(batch, side, "failed", dict.fromkeys(range(batch.count), ending))

    async def _waited_too_long(self, batch: BatchRow) -> list[int]:
        """The lines whose requests have waited for as long as anybody waits, as with what could not be sent."""
        before = self._upstream.clock.now() - self._retries.give_up_hours * 3600
        members = await asyncio.to_thread(self._upstream.members, batch)
        return [member.n for member in members if member.queued_at <= before and member.cancel_at is None]

    def _never_known(self, batch: BatchRow) -> Ending:
        return self._expired(
            batch,
            "Its provider could not be brought to say that it has this request within "
            f"{self._retries.give_up_hours:g} hours (retries.give_up_hours), and does not list it.",
        )

    def _expired(self, batch: BatchRow, message: str) -> Ending:
        return failure("expired", message, state=RequestState.EXPIRED, provider=batch.lane.provider, batch=batch.id)

    async def _dissolve(self, batch: BatchRow, side: Side, outcome: str, refused: dict[int, Ending]) -> list[Settled]:
        """End what is left of a batch; what is neither `refused` nor cancelled goes back to its lane."""
        self._upstream.metrics.reconciliations.of(side.provider.name, outcome).inc()
        _, settled = await self._ledger.batches.dissolve(batch, self._upstream.clock.now(), refused)
        self._upstream.metrics.batches_dissolved.of(batch.lane.provider, outcome).inc()
        count_ended(self._upstream.metrics, batch.lane.provider, (request.state for request in settled))
        self._upstream.arrived.set()
        return settled


def in_vain(batch: BatchRow) -> int:
    """How many creates of a batch have been in vain."""
    return batch.unfound + batch.vanished


def patience(batch: BatchRow) -> int:
    """How many times as long as at first a batch is looked for before it is sent again."""
    return 1 << min(in_vain(batch), DOUBLINGS)


def _is_to_blame(batch: BatchRow, side: Side) -> bool:
    """Whether its creates may end in doubt for what is in it: others of the account go well, or this one fails for long."""
    creates = batch.unfound + 1
    alone = side.account.breaker.failures <= 1
    return creates >= HALVED_AFTER and (alone or creates % HALVED_AFTER == 0)
