"""Settling, one transaction for each chunk of lines: costs are booked, requests end or go back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.errors import LedgerError, StaleEpoch
from gateway.store.database import Row, Session, json_array
from gateway.store.endings import keep
from gateway.store.lanes import NO_TARGET, TARGET_GROWTH, TOKEN_LIMIT
from gateway.store.rows import Ending
from gateway.store.sealing import end_members, end_wished
from gateway.store.shipping import BatchRow, Settled, Settlement

#: So many lines of a batch are compared with their estimates.
LEARNED_LINES = 2_000


def settle(session: Session, batch: BatchRow, settlements: Sequence[Settlement], now: float) -> list[Settled]:
    """See `Batches.settle`."""
    if not session.run("settling", {"id": batch.id, "epoch": batch.epoch}):
        raise StaleEpoch(f"batch {batch.marker} has been taken over or has moved on: its lines are not settled here")
    if not settlements:
        return []
    places = json_array(settlement.n for settlement in settlements)
    members = {row[0]: row for row in session.rows("members_at", {"batch": batch.id, "places": places})}
    first: dict[int, Settlement] = {}
    for settlement in settlements:
        first.setdefault(settlement.n, settlement)
    # A line that was settled before keeps its row, and its request is no member any more: nothing happens to either.
    settled = _move_members(session, first, members, now)
    instead = {request.n: request.instead for request in settled}
    session.run_many(
        "insert_line",
        (_line(batch.id, line, members.get(line.n), instead.get(line.n) or line.ending) for line in first.values()),
    )
    return settled


def _move_members(
    session: Session, new: Mapping[int, Settlement], members: Mapping[int, Row], now: float
) -> list[Settled]:
    ended: list[tuple[Row, Ending, str | None]] = []
    wished: list[Row] = []
    returned = []
    answers = []
    for n, settlement in new.items():
        member = members.get(n)
        if member is None:
            continue
        if settlement.ending is not None:
            ended.append((member, settlement.ending, settlement.trouble))
        elif member[2]:
            wished.append(member)
        else:
            returned.append({"seq": member[1], "not_before": settlement.not_before, "trouble": settlement.trouble})
            if settlement.kept is not None:
                answers.append((member[1], settlement.kept))
    session.run_many("return_member", returned)
    keep(session, answers)
    return end_members(session, ended, now, answered=True) + end_wished(session, wished, now)


def learn(session: Session, batch: BatchRow) -> None:
    """A batch was collected: its lane's estimates move towards what was counted, its target grows, a wait for room ends."""
    counted, estimated = session.row("learned_ratio", {"batch": batch.id, "limit": LEARNED_LINES}) or (None, None)
    ratio = counted / estimated if counted and estimated else None
    session.run(
        "lane_learned", {"lane": batch.lane_id, "ratio": ratio, "growth": TARGET_GROWTH, "no_target": NO_TARGET}
    )
    session.run("lane_relieved", {"lane": batch.lane_id, "reason": TOKEN_LIMIT})


def refuse_unsettled(session: Session, batch: BatchRow) -> None:
    """Raise if a batch that is said to be collected still has members: they would wait for ever."""
    if session.rows("members_after", {"batch": batch.id, "after_n": -1, "limit": 1}):
        raise LedgerError(f"batch {batch.marker} has lines that are not settled: settle the missing ones first")


def _line(
    batch_id: int, settlement: Settlement, member: Row | None, ending: Ending | None
) -> dict[str, str | int | float | None]:
    usage = settlement.usage
    wasted = member is None or settlement.wasted
    return {
        "batch": batch_id,
        "n": settlement.n,
        "seq": None if member is None else member[1],
        "state": None if member is None or ending is None else ending.state.value,
        "status": settlement.status,
        "trouble": settlement.trouble,
        "input_tokens": None if usage is None else usage.input_tokens,
        "cached_tokens": None if usage is None else usage.cached_tokens,
        "output_tokens": None if usage is None else usage.output_tokens,
        "cost_usd": settlement.cost_usd,
        "saved_usd": settlement.saved_usd,
        "billed": int(settlement.billed),
        "wasted": int(wasted),
    }
