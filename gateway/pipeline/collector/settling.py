"""Make endings of the rows of a batch, a slice at a time: decode, judge, settle, wake.

Takes batches in `ended` whose rows are on disk; leaves their requests in an ending, or `queued` again. If the process dies
half-way, the slices committed so far are settled, and reading their rows again changes nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from gateway.config import Retries
from gateway.delivery import NAMED_AT_MOST, Delivery, names_of
from gateway.endings import Judged, settle
from gateway.errors import PluginFault
from gateway.judging import Judge
from gateway.pipeline.collector.reading import is_answer, rows_of
from gateway.records import RequestState, Result
from gateway.spool import in_slices
from gateway.store.batch_rows import Members
from gateway.store.shipping import Asked, BatchRow, Member, Settled, Settlement
from gateway.tasks import Tasks
from gateway.upstream import Side, Upstream

#: Rows settled in one commit.
ROWS_AT_ONCE = 500
#: Stored requests held in memory together, to look what form their answers should have.
PAYLOADS_AT_ONCE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a row says of a line of the batch."""

    n: int
    result: Result


@dataclass(slots=True, kw_only=True)
class Tally:
    """What came of lines, for the log."""

    #: Requests by the states they ended in, and `again`: those that go back for another attempt.
    outcomes: Counter[str] = field(default_factory=Counter)
    #: Of the billed lines; None: of one the price is not known.
    cost_usd: float | None = 0.0
    #: The first few that failed.
    failed: list[Settled] = field(default_factory=list)

    def add(self, settlements: Sequence[Settlement], settled: Sequence[Settled]) -> None:
        """Count a chunk whose commit has returned."""
        ended = {request.n for request in settled}
        again = sum(line.ending is None and line.n not in ended for line in settlements)
        self.outcomes += Counter({"again": again}) + Counter(request.state.value for request in settled)
        for line in settlements:
            if line.billed:
                known = self.cost_usd is not None and line.cost_usd is not None
                self.cost_usd = (self.cost_usd or 0.0) + (line.cost_usd or 0.0) if known else None
        failed = (request for request in settled if request.state is RequestState.FAILED)
        self.failed += islice(failed, NAMED_AT_MOST - len(self.failed))


