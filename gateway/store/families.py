"""Room of families: a request that asks for n answers where the provider gives one, and its n children.

The parent is what the caller knows: it is named, held, served and cached, and never in a batch. The children are what is
sent: each asks for one answer, is batched, settled and paid like any request, and is forgotten when its parent has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.records import RequestState
from gateway.store.database import Database, Session, read_aside
from gateway.store.endings import end_queued, read_ending, stop
from gateway.store.naming import new_token
from gateway.store.rows import Arrival, Ending
from gateway.store.shipping import Settled


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A parent that may end, and how its children have ended so far, in the order in which they were asked."""

    parent: int
    endings: tuple[Ending, ...]


class Families:
    """Every write is durable when its call returns."""

    def __init__(self, database: Database) -> None:
        """Holds nothing but its database."""
        self._database = database

    async def told(self, limit: int) -> list[Family]:
        """Families of which a child has failed, or all children have ended. Read off the loop."""

        def op(session: Session) -> list[Family]:
            return read_families(session, [parent for (parent,) in session.rows("families_told", {"limit": limit})])

        return await read_aside(self._database, op)

    async def end(self, parent: int, ending: Ending, now: float) -> Settled | None:
        """End a parent with this outcome, and forget its children; those under way are not wanted any more.

        None: it had ended before, and only its children were forgotten.
        """
        return await self._database.write(lambda session: end_family(session, parent, ending, now), bulk=True)


def insert_children(session: Session, arrival: Arrival, *, parent: int, first: int, lane: int, now: float) -> None:
    """The children of a parent that is recorded in the same transaction, with the numbers from `first` on."""
    children = range(first, first + arrival.times)
    session.run_many(
        "insert_child",
        (
            {
                "seq": seq,
                "token": new_token(),
                "client": arrival.client,
                "job": arrival.job,
                "lane": lane,
                "now": now,
                "size": arrival.size,
                "tokens": arrival.tokens,
                "fingerprint": arrival.fingerprint,
                "parent": parent,
            }
            for seq in children
        ),
    )
    session.run_many("insert_payload", ({"seq": seq, "body": arrival.payload, "metadata": None} for seq in children))


def is_parent(session: Session, seq: int) -> bool:
    """Whether this request waits for children."""
    return session.row("waits_for_children", {"seq": seq}) is not None


def end_family(session: Session, parent: int, ending: Ending, now: float) -> Settled | None:
    """See `Families.end`."""
    row = session.row("waits_for_children", {"seq": parent})
    if row is not None:
        end_queued(session, [(parent, ending)], now)
    stopped = _stop(session, parent, ending, now)
    # A child that ends after its parent does so for nobody: a parent that is answered ends last.
    _forget_ended(session, parent, in_vain=row is None or ending.state is not RequestState.SUCCEEDED)
    if row is None:
        return None
    fingerprint, ordinal, no_store = row
    return Settled(
        seq=parent,
        n=-1,
        state=ending.state,
        fingerprint=fingerprint,
        ordinal=ordinal,
        no_store=bool(no_store),
        stopped=stopped,
    )


def cancel_family(session: Session, parent: int, ending: Ending, now: float) -> None:
    """Cancel every child. The parent ends with `ending` unless a child is in a batch: then by what becomes of it.

    One whose children are all answered stays as it is: they are paid, and only not put together yet.
    """
    _stop(session, parent, ending, now)
    states = {RequestState(state) for _, state in session.rows("children", {"parent": parent})}
    if states == {RequestState.SUCCEEDED}:
        return
    if not all(state.ended for state in states):
        session.run("wish_family_cancel", {"seq": parent, "now": now})
    else:
        end_family(session, parent, ending, now)


def _stop(session: Session, parent: int, ending: Ending, now: float) -> int:
    """Children that are queued end, how many; those in batches are not wanted any more."""
    left = _not_ended(session, parent)
    stop(session, left, ending, now)
    return len(left) - len(_not_ended(session, parent))


def _not_ended(session: Session, parent: int) -> list[int]:
    return [seq for seq, state in session.rows("children", {"parent": parent}) if not RequestState(state).ended]


def _forget_ended(session: Session, parent: int, *, in_vain: bool) -> None:
    """Forget children that have ended. `in_vain`: nobody gets their answers, so what they cost is booked as wasted."""
    ended = [{"seq": seq} for seq, state in session.rows("children", {"parent": parent}) if RequestState(state).ended]
    if in_vain:
        session.run_many("waste_line", ended)
        session.run_many("waste_completion", ended)
    for query in ("forget_result", "forget_payload", "forget_request"):
        session.run_many(query, ended)


def read_families(session: Session, parents: Sequence[int]) -> list[Family]:
    """Those of `parents` that have not ended, and lost their children, since they were told.

    One without endings that waits all the same has lost its results: the ledger is damaged.
    """
    families = [_read(session, parent) for parent in parents]
    return [family for family in families if family.endings or is_parent(session, family.parent)]


def _read(session: Session, parent: int) -> Family:
    children: Sequence[tuple[int, str]] = [(seq, state) for seq, state in session.rows("children", {"parent": parent})]
    endings = (read_ending(session, seq) for seq, state in children if RequestState(state).ended)
    return Family(parent=parent, endings=tuple(ending for ending in endings if ending is not None))
