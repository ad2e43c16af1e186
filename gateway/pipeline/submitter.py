"""Hand sealed batches to their providers, each exactly once.

Takes batches in `sealed`, leaves them in `submitted`; or in `sealed` for later, in `dissolved`, or, when it cannot be
known what the provider did, in `reconciling`. If the process dies half-way: before the intent is committed the batch
is `sealed` and nothing was created; after it the batch is in `submitting`, which the reconciler takes for unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from gateway.accounts import Account
from gateway.delivery import count_ended
from gateway.dissolving import dissolve
from gateway.errors import (
    Ambiguous,
    Missing,
    PluginFault,
    ProviderError,
    Rejected,
    Retryable,
    TokenLimit,
    Unauthorised,
)
from gateway.pipeline.waiters import Waiters
from gateway.records import BatchState, Limits, RemoteBatch, line_id
from gateway.store.shipping import BatchRow
from gateway.tasks import Tasks, wait_for_event
from gateway.troubles import PARK_SECONDS, pause_after, trouble
from gateway.turns import Turns
from gateway.upstream import Side, Upstream

#: Batches of one account handed over at the same time.
AT_ONCE = 4
TICK_SECONDS = 2.0
UPLOAD_SECONDS = 3600.0
#: Core's bound on a create call; what takes longer is unknown and gets reconciled. Where the lines travel in the call it
#: must not be too short for a slow line out, or a large batch would be in doubt for ever.
CREATE_SECONDS = 120.0
SLOWEST_BYTES_PER_SECOND = 250_000
FIND_SECONDS = 300.0
LINES_AT_ONCE = 500
#: After so many failures in a row the file is uploaded anew: the provider may have lost it, and an orphan costs nothing.
REUPLOAD_TROUBLES = 5


class Submitter:
    """Claims sealed batches and takes each through spool, upload, intent and create."""

    def __init__(
        self,
        upstream: Upstream,
        waiters: Waiters,
        tasks: Tasks,
        *,
        submitted: asyncio.Event,
        doubted: asyncio.Event,
    ) -> None:
        """Listens to `upstream.sealed`, tells by `submitted` and `doubted`."""
        self._upstream = upstream
        self._ledger = upstream.ledger
        self._waiters = waiters
        self._submitted = submitted
        self._doubted = doubted
        self._turns = Turns(upstream, tasks, "submit", (BatchState.SEALED,), at_once=AT_ONCE, over=upstream.sealed)

    async def run(self) -> None:
        """Submit for ever."""
        while True:
            self._upstream.sealed.clear()
            if not await self.tick():
                await wait_for_event(self._upstream.clock, self._upstream.sealed, TICK_SECONDS)

    async def tick(self) -> int:
        """Begin with every batch that is ready, as far as its account has room; returns how many.

        While the disk is short none is: their spools and results would fill it.
        """
        if not self._ledger.database.has_room():
            return 0
        return await self._turns.begin(self.submit)

    async def submit(self, batch: BatchRow) -> None:
        """Take one claimed batch as far as it goes now."""
        side = await self._upstream.side(batch)
        if side is None:
            return
        if not side.account.may_create(batch.lane):
            await self._later(batch, side.account.reason_in(batch.lane), side.account.seconds_left(batch.lane))
            return
        if await self._goes_back(batch, side):
            return
        try:
            if not side.plugin.marked and await self._stands_behind(batch, side):
                await self._wait_for_others(batch)
                return
            found = await self._sent_before(batch, side)
            if found is not None:
                await self._done(batch, side, found, "found")
                return
            batch = await self._prepare(batch, side)
        except (Retryable, Missing, Unauthorised, Ambiguous, PluginFault) as error:
            await self._later(batch, trouble(error), _pause(error, batch, side.account))
            return
        except ProviderError as error:
            await self._refused(batch, error)
            return
        # The upload may have taken an hour, in which the janitor could not have the batch.
        if await self._ledger.batches.unwanted(batch.id):
            await self._unseal(batch, "cancelled", "all its requests were cancelled before it was sent")
        elif side.plugin.marked:
            await self._create(batch, side)
        else:
            await self._create_alone(batch, side)

    async def _goes_back(self, batch: BatchRow, side: Side) -> bool:
        """Whether it is not to be sent as it was sealed; then it has been taken apart."""
        if not batch.submissions and _is_beyond(batch, side.provider.limits):
            await self._unseal(batch, "limits", "it is larger than its provider's limits are now")
            return True
        if await self._ledger.batches.wished_unsent(1, batch.id):
            await self._unseal(batch, "cancelled", "a request of it was cancelled before it was sent")
            return True
        return False

    async def _create_alone(self, batch: BatchRow, side: Side) -> None:
        """The create call of a batch without a marker: no other on its account until its outcome is known.

        Looked at again: while this one was prepared, another may have been created and lost.
        """
        # Nothing is awaited between the second look and the flag: another may have begun while the ledger was read.
        if await self._unresolved(batch, side) or side.account.breaker.creating:
            await self._wait_for_others(batch)
            return
        side.account.breaker.creating = True
        try:
            await self._create(batch, side)
        finally:
            side.account.breaker.creating = False

    async def _stands_behind(self, batch: BatchRow, side: Side) -> bool:
        """As `_unresolved`; but the list is read for other tables of the account whose own keys are refused: it is one list."""
        doubts = await self._beside(batch)
        for other in doubts:
            if other.state is BatchState.RECONCILING and self._upstream.is_keyless(other, side):
                await self._listed(other, side)
                self._upstream.looked_for.add(other.id)
        return side.account.breaker.creating or any(other.id not in self._upstream.looked_for for other in doubts)

    async def _unresolved(self, batch: BatchRow, side: Side) -> bool:
        """Whether a create of the account is open, and nothing has been listed since: what it made could be taken for ours."""
        return side.account.breaker.creating or bool(await self._beside(batch))

    async def _beside(self, batch: BatchRow) -> list[BatchRow]:
        """Other batches of the account whose create is open, and for which nothing has been listed since."""
        others = await self._ledger.batches.open_beside(batch)
        return [
            other
            for other in others
            if other.state is BatchState.SUBMITTING
            or (other.state is BatchState.RECONCILING and other.id not in self._upstream.looked_for)
            # What is at another address is not in this one's list; what cannot be looked for is not waited for.
            if other.id != batch.id and other.base_url == batch.base_url and self._upstream.in_use(other)
        ]

    async def _unseal(self, batch: BatchRow, cause: str, reason: str) -> None:
        """It is not to be sent as it was sealed: its requests go back, and are sealed anew; unwanted ones end."""
        _, settled = await self._ledger.batches.dissolve(batch, self._upstream.clock.now(), {})
        self._upstream.metrics.batches_dissolved.of(batch.lane.provider, cause).inc()
        count_ended(self._upstream.metrics, batch.lane.provider, (request.state for request in settled))
        self._upstream.log(batch).info("batch_dissolved", reason=reason)
        self._waiters.wake(await self._ledger.requests.endings([request.seq for request in settled]))
        self._upstream.arrived.set()

    async def _wait_for_others(self, batch: BatchRow) -> None:
        """Give the claim back for a moment; nothing is wrong with this batch."""
        retry_at = self._upstream.clock.now() + TICK_SECONDS
        await self._ledger.batches.release(batch, retry_at=retry_at, troubles=batch.troubles)

    async def _sent_before(self, batch: BatchRow, side: Side) -> RemoteBatch | None:
        """After an earlier create that went wrong, one more look whether the provider has the batch after all."""
        if not batch.submissions or not side.plugin.marked:
            return None
        remotes = await self._listed(batch, side)
        if not remotes:
            return None
        await self._upstream.cancel_copies(batch, side, remotes[1:])
        return remotes[0]

    async def _listed(self, batch: BatchRow, side: Side) -> Sequence[RemoteBatch]:
        view = self._upstream.view(batch)
        try:
            return await self._upstream.call(side, "find", side.plugin.find(view), FIND_SECONDS)
        except (Rejected, TokenLimit) as error:
            # Said of the listing, not of the batch: it may be there, so it must not be taken apart.
            raise Retryable(trouble(error)) from error

    async def _prepare(self, batch: BatchRow, side: Side) -> BatchRow:
        """Spool on disk and, where the API has files, uploaded with its id durable."""
        if not self._upstream.spool.lines(batch.marker).exists():
            await asyncio.to_thread(self._write_spool, batch, side)
        if batch.file_id is not None and (not batch.troubles or batch.troubles % REUPLOAD_TROUBLES):
            return batch
        file_id = await self._upstream.call(
            side, "upload", side.plugin.upload(self._upstream.view(batch)), UPLOAD_SECONDS
        )
        return batch if file_id is None else await self._ledger.batches.uploaded(batch, file_id)

    def _write_spool(self, batch: BatchRow, side: Side) -> None:
        self._upstream.spool.write_lines(batch.marker, self._framed(batch, side))

    def _framed(self, batch: BatchRow, side: Side) -> Iterator[bytes]:
        """The lines of a batch in order, read from the ledger a page at a time."""
        after = -1
        with self._ledger.database.reader() as session:
            while lines := self._ledger.batches.lines(session, batch.id, after, LINES_AT_ONCE):
                for line in lines:
                    yield side.plugin.frame(line_id(batch.marker, line.n), line.payload)
                after = lines[-1].n

    async def _create(self, batch: BatchRow, side: Side) -> None:
        """Commit the intent, then make the one create call, then write down what came of it."""
        upstream = self._upstream
        batch = await self._ledger.batches.intend(batch, upstream.clock.now())
        try:
            remote = await upstream.accounts.call(
                side.provider, "submit", side.plugin.submit(upstream.view(batch)), create_seconds(batch)
            )
        except Retryable as error:
            upstream.metrics.submissions.of(side.provider.name, "retryable").inc()
            pause = side.account.create_failed(error.reason, error.retry_after)
            await self._reseal(batch, trouble(error), pause)
        except Unauthorised as error:
            upstream.metrics.submissions.of(side.provider.name, "unauthorised").inc()
            await self._reseal(batch, trouble(error), side.account.not_allowed(batch.lane, error.reason))
        except (Rejected, TokenLimit) as error:
            upstream.metrics.submissions.of(side.provider.name, "refused").inc()
            side.account.created()
            await self._refused(batch, error)
        except (ProviderError, PluginFault, TimeoutError) as error:
            upstream.metrics.submissions.of(side.provider.name, "ambiguous").inc()
            side.account.create_failed(trouble(error))
            await self._doubt(batch, trouble(error))
        else:
            await self._done(batch, side, remote, "created")

    async def _done(self, batch: BatchRow, side: Side, remote: RemoteBatch, how: str) -> None:
        upstream = self._upstream
        side.account.created()
        upstream.metrics.submissions.of(side.provider.name, how).inc()
        now = upstream.clock.now()
        if batch.state is BatchState.SEALED:
            batch = await self._ledger.batches.intend(batch, now)
        batch = await self._ledger.batches.submitted(batch, remote, now, now)
        upstream.log(batch).info("batch_submitted", remote_id=remote.remote_id, requests=batch.count, how=how)
        upstream.metrics.batches_submitted.of(side.provider.name).inc()
        self._submitted.set()

    async def _later(self, batch: BatchRow, reason: str, seconds: float) -> None:
        """Nothing was created: the batch stays sealed."""
        await self._upstream.park(batch, reason, seconds)

    async def _reseal(self, batch: BatchRow, reason: str, seconds: float) -> None:
        self._upstream.log(batch).warning("batch_not_created", reason=reason, seconds=round(seconds, 1))
        retry_at = self._upstream.clock.now() + seconds
        await self._ledger.batches.reseal(batch, retry_at, reason, batch.troubles + 1)

    async def _doubt(self, batch: BatchRow, reason: str) -> None:
        self._upstream.log(batch).warning("batch_doubted", reason=reason)
        await self._ledger.batches.doubt(batch, reason, self._upstream.clock.now())
        self._doubted.set()

    async def _refused(self, batch: BatchRow, error: ProviderError) -> None:
        settled = await dissolve(self._upstream, batch, error)
        self._waiters.wake(await self._ledger.requests.endings([request.seq for request in settled]))


def create_seconds(batch: BatchRow) -> float:
    """How long the create call of a batch may take."""
    return CREATE_SECONDS + batch.size / SLOWEST_BYTES_PER_SECOND


def _is_beyond(batch: BatchRow, limits: Limits) -> bool:
    """Whether a batch could be smaller, and is larger than its provider takes."""
    sizes = (
        (batch.count, limits.max_requests),
        (batch.size, limits.max_bytes),
        (batch.tokens, limits.enqueued_tokens(batch.lane.model)),
    )
    return batch.count > 1 and any(limit is not None and size > limit for size, limit in sizes)


def _pause(error: Exception, batch: BatchRow, account: Account) -> float:
    """How long a batch that could not be prepared waits."""
    if isinstance(error, Unauthorised):
        return account.not_allowed(batch.lane, error.reason)
    if isinstance(error, PluginFault):
        return PARK_SECONDS
    return pause_after(error, batch.troubles, 5.0, 300.0)
