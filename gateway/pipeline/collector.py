"""Fetch what an ended batch came to, settle every line, wake whoever waits.

Takes batches in `ended`, leaves them in `collected` and their requests in an ending, or `queued` again. If the
process dies half-way, the lines settled so far are settled (each once: they are keyed by batch and place) and the
rest is read again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from gateway.candidates import weigh
from gateway.config import Retries
from gateway.delivery import Delivery
from gateway.endings import Judged, settle
from gateway.errors import Missing, PluginFault, ProviderError, Retryable
from gateway.judging import Judge
from gateway.pipeline.waiters import Waiters
from gateway.records import BatchState, RemoteBatch, RemoteState, Result, line_number
from gateway.spool import count_rows, in_slices, read_rows, write_whole
from gateway.store.batch_rows import Members
from gateway.store.cache import Cache
from gateway.store.shipping import Asked, BatchRow, Member, Settled, Settlement
from gateway.tasks import Tasks, wait_for_event
from gateway.troubles import HITCHES, LOST_TROUBLES, NO_ROOM, PARK_SECONDS, backoff, trouble
from gateway.turns import Turns
from gateway.upstream import Side, Upstream, remote_of

#: Batches of each account fetched at the same time: a download that hangs holds up nobody else's.
AT_ONCE = 2
#: Batches settled at the same time, of all accounts: that is work for this process.
SETTLED_AT_ONCE = 2
TICK_SECONDS = 2.0
#: Batches with results on a short disk that are looked at together.
LOOK_AT_MOST = 100
#: Rows settled in one commit.
ROWS_AT_ONCE = 500
#: Stored requests held in memory together, to look what form their answers should have.
PAYLOADS_AT_ONCE = 10
FETCH_SECONDS = 3600.0
FIND_SECONDS = 300.0
#: Pauses before a result file with too few rows is fetched again; after them its lines count as missing.
REFETCH_SECONDS = (60.0, 900.0)
LONGEST_TROUBLE_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of a result file that names a line of the batch."""

    n: int
    result: Result