class Settler:
    """Settles every line of a claimed batch; whoever waits for one wakes after the commit of its slice."""

    def __init__(self, upstream: Upstream, delivery: Delivery, retries: Retries, tasks: Tasks) -> None:
        """`delivery` is told of what has been settled."""
        self._upstream = upstream
        self._ledger = upstream.ledger
        self._delivery = delivery
        self._retries = retries
        self._tasks = tasks
        #: Rows of nobody that were told of, by batch: while a plugin fails on a row, the file is read again and again.
        self._strange: dict[int, int] = {}

    async def settle_all(self, batch: BatchRow, side: Side, answered: bytes) -> None:
        """Settle every row, then every line that has none; a chunk is read while the one before it is committed.

        `answered` as of `reading.Named`: of a line that a row answers, what other rows complain of does not count.

        Raises `PluginFault` where a row cannot be decoded, or has what cannot be stored: all others are settled, and no line
        counts as missing, since such a row may be its.
        """
        await self._settle_rows(batch, side, answered, whole=True)
        await self._settle_chunks(batch, self._missing(batch, side))
        self._strange.pop(batch.id, None)

    async def settle_answers(self, batch: BatchRow, side: Side, answered: bytes) -> None:
        """Settle the answers of a file that is not whole: the next one may have fewer, and they were paid.

        What other rows say of a line has to wait: the whole file may have its answer. Raises as `settle_all`.
        """
        await self._settle_rows(batch, side, answered, whole=False)

    async def _settle_rows(self, batch: BatchRow, side: Side, answered: bytes, *, whole: bool) -> None:
        faults: list[PluginFault] = []
        await self._settle_chunks(batch, self._chunks(batch, side, answered, faults, whole=whole))
        if faults:
            raise faults[0]

    async def _settle_chunks(self, batch: BatchRow, chunks: Iterator[list[Settlement]]) -> None:
        tally = Tally()
        ahead = self._tasks.spawn("collect.read", asyncio.to_thread(next, chunks, None))
        while (chunk := await ahead) is not None:
            ahead = self._tasks.spawn("collect.read", asyncio.to_thread(next, chunks, None))
            await self._settle(batch, chunk, tally)
        if tally.outcomes:
            self._upstream.log(batch).info(
                "lines_settled",
                outcomes=dict(tally.outcomes),
                cost_usd=tally.cost_usd,
                failed=await names_of(self._ledger, tally.failed),
            )

    async def _settle(self, batch: BatchRow, settlements: list[Settlement], tally: Tally) -> None:
        """Commit a chunk, then wake its callers and remember its answers."""
        now = self._upstream.clock.now()
        settled = await self._ledger.batches.settle(batch, settlements, now)
        # Of several rows for one line the ledger takes the first: so must everybody who is told.
        settlements = list({settlement.n: settlement for settlement in reversed(settlements)}.values())
        self._delivery.deliver(batch.lane.provider, settlements, settled, now)
        self._count(batch.lane.provider, settlements, settled)
        tally.add(settlements, settled)
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

    def _chunks(
        self, batch: BatchRow, side: Side, answered: bytes, faults: list[PluginFault], *, whole: bool
    ) -> Iterator[list[Settlement]]:
        """Settlements of the rows on disk, a chunk at a time; runs in threads, one after the other. Fills `faults`.

        `whole`: of all rows; else of the answers among them. What an earlier reading of them has settled was counted then, and
        so was what an earlier chunk settles: it need not be committed yet, so that the ledger cannot tell.
        """
        booked = bytearray(self._booked(batch))
        rows = (row for row in self._rows(batch, side, answered, faults, whole=whole) if not booked[row.n])
        members = self._members(batch)
        pricing = self._upstream.pricing(batch, side)
        judge = self._upstream.judge(side.provider, side.plugin, batch.count)
        while chunk := list(islice(rows, ROWS_AT_ONCE)):
            judged = {} if judge is None else self._judged(batch, judge, chunk)
            now = self._upstream.clock.now()
            settlements = []
            for row in chunk:
                member = members.get(row.n) or _settled_before(row.n)
                try:
                    settlements.append(
                        settle(row.result, member, batch, pricing, self._retries, now=now, judged=judged.get(row.n))
                    )
                except Exception as error:  # noqa: BLE001 - a body that is no JSON, say
                    if not faults:
                        faults.append(self._upstream.accounts.fault(side.provider, "decode", error))
                else:
                    booked[row.n] = 1
            yield settlements

    def _judged(self, batch: BatchRow, judge: Judge, chunk: Sequence[Said]) -> dict[int, Judged]:
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

    def _rows(
        self, batch: BatchRow, side: Side, answered: bytes, faults: list[PluginFault], *, whole: bool
    ) -> Iterator[Said]:
        """What the rows say of lines of this batch; rows that name none are counted, once: in the whole file."""
        strange = 0
        try:
            for row in rows_of(self._upstream, batch, side):
                if row.n is None:
                    strange += 1
                    if whole and strange > self._strange.get(batch.id, 0):
                        self._strange[batch.id] = strange
                        self._unknown(batch, row.result)
                elif is_answer(row.result) or (whole and not answered[row.n]):
                    yield Said(n=row.n, result=row.result)
        except PluginFault as fault:
            faults.append(fault)

    def _unknown(self, batch: BatchRow, result: Result) -> None:
        self._upstream.metrics.unknown_lines.of(batch.lane.provider).inc()
        self._upstream.log(batch).warning("unknown_line", line_id=result.line_id)

    def _missing(self, batch: BatchRow, side: Side) -> Iterator[list[Settlement]]:
        """Settlements for lines that no row has settled, a chunk at a time; runs in threads, one after the other."""
        members = iter(self._members(batch))
        pricing = self._upstream.pricing(batch, side)
        while chunk := list(islice(members, ROWS_AT_ONCE)):
            self._upstream.log(batch).warning("lines_missing", lines=len(chunk))
            now = self._upstream.clock.now()
            yield [settle(None, member, batch, pricing, self._retries, now=now) for member in chunk]

    def _booked(self, batch: BatchRow) -> bytes:
        with self._ledger.database.reader() as session:
            return self._ledger.batches.booked(session, batch)

    def _members(self, batch: BatchRow) -> Members:
        with self._ledger.database.reader() as session:
            return self._ledger.batches.members(session, batch.id)


def _settled_before(n: int) -> Member:
    return Member(n=n, seq=0, attempts=0, queued_at=0.0, cancel_at=None)
