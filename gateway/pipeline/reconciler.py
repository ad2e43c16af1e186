"""Find out whether a provider has a batch that may or may not have been created.

Takes batches in `reconciling`, and those in `submitting` whose process died; leaves them in `submitted` (found). What
becomes of those that are surely not there, or of which that cannot be known, is in `unfound`. If the process dies half-way
the batch is still `reconciling`, and the quarantine starts anew.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence

from gateway.candidates import Weighed, weigh
from gateway.config import Retries
from gateway.errors import PluginFault, ProviderError
from gateway.pipeline.waiters import Waiters
from gateway.records import BatchState, RemoteBatch, RemoteState
from gateway.store.shipping import BatchRow, Settled
from gateway.tasks import Tasks, wait_for_event
from gateway.troubles import LOST_TROUBLES, OUT_OF_SIGHT, PARK_SECONDS, is_out_of_sight, pause_after, trouble
from gateway.turns import Turns
from gateway.unfound import Unfound, patience
from gateway.upstream import Side, Upstream

TICK_SECONDS = 2.0
FIND_SECONDS = 300.0
#: Between two listings that show nothing.
LOOK_AGAIN_SECONDS = 60.0
LONGEST_TROUBLE_SECONDS = 300.0
#: Of a batch that went missing together with others of which one has been seen again.
NOT_SHOWN = "others of the account are seen again, and this one is not"


class Reconciler:
    """Lists what the provider has and matches it with what may have been sent."""

    def __init__(
        self,
        upstream: Upstream,
        waiters: Waiters,
        retries: Retries,
        tasks: Tasks,
        *,
        doubted: asyncio.Event,
        submitted: asyncio.Event,
    ) -> None:
        """Listens to `doubted`, tells by `submitted` and `upstream.sealed`."""
        self._upstream = upstream
        self._ledger = upstream.ledger
        self._waiters = waiters
        self._retries = retries
        self._doubted = doubted
        self._submitted = submitted
        self._unfound = Unfound(upstream, retries)
        self._first_empty: dict[int, float] = {}
        #: How often a batch was found again under the name by which the provider had not known it.
        self._listed_only: Counter[int] = Counter()
        states = (BatchState.SUBMITTING, BatchState.RECONCILING)
        # One at a time within an account: what one listing finds is known before the next.
        self._turns = Turns(upstream, tasks, "reconcile", states, at_once=1, over=doubted)

    async def run(self) -> None:
        """Reconcile for ever."""
        while True:
            self._doubted.clear()
            if not await self.tick():
                await wait_for_event(self._upstream.clock, self._doubted, TICK_SECONDS)

    async def tick(self) -> int:
        """Begin to look for every batch in doubt whose time has come, one of each account; returns for how many."""
        return await self._turns.begin(self.reconcile)

    async def reconcile(self, batch: BatchRow) -> None:
        """Look once for one claimed batch, and write down what came of it."""
        if batch.state is BatchState.SUBMITTING:
            reason = "the process died while it was being created"
            await self._ledger.batches.doubt(batch, reason, self._upstream.clock.now())
            self._upstream.log(batch).warning("batch_doubted", reason=reason)
            return
        side = await self._upstream.side(batch)
        if side is None:
            return
        try:
            view = self._upstream.view(batch)
            remotes = await self._upstream.call(side, "find", side.plugin.find(view), FIND_SECONDS)
            self._upstream.looked_for.add(batch.id)
            weighed = Weighed(ours=tuple(remotes))
            if not side.plugin.marked:
                weighed = await weigh(self._upstream, batch, side, remotes)
            if weighed.unread is not None and not weighed.ours:
                raise weighed.unread
        except (ProviderError, PluginFault) as error:
            pause = pause_after(error, batch.troubles, 5.0, LONGEST_TROUBLE_SECONDS)
            if isinstance(error, PluginFault):
                pause = PARK_SECONDS
            await self._upstream.park(batch, trouble(error), pause)
            return
        side.account.works()
        if weighed.ours:
            await self._adopt(batch, side, weighed.ours)
        elif weighed.open:
            await self._hold(batch, side, weighed.open)
        else:
            await self._nothing(batch, side)

    async def _hold(self, batch: BatchRow, side: Side, candidates: Sequence[RemoteBatch]) -> None:
        """It may be there, and only its results can tell: whatever the operator wishes about doubt, nothing is sent again."""
        running = [each for each in candidates if each.state is RemoteState.RUNNING]
        if self._unfound.is_given_up(batch):
            await self._over(batch, self._unfound.expire(batch, side))
        elif batch.cancel_at is not None and not running:
            # Nobody will ever know, and nobody wants it.
            await self._over(batch, self._unfound.let_be(batch, side))
        elif running:
            await self._upstream.park(batch, _held(len(running)), LOOK_AGAIN_SECONDS)
        else:
            reason = (
                f"a remote batch may be this one ({candidates[0].remote_id}), and its results are gone or name nobody: if its "
                f"requests are not to wait until they expire, cancel them: `batchway cancel --batch {batch.id}`"
            )
            await self._upstream.park(batch, reason, PARK_SECONDS)

    async def _adopt(self, batch: BatchRow, side: Side, remotes: Sequence[RemoteBatch]) -> None:
        """It is there. Of several, the oldest is ours and the others are cancelled and counted."""
        self._first_empty.pop(batch.id, None)
        now, poll_at = self._upstream.clock.now(), self._upstream.clock.now()
        if remotes[0].remote_id == batch.remote_id:
            # The list has it and the poll had not: that may go on, and must neither be quick nor without an end.
            self._listed_only[batch.id] += 1
            if self._listed_only[batch.id] >= LOST_TROUBLES and self._unfound.is_given_up(batch):
                await self._over(batch, self._unfound.expire(batch, side))
                return
            poll_at += LOOK_AGAIN_SECONDS
        await self._ledger.batches.submitted(batch, remotes[0], now, poll_at)
        self._upstream.metrics.reconciliations.of(side.provider.name, "adopted").inc()
        self._upstream.log(batch).info("batch_adopted", remote_id=remotes[0].remote_id, copies=len(remotes))
        self._submitted.set()
        self._upstream.looked_for.discard(batch.id)
        if is_out_of_sight(batch):
            await self._back_in_sight(batch)
        await self._upstream.cancel_copies(batch, side, remotes[1:])

    async def _back_in_sight(self, batch: BatchRow) -> None:
        """One of those that went missing together is seen again, and may be over before the others are looked for.

        Those of its own table: keys that were changed one by one come back one by one.
        """
        for other in await self._ledger.batches.open_of(batch.lane.provider):
            if not is_out_of_sight(other) or other.base_url != batch.base_url:
                continue
            claimed = await self._ledger.batches.claim_one(other.id, [BatchState.RECONCILING])
            if claimed is not None:
                await self._upstream.guard(claimed, self._not_shown(claimed))

    async def _not_shown(self, batch: BatchRow) -> None:
        now = self._upstream.clock.now()
        await self._ledger.batches.release(batch, retry_at=now, parked_reason=NOT_SHOWN, troubles=0)

    async def _nothing(self, batch: BatchRow, side: Side) -> None:
        """A whole listing without it. Only the second one, a quarantine after the first, is believed.

        The quarantine grows with every create that was in vain. Times are monotonic and of this process: a clock that is set,
        or a restart, only makes it longer.
        """
        mono = self._upstream.clock.monotonic()
        seen_before = batch.id in self._first_empty
        quarantine = self._retries.quarantine_seconds * patience(batch)
        left = self._first_empty.setdefault(batch.id, mono) + quarantine - mono
        believed = seen_before and left <= 0
        if await self._all_gone(batch):
            await self._out_of_sight(batch, side, believed=believed)
        elif believed or self._unfound.hurries(batch):
            await self._over(batch, self._unfound.not_there(batch, side))
        else:
            pause = min(max(left, 0.0), LOOK_AGAIN_SECONDS * patience(batch))
            retry_at = self._upstream.clock.now() + pause
            reason = NOT_SHOWN if is_out_of_sight(batch) else batch.parked_reason
            await self._ledger.batches.release(batch, retry_at=retry_at, parked_reason=reason, troubles=0)

    async def _all_gone(self, batch: BatchRow) -> bool:
        """Whether this batch was once surely there, and so were others of its account, and nobody sees any of them now.

        Once that was so it stays so for each of them, also for the last, until one of its table is seen again. Another table
        of the account may have another key: that it sees its batches does not say that this one's key would.
        """
        if batch.remote_id is None:
            return False
        others = [other for other in await self._ledger.batches.open_beside(batch) if other.id != batch.id]
        once_there = [other for other in others if other.remote_id is not None and _is_evidence(other, batch)]
        own = [other for other in once_there if other.lane.provider == batch.lane.provider]
        if own or is_out_of_sight(batch):
            return not any(_is_seen(other) for other in own)
        # Of a table that is not in use nobody has looked for a batch.
        looked_at = [other for other in once_there if self._upstream.in_use(other)]
        return bool(looked_at) and not any(_is_seen(other) for other in looked_at)

    async def _out_of_sight(self, batch: BatchRow, side: Side, *, believed: bool) -> None:
        """All are gone at once, as under a wrong key: never sent again, but ended by a wish to cancel, or by its age."""
        if believed and batch.cancel_at is not None:
            await self._over(batch, self._unfound.let_be(batch, side))
        elif believed and self._unfound.is_given_up(batch):
            await self._over(batch, self._unfound.expire(batch, side))
        else:
            reason = f"{OUT_OF_SIGHT}; if they are right, give this one up: `batchway cancel --batch {batch.id}`"
            await self._upstream.park(batch, reason, PARK_SECONDS)

    async def _over(self, batch: BatchRow, end: Coroutine[object, object, list[Settled]]) -> None:
        """Nothing is to be found out about it any more, or everything anew; whoever waits for what ended is told."""
        self._first_empty.pop(batch.id, None)
        self._listed_only.pop(batch.id, None)
        self._upstream.looked_for.discard(batch.id)
        settled = await end
        self._waiters.wake(await self._ledger.requests.endings([request.seq for request in settled]))


def _is_seen(batch: BatchRow) -> bool:
    """Whether the provider knew a batch when it was last asked."""
    return batch.state in {BatchState.SUBMITTED, BatchState.ENDED} and not batch.troubles


def _is_evidence(other: BatchRow, missing: BatchRow) -> bool:
    """Whether a batch that was once there says anything of one that is missing.

    What was made for another address is parked until that one is back. What was made since is there under any key.
    """
    if other.base_url != missing.base_url:
        return False
    since = missing.parked_since
    return since is None or other.submitted_at is None or other.submitted_at <= since


def _held(candidates: int) -> str:
    """Why a batch is held while candidates run."""
    if candidates == 1:
        return "a remote batch may be this one: it will be known when that one ends"
    return f"{candidates} remote batches may be this one: which it is will be known when they end"
