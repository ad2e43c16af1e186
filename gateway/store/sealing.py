"""Sealing and dissolving, one transaction each: requests go from their lane into a batch, and back."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from gateway.errors import StaleEpoch
from gateway.records import RequestState
from gateway.store.batch_rows import read_batch
from gateway.store.database import Row, Session, json_array
from gateway.store.endings import at_last, kept, put_results
from gateway.store.rows import Ending
from gateway.store.shipping import BatchRow, Cut, Settled
from gateway.store.totals import LaneTotals

_NO_LIMIT = sys.maxsize


def seal(
    session: Session, *, lane: int, cut: Cut, marker: str, account: str, base_url: str, now: float
) -> BatchRow | None:
    """The oldest requests of a window become a batch; None if the window is empty, or not one may be taken."""
    factor = session.row("lane_factor", {"lane": lane})
    if factor is None:
        return None
    limits = {
        "lane": lane,
        "max_requests": _NO_LIMIT if cut.max_requests is None else max(cut.max_requests, 1),
        "max_bytes": _NO_LIMIT if cut.max_bytes is None else cut.max_bytes,
        "max_tokens": _NO_LIMIT if cut.max_tokens is None else min(int(cut.max_tokens / factor[0]), _NO_LIMIT),
    }
    taken = session.row("cut", limits)
    if taken is None or not taken[0]:
        return None
    count, size, tokens, fresh = taken
    if not cut.at_least_one and (size > limits["max_bytes"] or tokens > limits["max_tokens"]):
        return None
    batch_id = _insert(
        session, lane=lane, marker=marker, account=account, base_url=base_url, now=now, retry_at=now,
        totals=(count, size, tokens),
    )  # fmt: skip
    session.run("seal", {"lane": lane, "batch": batch_id, "count": count})
    totals = LaneTotals()
    totals.add(lane, count=-count, size=-size, tokens=-tokens, fresh=-fresh)
    totals.apply(session)
    return read_batch(session, batch_id)


def dissolve(
    session: Session,
    batch: BatchRow,
    *,
    now: float,
    refused: Mapping[int, Ending],
    parts: Sequence[str],
    not_before: float | None,
) -> tuple[list[BatchRow], list[Settled]]:
    """See `Batches.dissolve`."""
    if not session.run("dissolved", {"id": batch.id, "epoch": batch.epoch, "now": now}):
        raise StaleEpoch(f"batch {batch.marker} has been taken over or has moved on: it is not dissolved")
    settled = _end_refused(session, batch.id, refused, now) + _end_cancelled(session, batch.id, now)
    left = session.row("part_totals", {"batch": batch.id})
    count, size, tokens = left or (0, 0, 0)
    if not count:
        return [], settled
    if parts:
        return _split(session, batch, parts, count, now=now, not_before=not_before), settled
    session.run("return_members", {"batch": batch.id, "not_before": not_before})
    if not_before is None:
        totals = LaneTotals()
        totals.add(batch.lane_id, count=count, size=size, tokens=tokens, fresh=0)
        totals.apply(session)
    return [], settled


def settled_member(member: Row, state: RequestState, instead: Ending | None = None) -> Settled:
    """What the collector is told of a member (a row of the queries `members_*`) that has ended."""
    n, seq, _, fingerprint, ordinal, no_store = member
    return Settled(
        seq=seq, n=n, state=state, fingerprint=fingerprint, ordinal=ordinal, no_store=bool(no_store), instead=instead
    )


def end_members(
    session: Session, outcomes: Sequence[tuple[Row, Ending, str | None]], now: float, *, answered: bool
) -> list[Settled]:
    """End members (rows of the queries `members_*`) with these outcomes and words of trouble.

    `answered`: their lines came back from the provider, which counts as an attempt.
    """
    answers = kept(session, [member[1] for member, _, _ in outcomes])
    # An outcome that was stored with a wish to cancel has not come true.
    forgotten = [member[1] for member, _, _ in outcomes if member[2] or member[1] in answers]
    session.run_many("forget_result", ({"seq": seq} for seq in forgotten))
    outcomes = [(member, at_last(ending, answers.get(member[1])), trouble) for member, ending, trouble in outcomes]
    results = put_results(session, (ending for _, ending, _ in outcomes))
    session.run_many(
        "end_member",
        (
            {
                "seq": member[1],
                "state": ending.state.value,
                "now": now,
                "permanent": int(ending.permanent),
                "trouble": trouble,
                "result": result,
                "answered": int(answered),
            }
            for (member, ending, trouble), result in zip(outcomes, results, strict=True)
        ),
    )
    return [
        settled_member(member, ending.state, ending if ending is answers.get(member[1]) else None)
        for member, ending, _ in outcomes
    ]


def end_wished(session: Session, members: Sequence[Row], now: float) -> list[Settled]:
    """End members whose cancel was wished: their outcome has been stored with the wish."""
    session.run_many("end_wished", ({"seq": member[1], "now": now} for member in members))
    return [settled_member(member, RequestState.CANCELLED) for member in members]


def _end_refused(session: Session, batch_id: int, refused: Mapping[int, Ending], now: float) -> list[Settled]:
    members = session.rows("members_at", {"batch": batch_id, "places": json_array(refused)})
    outcomes = [(member, refused[member[0]], refused[member[0]].code) for member in members]
    return end_members(session, outcomes, now, answered=False)


def _end_cancelled(session: Session, batch_id: int, now: float) -> list[Settled]:
    return end_wished(session, session.rows("members_cancelled", {"batch": batch_id}), now)


def _split(
    session: Session, batch: BatchRow, parts: Sequence[str], count: int, *, now: float, not_before: float | None
) -> list[BatchRow]:
    retry_at = now if not_before is None else not_before
    sealed = []
    for place, marker in enumerate(parts):
        # Early parts take the remainder, so that as many parts as possible have a line.
        share = -(-count // (len(parts) - place))
        if not share:
            break
        count -= share
        part = _insert(
            session, lane=batch.lane_id, marker=marker, account=batch.account, base_url=batch.base_url, now=now,
            retry_at=retry_at, totals=(share, 0, 0),
        )  # fmt: skip
        session.run("reseal_part", {"batch": batch.id, "part": part, "count": share})
        totals = session.row("part_totals", {"batch": part}) or (share, 0, 0)
        session.run(
            "size_batch",
            {
                "batch": part, "count": totals[0], "size": totals[1], "tokens": totals[2],
                "unfound": batch.unfound, "vanished": batch.vanished,
            },
        )  # fmt: skip
        sealed.append(read_batch(session, part))
    return [row for row in sealed if row is not None]


def _insert(
    session: Session,
    *,
    lane: int,
    marker: str,
    account: str,
    base_url: str,
    now: float,
    retry_at: float,
    totals: tuple[int, int, int],
) -> int:
    row = session.row(
        "insert_batch",
        {
            "marker": marker,
            "lane": lane,
            "account": account,
            "base_url": base_url,
            "count": totals[0],
            "size": totals[1],
            "tokens": totals[2],
            "now": now,
            "retry_at": retry_at,
        },
    )
    if row is None:
        raise AssertionError("a batch that was just sealed has no number")
    return int(row[0])
