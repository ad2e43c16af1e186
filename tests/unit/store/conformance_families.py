"""A parent and its children: recorded together, sent apart, ended together."""

from __future__ import annotations

import msgspec
import pytest

from gateway.records import RequestState
from gateway.store.families import read_families
from gateway.store.rows import Admission, Arrival, Ask, Departure
from gateway.store.shipping import BatchRow
from tests.unit.store.scenery import CANCELLED, Desk, answer, arrival, failure, remote, returned, settled

#: What a line says that was refused.
UNPAID: dict[str, object] = {"billed": False, "usage": None, "cost_usd": None, "saved_usd": None}


def parent(times: int = 3, question: str = "why?", **fields: object) -> Arrival:
    """A call for several answers."""
    return msgspec.structs.replace(arrival(question, **fields), times=times)  # type: ignore[arg-type]


async def ended_batch(desk: Desk) -> BatchRow:
    """All that is queued as one batch that the provider has ended, claimed."""
    batches, now = desk.ledger.batches, desk.clock.now()
    batch = await batches.intend(await desk.claim((await desk.seal()).id), now)
    batch = await batches.submitted(batch, remote(), now, now)
    return await desk.claim((await batches.ended(await desk.claim(batch.id), remote(), now)).id)


async def state_of(desk: Desk, admission: Admission) -> RequestState:
    """Where a request is."""
    found = await desk.ledger.requests.find(None, "", admission.custom_id)
    assert found is not None
    return found.state


