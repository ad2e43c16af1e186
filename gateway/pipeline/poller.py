"""Ask providers how their batches are.

Takes batches in `submitted`, leaves them in `ended`, in `dissolved` when the provider refused them or never ends them,
or in `reconciling` when it does not know them. If the process dies half-way the batch is still `submitted`, and is asked
for again: a poll changes nothing. While the disk is short, polls that change nothing are not written down either.
"""

from __future__ import annotations

import asyncio
import math
import random

from gateway.config import Polling, Retries
from gateway.dissolving import dissolve, give_up
from gateway.endings import failure
from gateway.errors import (
    BatchwayError,
    Missing,
    PluginFault,
    ProviderError,
    Rejected,
    Retryable,
    TokenLimit,
    Unauthorised,
)
from gateway.pipeline.waiters import Waiters
from gateway.records import BatchState, RemoteBatch, RemoteState, RequestState
from gateway.store.shipping import BatchRow
from gateway.tasks import Tasks, wait_for_event
from gateway.troubles import OVERDUE_SECONDS, PARK_SECONDS, deadline, pause_after, trouble
from gateway.turns import Turns
from gateway.upstream import CANCEL_SECONDS, Side, Upstream, remote_of

#: Polls under way at the same time of each account: one that hangs holds up nobody else's.
AT_ONCE = 8
TICK_SECONDS = 1.0
#: Batches that are looked at on a short disk; nobody has as many under way.
LOOK_AT_MOST = 1_000
POLL_SECONDS = 60.0
#: How long a remote batch that should be over has to stop after this process first asked it to.
STOPPING_SECONDS = 3_600.0
LONGEST_TROUBLE_SECONDS = 300.0
#: Intervals differ by up to this share, so that batches sealed together are not polled together.
JITTER = 0.1


def poll_interval(batch: BatchRow, polling: Polling, least: float, now: float) -> float:
    """Seconds until the next poll: a tenth of the time since the batch was submitted, within bounds."""
    age = now - (batch.submitted_at if batch.submitted_at is not None else now)
    shortest = max(polling.min_seconds, least)
    return min(max(age / 10, shortest), max(polling.max_seconds, least))