class Collector:
    """Claims ended batches and takes each through fetch, settle and wake."""

    def __init__(
        self,
        upstream: Upstream,
        waiters: Waiters,
        cache: Cache,
        retries: Retries,
        tasks: Tasks,
        *,
        ended: asyncio.Event,
    ) -> None:
        """Listens to `ended`, tells by `upstream.arrived` when requests went back."""
        self._upstream = upstream
        self._ledger = upstream.ledger
        self._delivery = Delivery(wake=waiters.wake, cache=cache, metrics=upstream.metrics)
        self._retries = retries
        self._tasks = tasks
        self._ended = ended
        self._turns = Turns(upstream, tasks, "collect", (BatchState.ENDED,), at_once=AT_ONCE, over=ended)
        self._settling = asyncio.Semaphore(SETTLED_AT_ONCE)

    async def run(self) -> None:
        """Collect for ever."""
        while True:
            self._ended.clear()
            if not await self.tick():
                await wait_for_event(self._upstream.clock, self._ended, TICK_SECONDS)

    async def tick(self) -> int:
        """Begin with every batch that is ready, as far as its account has room; returns how many."""
        if self._ledger.database.has_room():
            return await self._turns.begin(self.collect)
        return await self._collect_fetched()

    async def _collect_fetched(self) -> int:
        """As `tick` while the disk is short: only batches whose results are on it already."""
        now = self._upstream.clock.now()
        begun = 0
        for batch in await self._ledger.batches.fetched_already(now, LOOK_AT_MOST):
            if not self._turns.has_room(batch):
                continue
            claimed = await self._ledger.batches.claim_one(batch.id, [BatchState.ENDED])
            if claimed is not None:
                self._turns.give(claimed, self._guarded)
                begun += 1
        return begun

    async def _guarded(self, batch: BatchRow) -> None:
        await self._upstream.guard(batch, self.collect(batch))

    async def collect(self, batch: BatchRow) -> None:
        """Take one claimed batch as far as it goes now."""
        side = await self._upstream.side(batch)
        if side is None:
            return
        looked = lost = False
        try:
            await self._look_for_copies(batch, side)
            looked = True
            batch = await self._fetched(batch, side)
        except (ProviderError, PluginFault) as error:
            if not (self._given_up(batch) or (looked and await self._results_gone(batch, side, error))):
                await self._fetch_failed(batch, error)
                return
            self._upstream.log(batch).error("results_lost", reason=trouble(error), lines=batch.count)
            await asyncio.to_thread(write_whole, self._upstream.spool.rows(batch.marker), ())
            lost = True
        wait = None if lost else await asyncio.to_thread(self._too_short, batch)
        if wait is not None:
            await self._upstream.park(batch, "the result file has too few rows", wait)
            return
        try:
            async with self._settling:
                await self._settle_all(batch, side)
        except PluginFault as error:
            await self._upstream.park(batch, trouble(error), PARK_SECONDS)
            return
        await self._ledger.batches.collected(batch, self._upstream.clock.now())
        self._upstream.metrics.batches_collected.of(batch.lane.provider).inc()
        self._upstream.log(batch).info("batch_collected", requests=batch.count)
        await asyncio.to_thread(self._upstream.spool.drop, batch.marker)
        self._upstream.arrived.set()

    async def _look_for_copies(self, batch: BatchRow, side: Side) -> None:
        """A batch whose creation was ever in doubt is looked for again: copies of it are stopped and counted.

        Not for ever: its own results may be there, whatever stands before the look.
        """
        if not batch.ambiguous or batch.fetched or self._given_up(batch):
            return
        remotes: Sequence[RemoteBatch] = await self._upstream.call(
            side, "find", side.plugin.find(self._upstream.view(batch)), FIND_SECONDS
        )
        if not side.plugin.marked:
            # What still runs may be a stranger's: only proven copies are touched.
            weighed = await weigh(self._upstream, batch, side, remotes)
            if weighed.unread is not None:
                raise weighed.unread
            remotes = weighed.ours
        copies = [remote for remote in remotes if remote.remote_id != batch.remote_id]
        await self._upstream.cancel_copies(batch, side, copies)

    async def _fetched(self, batch: BatchRow, side: Side) -> BatchRow:
        """The rows of the batch, whole on disk."""
        rows = self._upstream.spool.rows(batch.marker)
        if batch.fetched and rows.exists():
            return batch
        if not self._ledger.database.has_room():
            raise Retryable(NO_ROOM)
        batch = await self._ledger.batches.fetching(batch)
        partial = rows.with_name(rows.name + ".part")
        partial.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            await self._upstream.call(side, "fetch", side.plugin.fetch(remote_of(batch), partial), FETCH_SECONDS)
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
        wish = error.retry_after if isinstance(error, Retryable) else None
        pause = max(wish or 0.0, backoff(batch.troubles, 5.0, LONGEST_TROUBLE_SECONDS))
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

    def _too_short(self, batch: BatchRow) -> float | None:
        """After which pause to fetch again because rows are missing or the last one is cut; None: take what is there."""
        rows = self._upstream.spool.rows(batch.marker)
        counted = count_rows(rows)
        enough = counted.rows >= (batch.total or 0) and counted.last_is_whole
        if enough or batch.fetches > len(REFETCH_SECONDS) or self._given_up(batch):
            return None
        rows.unlink()
        return REFETCH_SECONDS[batch.fetches - 1]

    async def _settle_all(self, batch: BatchRow, side: Side) -> None:
        """Settle every row, then every line that has none; a chunk is read while the one before it is committed."""
        await self._settle_chunks(batch, self._chunks(batch, side))
        await self._settle_chunks(batch, self._missing(batch, side))

    async def _settle_chunks(self, batch: BatchRow, chunks: Iterator[list[Settlement]]) -> None:
        ahead = self._tasks.spawn("collect.read", asyncio.to_thread(next, chunks, None))
        while (chunk := await ahead) is not None:
            ahead = self._tasks.spawn("collect.read", asyncio.to_thread(next, chunks, None))
            await self._settle(batch, chunk)

    async def _settle(self, batch: BatchRow, settlements: list[Settlement]) -> None:
        """Commit a chunk, then wake its callers and remember its answers."""
        now = self._upstream.clock.now()
        settled = await self._ledger.batches.settle(batch, settlements, now)
        # Of several rows for one line the ledger takes the first: so must everybody who is told.
        settlements = list({settlement.n: settlement for settlement in reversed(settlements)}.values())
        self._delivery.deliver(batch.lane.provider, settlements, settled, now)
        self._count(batch.lane.provider, settlements, settled)
        await asyncio.sleep(0)

    def _count(self, provider: str, settlements: Sequence[Settlement], settled: Iterable[Settled]) -> None:
        """Count the lines of a chunk; one that ends no request now was settled before, or nobody needs it any more."""
        metrics = self._upstream.metrics
        ended = {request.n for request in settled}
        outcomes = Counter(
            settlement.trouble or "answered"
            for settlement in settlements
            if settlement.n in ended or settlement.ending is None
        )
        for outcome, lines in outcomes.items():
            metrics.batch_lines.of(provider, outcome).inc(lines)
        metrics.late_lines.of(provider).inc(len(settlements) - outcomes.total())

    def _chunks(self, batch: BatchRow, side: Side) -> Iterator[list[Settlement]]:
        """Settlements of the rows on disk, a chunk at a time; runs in threads, one after the other."""
        rows = self._rows(batch, side)
        members = self._members(batch)
        pricing = self._upstream.pricing(batch, side)
        judge = self._upstream.judge(side.provider, side.plugin, batch.count)
        while chunk := list(islice(rows, ROWS_AT_ONCE)):
            judged = {} if judge is None else self._judged(batch, judge, chunk)
            now = self._upstream.clock.now()
            yield [
                settle(
                    row.result, members.get(row.n) or _settled_before(row.n), batch, pricing, self._retries,
                    now=now, judged=judged.get(row.n),
                )
                for row in chunk
            ]  # fmt: skip

    def _judged(self, batch: BatchRow, judge: Judge, chunk: Sequence[Row]) -> dict[int, Judged]:
        """What was found of the answers in a chunk, by place; of several rows for one line the first counts."""
        answered = {row.n: row.result for row in reversed(chunk) if row.result.status == 200}
        found = {each.n: judge.judge(each, answered[each.n]) for each in in_slices(self._asked(batch, answered))}
        return {n: judged for n, judged in found.items() if judged is not None}

    def _asked(self, batch: BatchRow, places: Iterable[int]) -> Iterator[Asked]:
        """What was asked there, a few lines at a time: each may carry megabytes of pictures."""
        left = iter(places)
        while page := list(islice(left, PAYLOADS_AT_ONCE)):
            with self._ledger.database.reader() as session:
                asked = self._ledger.batches.asked(session, batch.id, page)
            yield from asked

    def _rows(self, batch: BatchRow, side: Side) -> Iterator[Row]:
        """Rows that name a line of this batch; others are counted."""
        for row in in_slices(read_rows(self._upstream.spool.rows(batch.marker))):
            result = self._upstream.decode(side, row)
            n = None if result.line_id is None else line_number(batch.marker, result.line_id)
            if n is None or n >= batch.count:
                self._upstream.metrics.unknown_lines.of(side.provider.name).inc()
                self._upstream.log(batch).warning("unknown_line", line_id=result.line_id)
                continue
            yield Row(n=n, result=result)

    def _missing(self, batch: BatchRow, side: Side) -> Iterator[list[Settlement]]:
        """Settlements for lines that no row has settled, a chunk at a time; runs in threads, one after the other."""
        members = iter(self._members(batch))
        pricing = self._upstream.pricing(batch, side)
        while chunk := list(islice(members, ROWS_AT_ONCE)):
            self._upstream.log(batch).warning("lines_missing", lines=len(chunk))
            now = self._upstream.clock.now()
            yield [settle(None, member, batch, pricing, self._retries, now=now) for member in chunk]

    def _members(self, batch: BatchRow) -> Members:
        with self._ledger.database.reader() as session:
            return self._ledger.batches.members(session, batch.id)


def _settled_before(n: int) -> Member:
    return Member(n=n, seq=0, attempts=0, queued_at=0.0, cancel_at=None)
