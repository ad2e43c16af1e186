"""What a group of arrivals adds to the ledger, within one transaction: requests with their children, answers of the cache.

`admission` says what is to be recorded. Numbers are given in order; totals of lanes are booked once, at the end.
"""

from __future__ import annotations

from gateway.records import RequestState
from gateway.store.database import Session, json_array
from gateway.store.endings import put_results
from gateway.store.families import insert_children
from gateway.store.lanes import lane_id
from gateway.store.naming import new_token
from gateway.store.rows import Arrival, Ending, LaneKey
from gateway.store.totals import LaneTotals


class Recorder:
    """Inserts rows in one transaction, and is good for no other: a new one for each, also for one that is run again."""

    def __init__(self, session: Session, *, boot: int, now: float) -> None:
        """`boot` holds what is recorded for a caller who waits."""
        self._session = session
        self._boot = boot
        self._now = now
        row = session.row("next_seq", {})
        self._next_seq = int(row[0]) if row else 1
        self._lanes: dict[LaneKey, int] = {}
        self._totals = LaneTotals()

    def record(self, arrival: Arrival, token: str, *, held: bool, ordinal: int | None = None) -> int:
        """A fresh request, due at once, and the children it has; its seq."""
        lane = self._lane(arrival.lane)
        # Children come first, so that their numbers are never the highest: those must not be given again.
        children = self._take_seqs(arrival.times) if arrival.times > 1 else None
        seq = self._take_seq()
        self._session.run(
            "insert_request",
            {
                "seq": seq,
                "token": token,
                "client": arrival.client,
                "job": arrival.job,
                "name": arrival.custom_id,
                "named": int(arrival.custom_id is not None),
                "detached": int(arrival.ask.detached),
                "lane": lane,
                "now": self._now,
                "size": arrival.size,
                "tokens": arrival.tokens,
                "ordinal": ordinal,
                "held_by": self._boot if held else None,
                "no_cache": int(arrival.ask.no_cache),
                "no_store": int(arrival.ask.no_store),
                "fingerprint": arrival.fingerprint,
                "body_hash": None if arrival.custom_id is None else arrival.body_hash,
            },
        )
        body = arrival.payload if children is None else b""
        self._session.run("insert_payload", {"seq": seq, "body": body, "metadata": arrival.metadata})
        if children is not None:
            insert_children(self._session, arrival, parent=seq, first=children, lane=lane, now=self._now)
            self._session.run("wait_for_children", {"seq": seq})
        for _ in range(arrival.times):
            self._totals.add(lane, size=arrival.size, tokens=arrival.tokens, fresh=1)
        return seq

    def restore(self, arrival: Arrival) -> int:
        """The cache remembers answers that the ledger has forgotten: they are slots again. One above the highest of them."""
        ordinals = json_array(sample.ordinal for sample in arrival.samples)
        rows = self._session.rows("slots_among", {"fingerprint": arrival.fingerprint, "ordinals": ordinals})
        known = {ordinal for (ordinal,) in rows}
        lane = self._lane(arrival.lane)
        for sample in arrival.samples:
            if sample.ordinal in known:
                continue
            seq = self._take_seq()
            [result] = put_results(
                self._session, [Ending(state=RequestState.SUCCEEDED, status=200, code=None, body=sample.body)]
            )
            self._session.run(
                "insert_stored",
                {
                    "seq": seq,
                    "token": new_token(),
                    "client": arrival.client,
                    "job": arrival.job,
                    "lane": lane,
                    "ended_at": sample.ended_at,
                    "size": arrival.size,
                    "tokens": arrival.tokens,
                    "ordinal": sample.ordinal,
                    "result": result,
                    "fingerprint": arrival.fingerprint,
                },
            )
        return max((sample.ordinal for sample in arrival.samples), default=-1) + 1

    def book(self) -> None:
        """Add to the lanes' totals what was recorded; last of all."""
        self._totals.apply(self._session, arrived_at=self._now)

    def _take_seq(self) -> int:
        return self._take_seqs(1)

    def _take_seqs(self, count: int) -> int:
        first = self._next_seq
        self._next_seq += count
        return first

    def _lane(self, lane: LaneKey) -> int:
        known = self._lanes.get(lane)
        if known is None:
            known = self._lanes[lane] = lane_id(self._session, lane)
        return known
