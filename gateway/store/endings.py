"""How requests end, within a transaction: the state on the row, the outcome in `results`, the lane's totals."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.records import RequestState
from gateway.store.database import Session
from gateway.store.rows import Ending
from gateway.store.totals import LaneTotals


def read_ending(session: Session, seq: int) -> Ending | None:
    """The outcome of a request that has ended."""
    row = session.row("ending", {"seq": seq})
    if row is None:
        return None
    return Ending(
        state=RequestState(row[0]),
        status=row[1],
        code=row[2],
        body=row[3],
        permanent=bool(row[4]),
        provider=row[5],
        batch=row[6],
        cost_usd=row[7],
        saved_usd=row[8],
    )


def put_result(session: Session, outcomes: Sequence[tuple[int, Ending]]) -> None:
    """Store outcomes by seq; whether they count is decided by the state of the request."""
    session.run_many(
        "put_result",
        (
            {
                "seq": seq,
                "status": ending.status,
                "code": ending.code,
                "cost_usd": ending.cost_usd,
                "saved_usd": ending.saved_usd,
                "body": ending.body,
            }
            for seq, ending in outcomes
        ),
    )


def end_queued(session: Session, outcomes: Sequence[tuple[int, Ending]], now: float) -> list[int]:
    """End those of these requests that are still queued; their seqs."""
    totals = LaneTotals()
    ended = []
    for seq, ending in outcomes:
        row = session.row("queued_request", {"seq": seq})
        if row is None:
            continue
        lane, due, size, tokens, fresh = row
        if due:
            totals.add(lane, count=-1, size=-size, tokens=-tokens, fresh=-fresh)
        session.run("end_queued", {"seq": seq, "state": ending.state, "now": now, "permanent": int(ending.permanent)})
        ended.append((seq, ending))
    put_result(session, ended)
    totals.apply(session)
    return [seq for seq, _ in ended]
