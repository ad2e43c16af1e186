"""Room of batches: sealed, claimed, moved on, settled. Whoever works on one claims it first; every write is fenced.

What only looks is in `batch_reads`.

A write whose claim is no longer the latest, or that does not fit the state, changes nothing and raises `StaleEpoch`.
Each gives the claim back with the same commit unless it says that it keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import orjson

from gateway.clock import Clock
from gateway.errors import StaleEpoch
from gateway.records import BatchState, RemoteBatch
from gateway.store.batch_reads import BatchReads
from gateway.store.batch_rows import Members, read_batch
from gateway.store.boots import Boots
from gateway.store.database import Database, Params, Session, Value, json_array, read_aside
from gateway.store.endings import stop
from gateway.store.lanes import TOKEN_LIMIT
from gateway.store.rows import Ending
from gateway.store.sealing import dissolve, seal
from gateway.store.settling import learn, refuse_unsettled, settle
from gateway.store.shipping import BatchRow, Cut, Settled, Settlement

#: A settlement, or a cancel, takes at most so many lines at once: whoever waits for a commit waits for one of them at most.
SETTLE_AT_MOST = 500


class Batches(BatchReads):
    """Every write is durable when its call returns."""

    def __init__(self, database: Database, clock: Clock, boots: Boots) -> None:
        """`boots` says who claims."""
        super().__init__(database)
        self._clock = clock
        self._boots = boots

    async def seal(  # noqa: PLR0917 - the pipeline reads best in this order
        self, lane_id: int, cut: Cut, marker: str, account: str, base_url: str, now: float
    ) -> BatchRow | None:
        """The lane's oldest requests within `cut`, at least one, become a batch, to be claimed; None: there are none."""
        return await self._database.write(
            lambda session: seal(
                session, lane=lane_id, cut=cut, marker=marker, account=account, base_url=base_url, now=now
            ),
            bulk=True,
        )

    async def claim(
        self, states: Sequence[BatchState], now: float, limit: int, but_of: Sequence[str] = ()
    ) -> list[BatchRow]:
        """Take batches in these states whose `retry_at` has come and that no living boot works on, this one included.

        None of the accounts in `but_of` (by `BatchRow.account_key`) is touched.
        """
        params: Params = {
            "states": json_array(states),
            "now": now,
            "limit": limit,
            "boot": self._boots.id,
            "but_of": json_array(but_of),
        }

        def op(session: Session) -> list[BatchRow]:
            found = session.rows("claimable", params)
            claims = (self._claim(session, batch_id, now) for (batch_id,) in found)
            return [batch for batch in claims if batch is not None]

        if not await self._database.read(lambda session: session.rows("claimable", params)):
            return []
        return await self._database.write(op)

    async def claim_one(self, batch_id: int, states: Sequence[BatchState] = tuple(BatchState)) -> BatchRow | None:
        """Take this batch if it is in one of these states; None: it is not, somebody alive works on it, or there is none.

        Whoever has read it before names the state it was in: it may have moved on since, and a claim on what nothing is to be
        done with would not be given back.
        """
        now = self._clock.now()

        def op(session: Session) -> BatchRow | None:
            batch = read_batch(session, batch_id)
            return None if batch is None or batch.state not in states else self._claim(session, batch_id, now)

        return await self._database.write(op)

    def _claim(self, session: Session, batch_id: int, now: float) -> BatchRow | None:
        claimed = session.run("claim", {"id": batch_id, "boot": self._boots.id, "now": now})
        return read_batch(session, batch_id) if claimed else None

    async def release(
        self, batch: BatchRow, *, retry_at: float, parked_reason: str | None = None, troubles: int = 0
    ) -> BatchRow:
        """Give the claim back, the state unchanged; `parked_reason` None: it is not parked."""
        params = {
            "retry_at": retry_at, "parked_reason": parked_reason, "troubles": troubles, "now": self._clock.now(),
        }  # fmt: skip
        return await self._move(batch, "release", params)

    async def uploaded(self, batch: BatchRow, file_id: str | None) -> BatchRow:
        """The provider has the spool under this name. Keeps the claim."""
        return await self._move(batch, "uploaded", {"file_id": file_id})

    async def intend(self, batch: BatchRow, now: float) -> BatchRow:
        """A create call is about to be sent: sealed -> submitting. Keeps the claim."""
        return await self._move(batch, "intend", {"now": now})

    async def submitted(self, batch: BatchRow, remote: RemoteBatch, now: float, retry_at: float) -> BatchRow:
        """The provider has it, and this is its name there: submitting | reconciling -> submitted."""
        params = {**_remote(remote), "remote_id": remote.remote_id, "now": now, "retry_at": retry_at}
        return await self._move(batch, "submitted", params)

    async def reseal(self, batch: BatchRow, retry_at: float, reason: str | None = None, troubles: int = 0) -> BatchRow:
        """The provider certainly has not got it: submitting | reconciling -> sealed."""
        params = {"retry_at": retry_at, "reason": reason, "troubles": troubles, "now": self._clock.now()}
        return await self._move(batch, "reseal", params)

    async def doubt(self, batch: BatchRow, reason: str | None, retry_at: float) -> BatchRow:
        """Nobody knows whether the provider has it: submitting | submitted -> reconciling."""
        return await self._move(batch, "doubt", {"reason": reason, "retry_at": retry_at, "now": self._clock.now()})

    async def polled(self, batch: BatchRow, remote: RemoteBatch, retry_at: float, troubles: int = 0) -> BatchRow:
        """What the provider said of a batch that is not over."""
        return await self._move(batch, "polled", {**_remote(remote), "retry_at": retry_at, "troubles": troubles})

    async def ended(self, batch: BatchRow, remote: RemoteBatch, now: float) -> BatchRow:
        """The provider is done with it: submitted -> ended. A lane that waits for room may go on."""

        def also(session: Session) -> None:
            session.run("lane_relieved", {"lane": batch.lane_id, "reason": TOKEN_LIMIT})

        return await self._move(batch, "ended", {**_remote(remote), "now": now}, also)

    async def shown(self, batch: BatchRow, remote: RemoteBatch) -> BatchRow:
        """What the provider says of an ended batch before its results are fetched again. Keeps the claim."""
        return await self._move(batch, "shown", _remote(remote))

    async def resumed(self, batch: BatchRow, remote: RemoteBatch, retry_at: float) -> BatchRow:
        """The provider said that it was done with it, and says now that it runs: ended -> submitted."""
        return await self._move(batch, "resumed", {**_remote(remote), "retry_at": retry_at})

    async def fetching(self, batch: BatchRow) -> BatchRow:
        """A download of the results begins. Keeps the claim."""
        return await self._move(batch, "fetching", {})

    async def fetched(self, batch: BatchRow) -> BatchRow:
        """The results are whole on disk. Keeps the claim."""
        return await self._move(batch, "fetched", {})

    async def settle(self, batch: BatchRow, settlements: Sequence[Settlement], now: float) -> list[Settled]:
        """Book lines and end their requests or send them back; those that ended. Keeps the claim.

        At most `SETTLE_AT_MOST` at once. Settling a line again changes nothing. A line whose request is not in the batch
        any more is booked as wasted. A request that would go back although its cancel is wished ends cancelled.
        """
        if len(settlements) > SETTLE_AT_MOST:
            raise ValueError(f"{len(settlements)} lines are too many for one commit: settle {SETTLE_AT_MOST} at most")
        return await self._database.write(lambda session: settle(session, batch, settlements, now), bulk=True)

    async def collected(self, batch: BatchRow, now: float) -> BatchRow:
        """Every line is settled (else `LedgerError`): ended -> collected. The lane learns from it; its target grows."""

        def also(session: Session) -> None:
            refuse_unsettled(session, batch)
            learn(session, batch)

        return await self._move(batch, "collected", {"now": now}, also, bulk=True)

    async def dissolve(
        self,
        batch: BatchRow,
        now: float,
        refused: Mapping[int, Ending],
        parts: Sequence[str] = (),
        not_before: float | None = None,
    ) -> tuple[list[BatchRow], list[Settled]]:
        """Any state before ended -> dissolved, in one transaction with what follows for its requests.

        `refused` lines end so; lines whose cancel is wished end cancelled; the others go back to their lane with their
        age and attempts, due at once or from `not_before` on. With `parts` (markers) they become that many sealed
        batches instead, in order. Returns the parts, and the requests that ended.
        """
        return await self._database.write(
            lambda session: dissolve(session, batch, now=now, refused=refused, parts=parts, not_before=not_before),
            bulk=True,
        )

    async def cancel_members(self, batch_id: int, ending: Ending, now: float) -> int | None:
        """Wish every unsettled line of an open batch cancelled: each ends with `ending` unless it is answered.

        Some at a time; of those that have gone back to their lane meanwhile, none is sent again. How many were marked;
        None: there is no such open batch.
        """

        def read(session: Session) -> list[int] | None:
            seqs = [member.seq for member in Members(session, batch_id)]
            batch = read_batch(session, batch_id)
            over = batch is None or batch.state in (BatchState.COLLECTED, BatchState.DISSOLVED)
            return None if over else seqs

        seqs = await read_aside(self._database, read)
        if seqs is None:
            return None
        marked = 0
        for first in range(0, len(seqs), SETTLE_AT_MOST):
            op = partial(stop, seqs=seqs[first : first + SETTLE_AT_MOST], ending=ending, now=now)
            marked += await self._database.write(op, bulk=True)
        return marked

    async def mark_cancelling(self, batch: BatchRow, now: float) -> BatchRow:
        """Nobody wants it any more: the poll that follows asks the provider to stop it."""
        return await self._move(batch, "mark_cancelling", {"now": now})

    async def discarded(self, batch: BatchRow) -> None:
        """Nothing of it is left at the provider."""
        await self._database.write(lambda session: session.run("discarded", {"id": batch.id}))

    async def _move(
        self,
        batch: BatchRow,
        query: str,
        params: Mapping[str, Value],
        also: Callable[[Session], None] | None = None,
        *,
        bulk: bool = False,
    ) -> BatchRow:
        def op(session: Session) -> BatchRow:
            moved = session.run(query, {**params, "id": batch.id, "epoch": batch.epoch})
            if moved and also is not None:
                also(session)
            row = read_batch(session, batch.id) if moved else None
            if row is None:
                raise StaleEpoch(f"batch {batch.marker} has been taken over or has moved on: '{query}' changed nothing")
            return row

        return await self._database.write(op, bulk=bulk)


def _remote(remote: RemoteBatch) -> dict[str, Value]:
    return {
        "remote_state": remote.state.value,
        "remote_notes": orjson.dumps(dict(remote.where)).decode(),
        "remote_created_at": None if remote.created is None else remote.created.timestamp(),
        "total": remote.total,
        "done": remote.done,
    }
