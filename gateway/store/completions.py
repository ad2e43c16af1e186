"""Room of completions: requests that are asked one by one, of providers that have no batches.

A claim is the durable intent to ask, and says which boot asks. The request stays `queued` under it. One that is found
under the claim of a boot that is over may have been asked already: it is asked again, and whoever claims it is told.
"""

from __future__ import annotations

from gateway.records import RequestState
from gateway.store.boots import Boots
from gateway.store.database import Database, Params, Row, Session
from gateway.store.endings import at_last, keep, kept, put_results
from gateway.store.naming import own_id
from gateway.store.rows import Ending, LaneKey
from gateway.store.shipping import AskableLane, Claimed, Member, Settled, Settlement
from gateway.store.totals import LaneTotals


class Completions:
    """Every write is durable when its call returns."""

    def __init__(self, database: Database, boots: Boots) -> None:
        """`boots` says whose claims these are, and which others are alive."""
        self._database = database
        self._boots = boots

    async def lanes(self, provider: str) -> list[AskableLane]:
        """The lanes of a provider that have something to ask now, or under way."""
        rows = await self._database.read(lambda session: session.rows("askable_lanes", {"provider": provider}))
        return [
            AskableLane(
                lane_id=row[0],
                lane=LaneKey(provider=row[1], endpoint=row[2], model=row[3], kind=row[6]),
                parked_reason=row[4],
                retry_at=row[5],
            )
            for row in rows
        ]

    async def claim(self, lane_id: int, now: float) -> Claimed | None:
        """The oldest request of a lane's window that nobody asks; None: there is none. Ask only once this has returned.

        One whose cancel was wished while a boot that is over asked it ends here, and the next one is taken.
        """
        params = {"lane": lane_id, "boot": self._boots.id, "now": now}

        def op(session: Session) -> Claimed | None:
            while (row := session.row("next_to_ask", params)) is not None:
                seq, attempts, queued_at, cancel_at, payload, asked_by, trouble, token, name = row
                if cancel_at is not None:
                    session.run("drop_claim", {"seq": seq, "boot": asked_by})
                    _end_wished(session, seq, now)
                    continue
                session.run("claim_request", {"seq": seq, "boot": params["boot"], "now": now})
                member = Member(n=0, seq=seq, attempts=attempts, queued_at=queued_at, cancel_at=None)
                again = asked_by is not None
                return Claimed(
                    lane_id=lane_id,
                    custom_id=own_id(seq, token) if name is None else name,
                    member=member,
                    payload=payload,
                    again=again,
                    trouble=trouble,
                )
            return None

        return await self._database.write(op)

    async def release(self, claimed: Claimed, now: float) -> bool:
        """Nothing was asked after all: the request keeps its place and its attempts; or ends, if its cancel was wished.

        Returns whether it ended.
        """
        seq = claimed.member.seq
        params = {"seq": seq, "boot": self._boots.id}

        def op(session: Session) -> bool:
            return bool(session.run("drop_claim", params)) and _end_wished(session, seq, now) is not None

        return await self._database.write(op)

    async def settle(self, claimed: Claimed, settlement: Settlement, now: float) -> Settled | None:
        """Book the call and end its request, or send it back for later; None: it has not ended by this.

        Of a claim that another boot has taken over, only the bill is written: that answer was paid in vain.
        """
        boot = self._boots.id
        return await self._database.write(lambda session: _settle(session, claimed, settlement, boot, now))


def _settle(session: Session, claimed: Claimed, settlement: Settlement, boot: int, now: float) -> Settled | None:
    seq = claimed.member.seq
    held = session.run("drop_claim", {"seq": seq, "boot": boot})
    row = session.row("asked_request", {"seq": seq}) if held else None
    _book(session, claimed, settlement, delivered=row is not None)
    if row is None:
        return None
    if settlement.ending is None and row[9] is not None:
        return _end_wished(session, seq, now)
    _leave_window(session, row)
    if settlement.ending is None:
        params: Params = {"seq": seq, "not_before": settlement.not_before, "trouble": settlement.trouble}
        session.run("return_asked", params)
        if settlement.kept is not None:
            keep(session, [(seq, settlement.kept)])
        return None
    answer = kept(session, [seq]).get(seq)
    if row[9] is not None or answer is not None:
        # The outcome that was stored with the wish to cancel has not come true.
        session.run("forget_result", {"seq": seq})
    ending = at_last(settlement.ending, answer)
    outcome: Params = {
        "seq": seq,
        "state": ending.state.value,
        "now": now,
        "permanent": int(ending.permanent),
        "trouble": settlement.trouble,
        "result": put_results(session, [ending])[0],
    }
    session.run("end_asked", outcome)
    return _settled(row, settlement.n, ending.state, ending if ending is answer else None)


def _end_wished(session: Session, seq: int, now: float) -> Settled | None:
    """End a request whose cancel was wished while it was asked; its outcome has been stored with the wish."""
    row = session.row("asked_request", {"seq": seq})
    if row is None or not session.run("end_wished_queued", {"seq": seq, "now": now}):
        return None
    _leave_window(session, row)
    return _settled(row, 0, RequestState.CANCELLED)


def _leave_window(session: Session, row: Row) -> None:
    """Take a request (a row of `asked_request`) out of its lane's totals."""
    _, lane, due, size, tokens, fresh = row[:6]
    if due:
        totals = LaneTotals()
        totals.add(lane, count=-1, size=-size, tokens=-tokens, fresh=-fresh)
        totals.apply(session)


def _settled(row: Row, n: int, state: RequestState, instead: Ending | None = None) -> Settled:
    return Settled(
        seq=row[0], n=n, state=state, fingerprint=row[6], ordinal=row[7], no_store=bool(row[8]), instead=instead
    )


def _book(session: Session, claimed: Claimed, settlement: Settlement, *, delivered: bool) -> None:
    """Put the call on the bill, in the transaction that drops its claim: so it is there once."""
    wasted = not delivered or settlement.wasted
    cost = settlement.cost_usd or 0.0
    params: Params = {
        "lane": claimed.lane_id,
        "requests": int(delivered and settlement.ending is not None),
        "cost_usd": cost,
        "wasted_usd": cost if wasted else 0.0,
        "wasted": int(wasted),
        "unpriced": int(settlement.billed and settlement.cost_usd is None),
        "billed": int(settlement.billed),
    }
    session.run("book_completion", params)
