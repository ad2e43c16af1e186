"""Bring the rows of an ended batch on disk: all of them, or all that will ever come.

Takes batches in `ended` whose results are at their provider; leaves them in `ended` with their rows in one file, or untouched
for a later try, or in `submitted` where the provider says that they run again. If the process dies half-way, what was
downloaded so far lies under another name, which nobody reads, and the download begins anew.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gateway.candidates import look_for_copies
from gateway.config import Retries
from gateway.errors import Missing, PluginFault, ProviderError, Retryable
from gateway.pipeline.collector.reading import named_by
from gateway.records import RemoteState
from gateway.spool import write_whole
from gateway.store.shipping import BatchRow
from gateway.troubles import HITCHES, LOST_TROUBLES, NO_ROOM, OVERDUE_SECONDS, PARK_SECONDS, pause_after, trouble
from gateway.upstream import Side, Upstream, remote_of

FETCH_SECONDS = 3600.0
FIND_SECONDS = 300.0
#: Pauses before a result file that names too few lines is fetched again; after them its lines count as missing.
REFETCH_SECONDS = (60.0, 900.0)
LONGEST_TROUBLE_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A batch with rows on disk."""

    batch: BatchRow
    #: As of `reading.Named`.
    answered: bytes
    #: How many lines the rows name.
    lines: int = 0
    #: Seconds after which to fetch again, since rows are missing; None: this is all that will ever come.
    again_in: float | None = None


def expected_lines(batch: BatchRow, *, stopped: bool) -> int:
    """How many lines of an ended batch have a row, as its provider counted when it was last asked.

    One that was `stopped` half-way may have rows only for what was done. Counts of 0 say nothing: they are shown before
    anything has been counted; and those of a batch that came to its own end may lag behind it.
    """
    counted = min(batch.total or batch.count, batch.count)
    return min(batch.done or counted, counted) if stopped else counted