class FamiliesConformance:
    """Inherited by `LedgerConformance`."""

    async def test_children_are_sent_and_the_parent_is_not(self, desk: Desk) -> None:
        """Each child is a line of its own with the payload; the parent is in no window and no batch, and counts for nothing."""
        [admission] = await desk.admit(parent(3))
        [window] = await desk.ledger.lanes.windows()
        batch = await desk.seal()

        assert (window.count, window.size, window.tokens) == (3, 300, 30)
        assert batch.count == 3
        with desk.ledger.database.reader() as session:
            assert [line.payload for line in desk.ledger.batches.lines(session, batch.id, -1, 9)] == [b"why?"] * 3
        assert await state_of(desk, admission) is RequestState.QUEUED
        assert all(totals == recount for totals, recount in await desk.totals_and_recount())

    async def test_only_the_parent_is_shown_and_found(self, desk: Desk) -> None:
        """Lists, names and repeats know the parent alone: the same call again joins it, and a detached one is a new one."""
        [admission] = await desk.admit(parent(3))
        [again] = await desk.admit(parent(3, ask=Ask(retry=True)))
        [detached] = await desk.admit(parent(3, ask=Ask(detached=True)))
        [same] = await desk.admit(parent(3, ask=Ask(detached=True, retry=True)))

        assert [row.custom_id for row in await desk.ledger.requests.listed(None)] == [
            admission.custom_id,
            detached.custom_id,
        ]
        assert (again.seq, again.fresh) == (admission.seq, False)
        assert (same.seq, same.fresh) == (detached.seq, False)

    async def test_a_family_is_told_when_its_last_child_has_ended(self, desk: Desk) -> None:
        """Not before all children have an answer; then with all of them in the order in which they were asked."""
        await desk.admit(parent(3))
        batch = await ended_batch(desk)
        now = desk.clock.now()
        await desk.ledger.batches.settle(batch, [settled(2), settled(0)], now)
        assert await desk.ledger.families.told(10) == []
        await desk.ledger.batches.settle(batch, [settled(1)], now)
        [family] = await desk.ledger.families.told(10)

        assert [ending.body for ending in family.endings] == [b'{"n":0}', b'{"n":1}', b'{"n":2}']

    async def test_an_ended_parent_has_its_outcome_and_no_children(self, desk: Desk) -> None:
        """The parent is served like any slot; its children are forgotten, their lines and costs stay in the bill."""
        [admission] = await desk.admit(parent(2))
        batch = await ended_batch(desk)
        now = desk.clock.now()
        await desk.ledger.batches.settle(batch, [settled(0), settled(1)], now)
        [family] = await desk.ledger.families.told(10)
        done = await desk.ledger.families.end(family.parent, answer("whole"), now)
        await desk.ledger.batches.collected(batch, now)
        await desk.ledger.requests.depart([Departure(seq=admission.seq, at=now, delivered=True, last=True)])
        [served] = await desk.admit(parent(2))
        [bill] = await desk.ledger.bills.totals()

        assert done is not None
        assert (done.seq, done.state, done.ordinal) == (admission.seq, RequestState.SUCCEEDED, 0)
        assert served.ending is not None
        assert served.ending.body == b"whole"
        assert await desk.ledger.families.told(10) == []
        assert [row.seq for row in await desk.ledger.requests.listed(None)] == [admission.seq]
        assert (bill.lines, bill.cost_usd) == (2, 0.5)

    async def test_one_failure_fails_the_family_at_once(self, desk: Desk) -> None:
        """What is still queued of it is not sent any more, and what is in a batch is not wanted; its cost stays."""
        [admission] = await desk.admit(parent(3))
        batch = await ended_batch(desk)
        now = desk.clock.now()
        await desk.ledger.batches.settle(batch, [settled(0), settled(1, failure())], now)
        [family] = await desk.ledger.families.told(10)
        await desk.ledger.families.end(family.parent, failure(), now)
        [late] = await desk.ledger.batches.settle(batch, [settled(2)], now)
        assert late.state is RequestState.SUCCEEDED
        [leftover] = await desk.ledger.families.told(10)
        again = await desk.ledger.families.end(leftover.parent, answer(), now)

        assert await state_of(desk, admission) is RequestState.FAILED
        assert again is None
        assert await desk.ledger.families.told(10) == []
        [bill] = await desk.ledger.bills.totals()
        assert bill.lines == 3

    async def test_a_failed_family_takes_its_queued_children_with_it(self, desk: Desk) -> None:
        """Children that went back to their lane leave it: nobody wants their answers any more."""
        await desk.admit(parent(2))
        batch = await ended_batch(desk)
        now = desk.clock.now()
        await desk.ledger.batches.settle(batch, [settled(0, failure())], now)
        await desk.admit(arrival("another"))
        [family] = await desk.ledger.families.told(10)
        await desk.ledger.families.end(family.parent, failure(), now)

        assert all(totals == recount for totals, recount in await desk.totals_and_recount())

    @pytest.mark.parametrize("how", ["asked", "abandoned"])
    async def test_cancelling_a_queued_family_ends_all_of_it(self, desk: Desk, how: str) -> None:
        """Nothing of it is in a batch yet, so nothing of it will be."""
        [admission] = await desk.admit(parent(3))
        now = desk.clock.now()
        if how == "asked":
            await desk.ledger.requests.cancel(admission.seq, now, CANCELLED)
        else:
            await desk.ledger.requests.depart([Departure(seq=admission.seq, at=now, delivered=False, last=True)])
            assert await desk.ledger.requests.cancel_abandoned(now, CANCELLED, 10) == [admission.seq]

        assert await state_of(desk, admission) is RequestState.CANCELLED
        assert await desk.ledger.lanes.windows() == []
        assert await desk.ledger.families.told(10) == []
        assert all(totals == recount for totals, recount in await desk.totals_and_recount())

    async def test_an_abandoned_family_in_a_batch_is_kept(self, desk: Desk) -> None:
        """What is on its way is paid: it ends as it would have, whoever waits."""
        [admission] = await desk.admit(parent(2))
        await desk.seal()
        now = desk.clock.now()
        await desk.ledger.requests.depart([Departure(seq=admission.seq, at=now, delivered=False, last=True)])

        assert await desk.ledger.requests.cancel_abandoned(now, CANCELLED, 10) == []
        assert await state_of(desk, admission) is RequestState.QUEUED

    @pytest.mark.parametrize("answered", [True, False])
    async def test_cancelling_a_family_in_a_batch_waits_for_what_is_paid(self, desk: Desk, *, answered: bool) -> None:
        """The parent is being cancelled, and ends by what becomes of its lines: a billed answer beats a late cancel."""
        [admission] = await desk.admit(parent(2))
        batch = await ended_batch(desk)
        now = desk.clock.now()
        after = await desk.ledger.requests.cancel(admission.seq, now, CANCELLED)
        assert (after.state, after.cancel_at) == (RequestState.QUEUED, now)
        lines = [settled(n, None if answered else CANCELLED) for n in range(2)]
        await desk.ledger.batches.settle(batch, lines, now)
        [family] = await desk.ledger.families.told(10)

        state = RequestState.SUCCEEDED if answered else RequestState.CANCELLED
        assert {ending.state for ending in family.endings} == {state}

    async def test_numbers_of_forgotten_children_are_not_given_again(self, desk: Desk) -> None:
        """A later request never has the number of an earlier child: lines of the bill name it."""
        [admission] = await desk.admit(parent(3))
        await desk.ledger.requests.cancel(admission.seq, desk.clock.now(), CANCELLED)
        [later] = await desk.admit(arrival("later"))

        assert (admission.seq, later.seq) == (4, 5)

    async def test_a_named_family_is_found_by_its_name(self, desk: Desk) -> None:
        """A repeat under the name joins the parent and makes no more children."""
        first, second = await desk.admit(parent(2, custom_id="mine"), parent(2, custom_id="mine"))
        [window] = await desk.ledger.lanes.windows()

        assert (first.seq, second.fresh, window.count) == (second.seq, False, 2)

    async def test_a_waiting_family_keeps_its_answers_however_old_they_are(self, desk: Desk) -> None:
        """Retention forgets no child whose parent waits: a caller who asked for two answers is not given one."""
        await desk.admit(parent(2))
        first = await ended_batch(desk)
        now = desk.clock.now()
        await desk.ledger.batches.settle(first, [settled(0), returned(1)], now)
        await desk.ledger.batches.collected(first, now)
        assert await desk.ledger.requests.forget(now + 1, 100) == 0
        await desk.ledger.requests.ripen(now, 10)
        second = await ended_batch(desk)
        await desk.ledger.batches.settle(second, [settled(0, answer("second"))], now)
        [family] = await desk.ledger.families.told(10)

        assert [ending.body for ending in family.endings] == [b'{"n":0}', b"second"]

    @pytest.mark.parametrize("how", ["asked", "abandoned"])
    async def test_a_family_that_is_answered_whole_is_not_cancelled(self, desk: Desk, how: str) -> None:
        """All its answers are paid and only not put together yet: the parent ends with them."""
        [admission] = await desk.admit(parent(2))
        batch = await ended_batch(desk)
        now = desk.clock.now()
        await desk.ledger.batches.settle(batch, [settled(0), settled(1)], now)
        if how == "asked":
            await desk.ledger.requests.cancel(admission.seq, now, CANCELLED)
        else:
            await desk.ledger.requests.depart([Departure(seq=admission.seq, at=now, delivered=False, last=True)])
            assert await desk.ledger.requests.cancel_abandoned(now, CANCELLED, 10) == []
        [family] = await desk.ledger.families.told(10)
        await desk.ledger.families.end(family.parent, answer("whole"), now)

        assert len(family.endings) == 2
        assert await state_of(desk, admission) is RequestState.SUCCEEDED

    async def test_a_family_that_ends_while_it_is_read_is_left_out(self, desk: Desk) -> None:
        """Its children are gone between two reads: that is no damage, and stops no other family."""
        admissions = await desk.admit(parent(2, "one"), parent(2, "two"))
        batch = await ended_batch(desk)
        now = desk.clock.now()
        await desk.ledger.batches.settle(batch, [settled(n) for n in range(4)], now)
        parents = [family.parent for family in await desk.ledger.families.told(10)]
        await desk.ledger.families.end(parents[0], answer("whole"), now)
        with desk.ledger.database.reader() as session:
            families = read_families(session, parents)

        assert parents == [admission.seq for admission in admissions]
        assert [family.parent for family in families] == parents[1:]

    async def test_what_a_failed_family_was_paid_is_wasted_once(self, desk: Desk) -> None:
        """Answers before and after the failure were for nobody; whole families beside it, and what nobody paid, are no waste."""
        failing, whole = await desk.admit(parent(4, "one"), parent(2, "two"))
        batch = await ended_batch(desk)
        now = desk.clock.now()
        await desk.ledger.batches.settle(
            batch, [settled(0), settled(1, failure(), **UNPAID), settled(4), settled(5)], now
        )
        before = await desk.ledger.bills.wasted()
        await desk.ledger.families.end(failing.seq, failure(), now)
        await desk.ledger.families.end(whole.seq, answer("whole"), now)
        early = await desk.ledger.bills.wasted()
        late = [settled(2, cost_usd=1.0), settled(3, cost_usd=None)]
        await desk.ledger.batches.settle(batch, late, now)
        [leftover] = await desk.ledger.families.told(10)
        for _ in range(2):
            await desk.ledger.families.end(leftover.parent, answer(), now)
        [bill] = await desk.ledger.bills.totals()

        assert leftover.parent == failing.seq
        assert (before, early) == ({"sim": 0.0}, {"sim": 0.25})
        assert (bill.lines, bill.wasted_lines, bill.unpriced_lines) == (6, 3, 1)
        assert (bill.cost_usd, bill.wasted_usd, bill.saved_usd) == (1.75, 1.25, 0.5)

    async def test_a_cancelled_family_was_paid_in_vain(self, desk: Desk) -> None:
        """One of two answers came before the cancel: nobody gets it."""
        [admission] = await desk.admit(parent(2))
        batch = await ended_batch(desk)
        now = desk.clock.now()
        await desk.ledger.batches.settle(batch, [settled(0), returned(1, now + 60)], now)
        await desk.ledger.requests.cancel(admission.seq, now, CANCELLED)
        [bill] = await desk.ledger.bills.totals()

        assert await state_of(desk, admission) is RequestState.CANCELLED
        assert (bill.lines, bill.wasted_lines, bill.wasted_usd) == (2, 1, 0.25)

    async def test_what_a_failed_family_was_paid_one_by_one_is_wasted_once(self, desk: Desk) -> None:
        """Also where its children were asked by themselves, and stand on the bill already."""
        await desk.admit(parent(3))
        completions, now = desk.ledger.completions, desk.clock.now()
        paid = settled(0, msgspec.structs.replace(answer(), cost_usd=2.0), cost_usd=2.0)
        for settlement in (paid, settled(0, cost_usd=None), settled(0, failure(), **UNPAID)):
            claim = await completions.claim(1, now)
            assert claim is not None
            await completions.settle(claim, settlement, now)
        [family] = await desk.ledger.families.told(10)
        for _ in range(2):
            await desk.ledger.families.end(family.parent, failure(), now)
        [bill] = await desk.ledger.bills.totals()

        assert (bill.requests, bill.lines, bill.undiscounted_lines, bill.unpriced_lines) == (3, 3, 2, 1)
        assert (bill.cost_usd, bill.wasted_usd, bill.wasted_lines) == (2.0, 2.0, 2)