class Poller:
    """Claims submitted batches when their time has come and asks for each."""

    def __init__(
        self,
        upstream: Upstream,
        waiters: Waiters,
        polling: Polling,
        retries: Retries,
        tasks: Tasks,
        *,
        submitted: asyncio.Event,
        ended: asyncio.Event,
        doubted: asyncio.Event,
    ) -> None:
        """Listens to `submitted`, tells by `ended` and `doubted`."""
        self._upstream = upstream
        self._ledger = upstream.ledger
        self._waiters = waiters
        self._polling = polling
        self._retries = retries
        self._submitted = submitted
        self._ended = ended
        self._doubted = doubted
        self._turns = Turns(upstream, tasks, "poll", (BatchState.SUBMITTED,), at_once=AT_ONCE, over=submitted)
        #: When this process first asked an overdue remote batch to stop, by batch; monotonic.
        self._stopping: dict[int, float] = {}
        #: When to look again, by batch; only while the disk is short. Infinite: under way.
        self._look_at: dict[int, float] = {}

    async def run(self) -> None:
        """Poll for ever."""
        tick = min(TICK_SECONDS, self._polling.min_seconds)
        while True:
            self._submitted.clear()
            if not await self.tick():
                await wait_for_event(self._upstream.clock, self._submitted, tick)

    async def tick(self) -> int:
        """Begin a poll of every batch that is due, as far as there is room; returns how many."""
        if not self._ledger.database.has_room():
            return await self._look_at_all()
        self._look_at = {number: at for number, at in self._look_at.items() if at == math.inf}
        return await self._turns.begin(self.poll)

    async def _look_at_all(self) -> int:
        """As `tick` on a short disk: nothing is claimed, and when to ask again is kept in memory."""
        now = self._upstream.clock.now()
        batches = await self._ledger.batches.listed([BatchState.SUBMITTED], LOOK_AT_MOST)
        due = [batch for batch in batches if self._look_at.get(batch.id, batch.retry_at) <= now]
        begun = 0
        for batch in filter(self._turns.has_room, due):
            self._look_at[batch.id] = math.inf
            self._turns.give(batch, self._look)
            begun += 1
        return begun

    async def _look(self, batch: BatchRow) -> None:
        pause = self._polling.max_seconds
        try:
            pause = await self._looked(batch)
        except BatchwayError as error:
            self._upstream.metrics.polls.of(batch.lane.provider, "lost").inc()
            self._upstream.log(batch).info("batch_hitch", reason=trouble(error), seconds=round(pause, 1))
        finally:
            self._look_at[batch.id] = self._upstream.clock.now() + pause

    async def _looked(self, batch: BatchRow) -> float:
        """Ask for a batch that is not claimed; claim it and write only if it is over. Returns the seconds until the next look."""
        side = await self._upstream.side(batch)
        if side is None:
            return PARK_SECONDS
        remote = await self._asked(batch, side)
        if remote.state is not RemoteState.RUNNING:
            claimed = await self._ledger.batches.claim_one(batch.id, [BatchState.SUBMITTED])
            if claimed is not None:
                await self._upstream.guard(claimed, self._answered(claimed, side, remote))
        return self._pause(batch, side)

    async def poll(self, batch: BatchRow) -> None:
        """Ask once for one claimed batch, and write down what came of it."""
        side = await self._upstream.side(batch)
        if side is None or await self._unwanted(batch):
            return
        try:
            remote = await self._asked(batch, side)
        except Missing as error:
            await self._missing(batch, side, error)
        except (Retryable, Unauthorised, PluginFault) as error:
            await self._lost(batch, side, error)
        except ProviderError as error:
            await self._lost(batch, side, PluginFault(f"poll raised {trouble(error)}"))
        else:
            await self._answered(batch, side, remote)

    async def _asked(self, batch: BatchRow, side: Side) -> RemoteBatch:
        """What the provider says of a batch, which is asked to stop first if it should."""
        remote = remote_of(batch)
        if self._to_be_cancelled(batch, side):
            await self._cancel(batch, side, remote)
        remote = await self._upstream.call(side, "poll", side.plugin.poll(remote), POLL_SECONDS)
        side.account.works()
        self._upstream.metrics.polls.of(side.provider.name, remote.state.value).inc()
        return remote

    def _pause(self, batch: BatchRow, side: Side) -> float:
        least = side.provider.limits.min_poll_seconds
        interval = poll_interval(batch, self._polling, least, self._upstream.clock.now())
        return interval * random.uniform(1 - JITTER, 1 + JITTER)

    async def _answered(self, batch: BatchRow, side: Side, remote: RemoteBatch) -> None:
        now = self._upstream.clock.now()
        if remote.state is not RemoteState.RUNNING:
            self._stopping.pop(batch.id, None)
        if remote.state is RemoteState.RUNNING and self._never_ends(batch, side):
            await self._give_up(batch)
        elif remote.state is RemoteState.RUNNING:
            if not await self._unwanted(batch):
                await self._ledger.batches.polled(batch, remote, now + self._pause(batch, side))
        elif remote.state is RemoteState.ENDED:
            await self._ledger.batches.ended(batch, remote, now)
            sent = batch.submitted_at if batch.submitted_at is not None else now
            self._upstream.metrics.turnaround.of(side.provider.name).observe(now - sent)
            self._upstream.log(batch).info("batch_ended", total=remote.total, done=remote.done)
            self._ended.set()
        else:
            await self._refused(batch, side, remote.refusal or ProviderError("refused without a reason"))

    async def _unwanted(self, batch: BatchRow) -> bool:
        """Whether nobody wants a line of it any more, which is new: it is let go, and polled, and stopped, at once.

        The janitor cannot say so of a batch while it is polled, and with slow polls it may find it so at each of its rounds.
        """
        if batch.cancel_at is not None or not await self._ledger.batches.unwanted(batch.id):
            return False
        await self._ledger.batches.mark_cancelling(batch, self._upstream.clock.now())
        return True

    def _never_ends(self, batch: BatchRow, side: Side) -> bool:
        """Whether a remote batch runs on however often it was told to stop: its requests cannot wait for ever."""
        first = self._stopping.get(batch.id)
        if first is None or self._upstream.clock.monotonic() - first < STOPPING_SECONDS:
            return False
        limit = deadline(batch, side.provider.limits.window_seconds, self._retries.give_up_hours)
        return self._upstream.clock.now() >= limit

    async def _give_up(self, batch: BatchRow) -> None:
        """It runs still, so that nothing of it may be sent again."""
        del self._stopping[batch.id]
        ending = failure(
            "expired",
            "The provider has not ended the batch of this request, though it was told to stop; it was given up "
            f"{self._retries.give_up_hours:g} hours later (retries.give_up_hours).",
            state=RequestState.EXPIRED,
            provider=batch.lane.provider,
            batch=batch.id,
        )
        settled = await give_up(self._upstream, batch, ending)
        self._waiters.wake(await self._ledger.requests.endings([request.seq for request in settled]))

    async def _refused(self, batch: BatchRow, side: Side, refusal: ProviderError) -> None:
        if isinstance(refusal, Unauthorised):
            side.account.unauthorised(refusal.reason)
        elif not isinstance(refusal, Rejected | TokenLimit):
            # Its requests may be sealed again at once: not faster than the breaker allows.
            side.account.create_failed(trouble(refusal))
        settled = await dissolve(self._upstream, batch, refusal)
        self._waiters.wake(await self._ledger.requests.endings([request.seq for request in settled]))

    async def _lost(self, batch: BatchRow, side: Side, error: Exception) -> None:
        """A lost poll means nothing: ask again, later each time."""
        self._upstream.metrics.polls.of(side.provider.name, "lost").inc()
        pause = pause_after(error, batch.troubles, self._polling.min_seconds, LONGEST_TROUBLE_SECONDS)
        if isinstance(error, PluginFault):
            await self._upstream.park(batch, trouble(error), PARK_SECONDS)
        elif isinstance(error, Unauthorised):
            await self._upstream.park(batch, trouble(error), side.account.seconds_left())
        else:
            await self._upstream.later(batch, trouble(error), pause)

    async def _missing(self, batch: BatchRow, side: Side, error: Missing) -> None:
        """Providers show a new batch late: within the quarantine a lost poll, after it a case for reconciling.

        When every open batch of the account is missing, the key or the URL is wrong, not the batches: they are parked.
        """
        now = self._upstream.clock.now()
        age = now - (batch.submitted_at if batch.submitted_at is not None else now)
        if age < self._retries.quarantine_seconds:
            await self._lost(batch, side, Retryable(f"not shown yet: {error.reason}"))
            return
        self._stopping.pop(batch.id, None)
        self._upstream.metrics.polls.of(side.provider.name, "missing").inc()
        self._upstream.log(batch).warning("batch_missing", remote_id=batch.remote_id)
        await self._ledger.batches.doubt(batch, f"missing at the provider: {error.reason}", now)
        self._doubted.set()

    def _to_be_cancelled(self, batch: BatchRow, side: Side) -> bool:
        since = batch.submitted_at if batch.submitted_at is not None else batch.sealed_at
        overdue = self._upstream.clock.now() - since > side.provider.limits.window_seconds + OVERDUE_SECONDS
        if overdue:
            self._stopping.setdefault(batch.id, self._upstream.clock.monotonic())
        return overdue or batch.cancel_at is not None

    async def _cancel(self, batch: BatchRow, side: Side, remote: RemoteBatch) -> None:
        """Ask the provider to stop; asked again at each poll until it has, which does no harm."""
        try:
            await self._upstream.call(side, "cancel", side.plugin.cancel(remote), CANCEL_SECONDS)
        except Unauthorised:
            raise
        except (ProviderError, PluginFault) as error:
            # A batch that has just ended cannot be cancelled, and not every server can cancel: the poll decides, also on a 404.
            self._upstream.log(batch).warning("cancel_failed", reason=trouble(error))
