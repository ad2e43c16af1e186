"""Room of batches, what is read: one or some of them, for the stages, for people, for metrics; lines and members.

Nothing here changes a batch, and nothing that is read is a claim: it may have moved on since.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.records import BatchState
from gateway.store.batch_rows import Members, read_batch, read_batches, read_booked, read_lines
from gateway.store.database import Database, Params, Session, Value, json_array, read_aside
from gateway.store.shipping import Asked, BatchRow, Line


class BatchReads:
    """The part of `Batches` that only looks."""

    def __init__(self, database: Database) -> None:
        """Holds nothing but its database."""
        self._database = database

    async def get(self, batch_id: int) -> BatchRow | None:
        """One batch."""
        return await self._database.read(lambda session: read_batch(session, batch_id))

    async def listed(self, states: Sequence[BatchState] = tuple(BatchState), limit: int = 100) -> list[BatchRow]:
        """The latest batches in these states, newest first. There may be many, so off the loop."""

        def op(session: Session) -> list[BatchRow]:
            of_each = (session.rows("latest_batches", {"state": state, "limit": limit}) for state in set(states))
            latest = sorted((row[0] for rows in of_each for row in rows), reverse=True)[:limit]
            found = (read_batch(session, batch_id) for batch_id in latest)
            # It may have moved on since its number was read.
            return [batch for batch in found if batch is not None and batch.state in states]

        return await read_aside(self._database, op)

    async def fetched_already(self, now: float, limit: int) -> list[BatchRow]:
        """Ended batches whose results are on disk, whose `retry_at` has come, whoever works on them."""
        return await self._listing("fetched_already", {"now": now, "limit": limit})

    async def undiscarded(self, now: float, limit: int) -> list[BatchRow]:
        """Batches that are over and may have files left at the provider; those whose `retry_at` has come."""
        return await self._listing("undiscarded", {"now": now, "limit": limit})

    async def cancelled_whole(self, limit: int) -> list[BatchRow]:
        """Batches up to `submitted`, or in doubt, of which nobody wants an unsettled line, and not yet being cancelled.

        Counts the lines of those of which somebody does not want one, so off the loop.
        """
        params: Params = {"limit": limit}
        return await read_aside(self._database, lambda session: read_batches(session, "cancelled_whole", params))

    async def unwanted(self, batch_id: int) -> bool:
        """Whether nobody wants any unsettled line of a batch, and there are some: counted, off the loop, once one is unwanted."""
        if not await self._database.read(lambda session: session.rows("wished", {"batch": batch_id})):
            return False
        found = await read_aside(self._database, lambda session: session.row("unwanted", {"batch": batch_id}))
        return found is not None and bool(found[0])

    async def wished_unsent(self, limit: int, batch_id: int | None = None) -> list[int]:
        """Sealed batches of which nothing is at the provider, and of whose requests one is not wanted any more.

        Only this one, if it is one.
        """
        params: Params = {"limit": limit, "batch": batch_id}
        rows = await self._database.read(lambda session: session.rows("wished_unsent", params))
        return [number for (number,) in rows]

    async def unsent(self, sealed_before: float, limit: int) -> list[BatchRow]:
        """Batches that were sealed before then and are still not sent, oldest first."""
        return await self._listing("unsent", {"before": sealed_before, "limit": limit})

    async def lost(self, heard_before: float, troubles: int, limit: int) -> list[BatchRow]:
        """Batches that were sent before then and met so many troubles in a row since; those heard of longest ago first."""
        return await self._listing("lost", {"before": heard_before, "troubles": troubles, "limit": limit})

    async def open_counts(self) -> dict[tuple[str, BatchState], int]:
        """How many batches are not over, by provider and state."""
        rows = await self._database.read(lambda session: session.rows("open_counts", {}))
        return {(provider, BatchState(state)): count for provider, state, count in rows}

    async def open_of(self, provider: str) -> list[BatchRow]:
        """Every batch of a provider's table that is not over."""
        return await self._listing("open_of", {"provider": provider})

    async def open_beside(self, batch: BatchRow) -> list[BatchRow]:
        """Every batch that is not over of the same account, this one too: of its table, and of others that name the account."""
        return await self._listing("open_beside", {"provider": batch.lane.provider, "account": batch.account})

    async def known_remote_ids(self, batch: BatchRow, among: Iterable[str]) -> set[str]:
        """Which of these remote batches are known to be ours: of its table, and of others with its account and address."""
        params: Params = {
            "provider": batch.lane.provider,
            "account": batch.account,
            "base_url": batch.base_url,
            "among": json_array(among),
        }
        rows = await self._database.read(lambda session: session.rows("known_remote_ids", params))
        return {remote_id for (remote_id,) in rows}

    def lines(self, session: Session, batch_id: int, after_n: int, limit: int) -> list[Line]:
        """Unsettled lines in order, after line `after_n` (-1: from the start); for threads, with `database.reader()`."""
        return read_lines(session, batch_id, after_n, limit)

    def asked(self, session: Session, batch_id: int, places: Iterable[int]) -> list[Asked]:
        """What was asked in the unsettled lines at these places; for threads, with `database.reader()`."""
        rows = session.rows("asked_at", {"batch": batch_id, "places": json_array(places)})
        return [Asked(n=n, payload=payload, trouble=trouble) for n, payload, trouble in rows]

    def members(self, session: Session, batch_id: int) -> Members:
        """The unsettled members by `n`, in arrays: about 1 MB for 50,000; for threads, with `database.reader()`."""
        return Members(session, batch_id)

    def booked(self, session: Session, batch: BatchRow) -> bytes:
        """By line: 1 where one of its rows is booked; for threads, with `database.reader()`."""
        return read_booked(session, batch.id, batch.count)

    async def _listing(self, query: str, params: dict[str, Value]) -> list[BatchRow]:
        return await self._database.read(lambda session: read_batches(session, query, params))