class Fetcher:
    """Fetches the results of claimed batches; a claim whose batch is left for later is given back."""

    def __init__(self, upstream: Upstream, retries: Retries) -> None:
        """`retries` says when results that do not come are given up."""
        self._upstream = upstream
        self._ledger = upstream.ledger
        self._retries = retries

    async def fetch(self, batch: BatchRow, side: Side) -> Fetched | None:
        """The batch with its rows on disk: all that will ever come, or those there are by now; None: it was left for later."""
        await self._look_for_copies(batch, side)
        try:
            shown = await self._shown(batch, side)
            if shown is None:
                return None
            batch = await self._fetched(shown, side)
        except (ProviderError, PluginFault) as error:
            if not (self._given_up(batch) or await self._results_gone(batch, side, error)):
                await self._fetch_failed(batch, error)
                return None
            self._upstream.log(batch).error("results_lost", reason=trouble(error), lines=batch.count)
            await asyncio.to_thread(write_whole, self._upstream.spool.rows(batch.marker), ())
            return Fetched(batch=batch, answered=bytes(batch.count))
        named = await asyncio.to_thread(named_by, self._upstream, batch, side)
        pause = self._pause(batch, side, named.lines)
        return Fetched(batch=batch, answered=named.answered, lines=named.lines, again_in=pause)

    async def again_later(self, fetched: Fetched, pause: float) -> None:
        """Leave a batch whose rows are not all there until `pause` is over, without those that are."""
        batch = fetched.batch
        await asyncio.to_thread(self._upstream.spool.rows(batch.marker).unlink)
        await self._upstream.park(batch, f"the result file names {fetched.lines} of {batch.count} lines", pause)

    async def _look_for_copies(self, batch: BatchRow, side: Side) -> None:
        """A batch whose creation was ever in doubt is looked for before any line of it can go back and be sent again.

        Whatever comes of the look, results that are there do not wait for it: the discarder looks again.
        """
        if not batch.ambiguous or batch.fetched:
            return
        try:
            await look_for_copies(self._upstream, batch, side)
        except (ProviderError, PluginFault) as error:
            self._upstream.log(batch).warning("copies_not_looked_for", reason=trouble(error))

    async def _shown(self, batch: BatchRow, side: Side) -> BatchRow | None:
        """A batch whose results are fetched again, as its provider shows it now; None: it runs again, and is polled again.

        Its files may have been named, and its lines counted, since it was first said to have ended. One that is not shown any
        more may have its results all the same.
        """
        if not batch.fetches or self._is_here(batch):
            return batch
        try:
            remote = await self._upstream.call(side, "poll", side.plugin.poll(remote_of(batch)), FIND_SECONDS)
        except (Missing, PluginFault) as error:
            self._upstream.log(batch).warning("batch_not_shown", reason=trouble(error))
            return batch
        # One that is said now to run and now to have ended, and should long be over, is not waited for again.
        is_overdue = self._age(batch) >= side.provider.limits.window_seconds + OVERDUE_SECONDS
        if remote.state is not RemoteState.RUNNING or is_overdue:
            return await self._ledger.batches.shown(batch, remote)
        self._upstream.log(batch).warning("batch_runs_again", remote_id=batch.remote_id)
        await self._ledger.batches.resumed(batch, remote, self._upstream.clock.now() + REFETCH_SECONDS[0])
        return None

    def _is_here(self, batch: BatchRow) -> bool:
        return batch.fetched and self._upstream.spool.rows(batch.marker).exists()

    async def _fetched(self, batch: BatchRow, side: Side) -> BatchRow:
        """The rows of the batch, whole on disk."""
        rows = self._upstream.spool.rows(batch.marker)
        if self._is_here(batch):
            return batch
        if not self._ledger.database.has_room():
            raise Retryable(NO_ROOM)
        batch = await self._ledger.batches.fetching(batch)
        partial = rows.with_name(rows.name + ".part")
        partial.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            await self._upstream.fetch(side, remote_of(batch), partial, FETCH_SECONDS)
        except BaseException:
            # On a full disk half a download would stand in the way of everything else.
            partial.unlink(missing_ok=True)
            raise
        await asyncio.to_thread(self._upstream.spool.adopt_rows, batch.marker, partial)
        self._upstream.metrics.fetches.of(side.provider.name, "whole").inc()
        return await self._ledger.batches.fetched(batch)

    async def _fetch_failed(self, batch: BatchRow, error: Exception) -> None:
        """A download that failed says nothing of the lines: again, later each time."""
        self._upstream.metrics.fetches.of(batch.lane.provider, "failed").inc()
        pause = pause_after(error, batch.troubles, 5.0, LONGEST_TROUBLE_SECONDS)
        if isinstance(error, PluginFault | Missing):
            await self._upstream.park(batch, trouble(error), PARK_SECONDS)
        else:
            await self._upstream.later(batch, trouble(error), pause)

    def _given_up(self, batch: BatchRow) -> bool:
        """Whether the results have been fetched in vain for so long that they will never come: nothing waits for ever."""
        now = self._upstream.clock.now()
        ended_at = now if batch.ended_at is None else batch.ended_at
        return batch.troubles >= LOST_TROUBLES and now - ended_at >= self._retries.give_up_hours * 3600

    async def _results_gone(self, batch: BatchRow, side: Side, error: Exception) -> bool:
        """Whether the provider shows the batch as ended and has not had its results for a whole quarantine.

        So it is after a restored backup: what was collected and deleted since then has to be asked again. A batch that is
        not shown either says that the key or the address is wrong, and nothing of its results.
        """
        ended_at = self._upstream.clock.now() if batch.ended_at is None else batch.ended_at
        waited = self._upstream.clock.now() - ended_at
        if not isinstance(error, Missing) or batch.troubles < HITCHES or waited < self._retries.quarantine_seconds:
            return False
        try:
            remote = await self._upstream.call(side, "poll", side.plugin.poll(remote_of(batch)), FIND_SECONDS)
        except (ProviderError, PluginFault):
            return False
        return remote.state is RemoteState.ENDED

    def _pause(self, batch: BatchRow, side: Side, lines: int) -> float | None:
        """After which pause to fetch again, since only so many lines have a row; None: take what is there.

        Looked for once more only are lines that nobody wants, those that a file lacks whose provider does not count, and those
        that it does not count as done: somebody else may have stopped the batch.
        """
        if lines >= expected_lines(batch, stopped=self._was_stopped(batch, side)) or self._given_up(batch):
            return None
        is_counted = batch.total is not None or bool(batch.done)
        is_all_done = bool(batch.done) and lines >= (batch.done or 0)
        is_sure = batch.cancel_at is None and not is_all_done and (is_counted or not lines)
        pauses = REFETCH_SECONDS if is_sure else REFETCH_SECONDS[:1]
        return None if batch.fetches > len(pauses) else pauses[batch.fetches - 1]

    def _was_stopped(self, batch: BatchRow, side: Side) -> bool:
        """By us, or by the end of its window."""
        return batch.cancel_at is not None or self._age(batch) >= side.provider.limits.window_seconds

    def _age(self, batch: BatchRow) -> float:
        now = self._upstream.clock.now()
        return now - (now if batch.submitted_at is None else batch.submitted_at)
