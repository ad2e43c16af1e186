"""Batches as they come out of the database, and lines and members a page at a time."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import orjson

from gateway.places import place_of
from gateway.records import BatchState, RemoteState
from gateway.store.database import Params, Row, Session
from gateway.store.rows import LaneKey
from gateway.store.shipping import BatchRow, Line, Member

_PAGE = 1_000
_SETTLED = -1


def read_batch(session: Session, batch_id: int) -> BatchRow | None:
    """One batch. Its `tokens` are corrected by what its lane has learned by now."""
    row = session.row("batch", {"id": batch_id})
    return None if row is None else _batch(row)


def read_batches(session: Session, query: str, params: Params) -> list[BatchRow]:
    """The batches whose ids the named query finds, in its order."""
    found = (read_batch(session, batch_id) for (batch_id,) in session.rows(query, params))
    return [batch for batch in found if batch is not None]


def read_lines(session: Session, batch_id: int, after_n: int, limit: int) -> list[Line]:
    """Unsettled lines of a batch in order, after line `after_n` (-1: from the start)."""
    rows = session.rows("lines_after", {"batch": batch_id, "after_n": after_n, "limit": limit})
    return [Line(n=n, payload=payload) for n, payload in rows]


def read_booked(session: Session, batch_id: int, count: int) -> bytes:
    """By line of a batch of `count`: 1 where it is booked."""
    booked = bytearray(count)
    after_n = -1
    while rows := session.rows("booked_after", {"batch": batch_id, "after_n": after_n, "limit": _PAGE}):
        for (n,) in rows:
            booked[n] = 1
        after_n = int(rows[-1][0])
    return bytes(booked)


class Members:
    """The unsettled members of a batch by their `n`, as they were when this was read: about 20 bytes each."""

    def __init__(self, session: Session, batch_id: int) -> None:
        """Reads a page at a time."""
        self._seqs = array("q")
        self._attempts = array("q")
        self._queued_at = array("d")
        self._cancel_at: dict[int, float] = {}
        self._count = 0
        after_n = -1
        while rows := session.rows("members_after", {"batch": batch_id, "after_n": after_n, "limit": _PAGE}):
            for row in rows:
                self._append(row)
            after_n = int(rows[-1][0])

    def _append(self, row: Row) -> None:
        n, seq, attempts, queued_at, cancel_at = row
        while len(self._seqs) < n:
            self._seqs.append(_SETTLED)
            self._attempts.append(0)
            self._queued_at.append(0.0)
        self._seqs.append(seq)
        self._attempts.append(attempts)
        self._queued_at.append(queued_at)
        if cancel_at is not None:
            self._cancel_at[n] = cancel_at
        self._count += 1

    def get(self, n: int) -> Member | None:
        """Member `n`; None: settled, or never one of this batch."""
        if not 0 <= n < len(self._seqs) or self._seqs[n] == _SETTLED:
            return None
        return Member(
            n=n,
            seq=self._seqs[n],
            attempts=self._attempts[n],
            queued_at=self._queued_at[n],
            cancel_at=self._cancel_at.get(n),
        )

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Member]:
        found = (self.get(n) for n in range(len(self._seqs)))
        return (member for member in found if member is not None)


def _batch(row: Row) -> BatchRow:
    return BatchRow(
        id=row[0],
        marker=row[1],
        lane_id=row[2],
        lane=LaneKey(provider=row[3], endpoint=row[4], model=row[5], kind=row[38]),
        account=row[6],
        # Earlier versions stored it as it was written, with the user and password in it.
        base_url=place_of(row[7]),
        state=BatchState(row[8]),
        epoch=row[9],
        count=row[10],
        size=row[11],
        tokens=row[12],
        sealed_at=row[13],
        file_id=row[14],
        remote_id=row[15],
        remote_state=None if row[16] is None else RemoteState(row[16]),
        where=orjson.loads(row[17]),
        submissions=row[18],
        first_sent_at=row[19],
        last_sent_at=row[20],
        submitted_at=row[21],
        remote_created_at=row[22],
        ended_at=row[23],
        collected_at=row[24],
        total=row[25],
        done=row[26],
        ambiguous=bool(row[27]),
        fetches=row[28],
        fetched=bool(row[29]),
        troubles=row[30],
        parked_reason=row[31],
        retry_at=row[32],
        cancel_at=row[33],
        discarded=bool(row[34]),
        parked_since=row[35],
        unfound=row[36],
        vanished=row[37],
    )
