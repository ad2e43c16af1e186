"""Room of requests: what was asked, where it stands, how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from functools import partial

from gateway.clock import Clock
from gateway.errors import LedgerError
from gateway.records import BatchState, RequestState
from gateway.store.admission import Admitter
from gateway.store.boots import Boots
from gateway.store.database import Database, Row, Session, Value, json_array, read_aside
from gateway.store.departures import depart
from gateway.store.endings import end_queued, read_ending, wish_cancel
from gateway.store.families import cancel_family, end_family, is_parent
from gateway.store.naming import own_id, parse_own_id
from gateway.store.rows import Admission, Arrival, Departure, Ending, LaneKey, Request
from gateway.store.totals import LaneTotals

#: So many endings are read before others have their turn: a few milliseconds.
ENDINGS_AT_ONCE = 100
#: Lines of batches that are forgotten in one transaction.
FORGET_LINES = 500
#: No state, no limit worth the name.
ALL_STATES = tuple(RequestState)


class Requests:
    """Every write is durable when its call returns."""

    def __init__(self, database: Database, clock: Clock, boots: Boots) -> None:
        """`boots` says whose holds these are."""
        self._database = database
        self._clock = clock
        self._boots = boots

    async def admit(self, arrivals: Sequence[Arrival], departures: Sequence[Departure] = ()) -> list[Admission]:
        """Fold the departures, then recognise or record each arrival, in order; all of it or nothing.

        On a short disk new work is not recorded (`Admission.full`); what is recorded already is found, and what is finished
        is served, out of the cache too. Raises `StorageFull` if there is no room even for that.
        """
        room = self._database.has_room()
        admitter = Admitter(arrivals, departures, boot=self._boots.id, now=self._clock.now(), room=room)
        return await self._database.write(admitter.run)

    async def depart(self, departures: Sequence[Departure]) -> None:
        """Note who has gone: deliveries, ends of holds, what is owed."""
        boot = self._boots.id
        await self._database.write(lambda session: depart(session, departures, boot=boot))

    async def ending(self, seq: int) -> Ending | None:
        """How a request ended; None while it has not (or is forgotten)."""
        return await self._database.read(lambda session: read_ending(session, seq))

    async def endings(self, seqs: Sequence[int]) -> dict[int, Ending]:
        """The endings of those that have one. Of many, some at a time: others have their turn in between."""
        found: dict[int, Ending] = {}
        for first in range(0, len(seqs), ENDINGS_AT_ONCE):
            if first:
                await asyncio.sleep(0)
            found |= await self._database.read(partial(_endings, seqs=seqs[first : first + ENDINGS_AT_ONCE]))
        return found

    async def find(self, client: str | None, job: str, custom_id: str) -> Request | None:
        """A request by its name in `job` or by our own id; of one client, or of any (None: the operator)."""

        def op(session: Session) -> Request | None:
            row = session.row("seq_of_name", {"name": custom_id, "job": job, "client": client})
            own = parse_own_id(custom_id)
            if row is None and own is not None:
                row = session.row("seq_of_id", {"seq": own[0], "token": own[1], "client": client})
            return None if row is None else read_request(session, row[0])

        return await self._database.read(op)

    async def listed(
        self, client: str | None, states: Sequence[RequestState] = ALL_STATES, limit: int = 100, after_seq: int = 0
    ) -> list[Request]:
        """Requests in the order of acceptance, after `after_seq`. May look through many rows, so off the loop."""
        params = {
            "client": client,
            "states": json_array(states),
            "limit": limit,
            "after_seq": after_seq,
        }

        def op(session: Session) -> list[Request]:
            found = (read_request(session, seq) for (seq,) in session.rows("listed_requests", params))
            return [request for request in found if request is not None]

        return await read_aside(self._database, op)

    async def cancel(self, seq: int, now: float, ending: Ending) -> Request:
        """A queued request ends with `ending`; one in a batch is marked, and ends with it unless its line is answered.

        An ended one stays as it is. Raises `LedgerError` if there is no such request.
        """

        def op(session: Session) -> Request:
            if is_parent(session, seq):
                cancel_family(session, seq, ending, now)
            elif not end_queued(session, [(seq, ending)], now):
                wish_cancel(session, [seq], ending, now)
            request = read_request(session, seq)
            if request is None:
                raise LedgerError(f"there is no request {seq} to cancel: it may have been forgotten")
            return request

        return await self._database.write(op)

    async def cancel_abandoned(
        self, before: float, ending: Ending, limit: int, *, but: Collection[int] = ()
    ) -> list[int]:
        """End queued requests whose last caller left before then, without an answer, `but` these; their seqs."""
        now = self._clock.now()
        params: dict[str, Value] = {"before": before, "limit": limit, "but": json_array(but)}

        def op(session: Session) -> list[int]:
            rows = session.rows("abandoned", params)
            parents = [seq for (seq,) in rows if is_parent(session, seq)]
            for parent in parents:
                end_family(session, parent, ending, now)
            return parents + end_queued(session, [(seq, ending) for (seq,) in rows], now)

        # Many may have been left and must be kept all the same: looking through them is not for the writer, unless one is found.
        if not await read_aside(self._database, lambda session: session.rows("abandoned", params)):
            return []
        return await self._database.write(op, bulk=True)

    async def ripen(self, now: float, limit: int) -> int:
        """Returned lines whose time has come may be batched from now on; how many."""

        def op(session: Session) -> int:
            rows = session.rows("ripe", {"now": now, "limit": limit})
            totals = LaneTotals()
            for _, lane, size, tokens, fresh in rows:
                totals.add(lane, size=size, tokens=tokens, fresh=fresh)
            session.run_many("make_due", ({"seq": row[0]} for row in rows))
            totals.apply(session)
            return len(rows)

        return await self._database.write(op, bulk=True)

    async def give_up(self, queued_before: float, ending: Ending, now: float, limit: int) -> list[int]:
        """End requests that have been queued for too long; their seqs."""

        def op(session: Session) -> list[int]:
            rows = session.rows("overdue_again", {"before": queued_before, "limit": limit})
            for (lane,) in session.rows("lane_ids", {}):
                rows += session.rows("overdue_fresh", {"lane": lane, "before": queued_before, "limit": limit})
            return end_queued(session, [(seq, ending) for (seq,) in rows[:limit]], now)

        return await self._database.write(op, bulk=True)

    async def forget(self, ended_before: float, limit: int) -> int:
        """Remove what ended so long ago: requests, then some lines of batches that have none left. How many requests.

        What was paid stays in the bills. A request in a batch stays until the batch is over, a batch until its lines are gone.
        """
        now = self._clock.now()

        def op(session: Session) -> int:
            count = _forget_requests(session, ended_before, now, limit)
            # The highest slot of a fingerprint can go once the others have gone; not later, or it would stand there alone.
            count += _forget_requests(session, ended_before, now, limit - count) if count else 0
            session.run("forget_runs", {"before": ended_before, "limit": limit})
            session.run("forget_completions", {})
            return count

        forgotten = await self._database.write(op, bulk=True)
        # Whether a batch has no request left is seen by its lines, all of them. Once it has none, none comes to it again.
        params = {"before": ended_before, "limit": limit}
        batches = await read_aside(self._database, lambda session: session.rows("forgettable_batches", params))
        if batches:
            await self._database.write(lambda session: _forget_batches(session, batches), bulk=True)
        return forgotten

    async def tally(self) -> Mapping[RequestState, int]:
        """How many requests are in each state. Counts indexes, off the loop."""
        return await read_aside(self._database, _tally)


def _endings(session: Session, seqs: Sequence[int]) -> dict[int, Ending]:
    ended = session.rows("endings", {"seqs": json_array(seqs)})
    found = {seq: read_ending(session, seq) for (seq,) in ended}
    return {seq: ending for seq, ending in found.items() if ending is not None}


def _forget_requests(session: Session, ended_before: float, now: float, limit: int) -> int:
    rows = session.rows("forgettable", {"before": ended_before, "limit": limit, "now": now})
    for query in ("forget_result", "forget_payload", "forget_request"):
        session.run_many(query, ({"seq": seq} for (seq,) in rows))
    return len(rows)


def _forget_batches(session: Session, batches: Sequence[Row]) -> None:
    """Put lines of these batches on the bill, oldest batch first, and remove them; then the batches that have none left."""
    left = FORGET_LINES
    for (batch,) in batches:
        params = {"batch": batch, "limit": left}
        session.run("keep_bill", params)
        left -= session.run("forget_lines", params)
        if not left:
            return
        session.run("forget_batch", {"batch": batch})


def _tally(session: Session) -> Mapping[RequestState, int]:
    counts = {query: session.rows(query, {})[0][0] for query in ("count_due", "count_returned", "count_batched")}
    ended = {RequestState(state): count for state, count in session.rows("count_ended", {})}
    return {
        **dict.fromkeys(RequestState, 0),
        RequestState.QUEUED: counts["count_due"] + counts["count_returned"],
        RequestState.BATCHED: counts["count_batched"],
        **ended,
    }


def read_request(session: Session, seq: int) -> Request | None:
    """One row, for people."""
    row = session.row("request", {"seq": seq})
    return None if row is None else _request(row)


def _request(row: Row) -> Request:
    seq, token, name = row[:3]
    return Request(
        seq=seq,
        custom_id=own_id(seq, token) if name is None else name,
        client=row[3],
        job=row[4],
        lane=LaneKey(provider=row[5], endpoint=row[6], model=row[7], kind=row[20]),
        state=RequestState(row[8]),
        queued_at=row[9],
        attempts=row[10],
        batch=row[11],
        n=row[12],
        ended_at=row[13],
        cancel_at=row[14],
        parked_reason=row[15],
        retry_at=row[16],
        batch_state=None if row[17] is None else BatchState(row[17]),
        metadata=row[18],
        ready_at=row[19],
    )
