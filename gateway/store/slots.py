"""Room of slots: the samples of one fingerprint, as `choose` sees them."""

from __future__ import annotations

from collections.abc import Collection

from gateway.records import RequestState
from gateway.store.boots import Boots
from gateway.store.choose import DETACHED_SECONDS, FAILURE_SECONDS, NO_CACHE_SECONDS, NO_STORE_SECONDS, SLOT_LIMIT
from gateway.store.database import Database, Params, Row, Session, Value, json_array
from gateway.store.naming import own_id
from gateway.store.rows import Ask, Sample, Slot

#: A call that may go by any rule.
_ANY = Ask(retry=True, no_cache=True, only_if_cached=True)


class Slots:
    """Reads slots in the loop."""

    def __init__(self, database: Database, boots: Boots) -> None:
        """`boots` says which holds are alive."""
        self._database = database
        self._boots = boots

    async def of(
        self,
        fingerprint: bytes,
        client: str,
        run: str | None,
        now: float,
        limit: int = SLOT_LIMIT,
        *,
        ask: Ask | None = None,
    ) -> list[Slot]:
        """What `choose` may need of this fingerprint's slots: all, or of more than `limit` those that rules can pick.

        Ordered by ordinal. `waiters` is 0: only the process knows them. A few indexed reads, however many slots there
        are; fewer if `ask` says which rules will look.
        """
        boot = self._boots.id
        return await self._database.read(
            lambda session: load_slots(session, fingerprint, client, run, boot=boot, now=now, limit=limit, ask=ask)
        )

    async def detached(self, fingerprint: bytes, now: float) -> int | None:
        """The request that a retry of this detached call without a name gets, which has no slot; None: there is none."""
        found = await self._database.read(lambda session: recently_detached(session, fingerprint, now))
        return None if found is None else found[0]


def recently_detached(session: Session, fingerprint: bytes, now: float) -> tuple[int, str] | None:
    """Number and token of the latest detached request without a name, if it was accepted a moment ago."""
    row = session.row("detached_request", {"fingerprint": fingerprint, "since": now - DETACHED_SECONDS})
    return None if row is None else (row[0], row[1])


def slot_of(sample: Sample, deliveries: int = 0) -> Slot:
    """An answer that only the cache has, as the slot that it would be."""
    return Slot(
        seq=-sample.ordinal,
        ordinal=sample.ordinal,
        state=RequestState.SUCCEEDED,
        held=False,
        deliveries=deliveries,
        ended_at=sample.ended_at,
    )


def slot_extent(session: Session, fingerprint: bytes) -> int:
    """The ordinal of a fingerprint's next slot: one above the highest; 0: it has none."""
    row = session.row("slot_extent", {"fingerprint": fingerprint})
    return int(row[0]) if row else 0


def load_slots(
    session: Session,
    fingerprint: bytes,
    client: str,
    run: str | None,
    *,
    boot: int,
    now: float,
    limit: int,
    ask: Ask | None = None,
    few: bool = True,
) -> list[Slot]:
    """See `Slots.of`. `few`: there may be no more than `limit`."""
    params: dict[str, Value] = {"fingerprint": fingerprint, "boot": boot, "now": now, "limit": limit + 1}
    rows: Collection[Row] = session.rows("slots_all", params) if few else ()
    if not few or len(rows) > limit:
        rows = _of_many(session, params, client, run, ask or _ANY)
    ordered = sorted(rows, key=lambda row: int(row[1]))
    marks: dict[int, tuple[bool, bool]] = {}
    if run is not None and ordered:
        reach = {"client": client, "run": run, "ordinals": json_array(row[1] for row in ordered)}
        marks = {mark[0]: (bool(mark[1]), bool(mark[2])) for mark in session.rows("run_marks", {**params, **reach})}
    return [_slot(row, marks.get(row[1])) for row in ordered]


def _of_many(session: Session, params: dict[str, Value], client: str, run: str | None, ask: Ask) -> Collection[Row]:
    # Slots that cannot match any more are left out by the queries: they must not fill the limit.
    now = float(params["now"] or 0.0)
    wanted: Params = {
        **params,
        "client": client,
        "run": run,
        "retry": int(ask.retry),
        "failed_since": now - FAILURE_SECONDS,
        "no_store_since": now - NO_STORE_SECONDS,
        "left_since": now - NO_CACHE_SECONDS,
    }
    queries = ["slots_owed"]
    if run is None or ask.only_if_cached:
        queries += ["slots_free", "slots_orphaned"]
    if (run is None and ask.retry) or ask.only_if_cached:
        queries.append("slots_held")
    if ask.no_cache:
        queries.append("slots_born_no_cache")
    if run is not None:
        given, above = session.row("run_extent", wanted) or (0, 0)
        wanted = {**wanted, "low": above}
        queries += ["slots_given_free", "slots_given_orphaned", "slots_from" if given == above else "slots_not_given"]
    if run is not None and ask.retry:
        queries.append("slots_given_held")
    return {row[0]: row for query in queries for row in session.rows(query, wanted)}.values()


def _slot(row: Row, mark: tuple[bool, bool] | None) -> Slot:
    return Slot(
        seq=row[0],
        ordinal=row[1],
        custom_id=own_id(row[0], row[13]),
        state=RequestState(row[2]),
        held=bool(row[3]),
        deliveries=row[4],
        first_delivered_at=row[5],
        last_delivered_at=row[6],
        left_at=None if row[3] else row[7],
        ended_at=row[8],
        permanent=bool(row[9]),
        owed_until=row[10],
        no_cache=bool(row[11]),
        no_store=bool(row[12]),
        cancelling=row[14] is not None and row[8] is None,
        given=mark is not None,
        given_held=mark is not None and mark[0],
        given_delivered=mark is not None and mark[1],
    )
