"""Requests that are asked one by one: claims, settling, cancelling, the bill."""

from __future__ import annotations

import asyncio

from gateway.records import RequestState
from gateway.store.rows import Ask, LaneKey
from gateway.store.shipping import Claimed
from tests.unit.store.conformance_families import parent
from tests.unit.store.scenery import CANCELLED, EXPIRED, LANE, Desk, answer, arrival, failure, left, returned, settled


async def claimed(desk: Desk, lane_id: int = 1) -> Claimed:
    """The next request of a lane that has one."""
    claim = await desk.ledger.completions.claim(lane_id, desk.clock.now())
    assert claim is not None
    return claim


async def nothing_left(desk: Desk, lane_id: int = 1) -> bool:
    """Whether nobody may ask anything of the lane now."""
    return await desk.ledger.completions.claim(lane_id, desk.clock.now()) is None


class CompletionsConformance:
    """Inherited by `LedgerConformance`."""

    async def test_requests_are_claimed_oldest_first_and_once(self, desk: Desk) -> None:
        """Each claim is the oldest request of its lane that nobody asks, with its payload, and stays queued."""
        seqs = await desk.queue(3)
        claims = [await claimed(desk) for _ in seqs]

        assert [claim.member.seq for claim in claims] == seqs
        assert [claim.payload.startswith(f"question {n}".encode()) for n, claim in enumerate(claims)] == [True] * 3
        assert [claim.again for claim in claims] == [False] * 3
        assert await nothing_left(desk)
        assert (await desk.ledger.requests.tally())[RequestState.QUEUED] == 3

    async def test_simultaneous_claims_of_requests_share_the_work(self, desk: Desk) -> None:
        """However many ask for work at once, no request is given twice."""
        seqs = await desk.queue(5)
        claims = await asyncio.gather(*(desk.ledger.completions.claim(1, desk.clock.now()) for _ in range(8)))

        assert [claim.member.seq for claim in claims if claim is not None] == seqs

    async def test_lanes_are_claimed_apart(self, desk: Desk) -> None:
        """A claim is of one lane; the lanes of a provider are listed while they have something to ask."""
        await desk.queue(1)
        await desk.queue(1, lane=LaneKey(provider="sim", endpoint=LANE.endpoint, model="m-2"))
        await desk.queue(1, lane=LaneKey(provider="other", endpoint=LANE.endpoint, model="m-2"))
        listed = [lane.lane_id for lane in await desk.ledger.completions.lanes("sim")]
        second = await claimed(desk, 2)
        await desk.ledger.completions.settle(second, settled(0), desk.clock.now())

        assert (listed, second.member.seq) == ([1, 2], 2)
        assert [lane.lane_id for lane in await desk.ledger.completions.lanes("sim")] == [1]

    async def test_an_answer_ends_its_request_at_once(self, desk: Desk) -> None:
        """The request ends with the answer and counts an attempt; the window is one less; it is on the bill once."""
        await desk.queue(2)
        claim = await claimed(desk)
        now = desk.clock.now()
        ended = await desk.ledger.completions.settle(claim, settled(0, cost_usd=2.0, saved_usd=0.0), now)
        ending = await desk.ledger.requests.ending(1)
        [row, _] = await desk.ledger.requests.listed(None)
        [window] = await desk.ledger.lanes.windows()
        [bill] = await desk.ledger.bills.totals()

        assert ended is not None
        assert (ended.seq, ended.state, ended.ordinal) == (1, RequestState.SUCCEEDED, 0)
        assert ending is not None
        assert (ending.body, ending.batch, ending.provider) == (b'{"n":0}', None, "sim")
        assert (row.state, row.attempts) == (RequestState.SUCCEEDED, 1)
        assert window.count == 1
        assert (bill.requests, bill.lines, bill.cost_usd, bill.saved_usd) == (1, 1, 2.0, 0.0)
        assert (bill.undiscounted_lines, bill.wasted_lines, bill.unpriced_lines) == (1, 0, 0)

    async def test_a_failed_call_goes_back_for_later(self, desk: Desk) -> None:
        """It counts an attempt, waits for its time in no window, and comes round again with its age."""
        await desk.queue(1)
        queued_at, now = desk.clock.now(), desk.clock.now()
        assert await desk.ledger.completions.settle(await claimed(desk), returned(0, now + 60), now) is None
        early = await nothing_left(desk)
        ripened = await desk.ledger.requests.ripen(now + 60, 10)
        again = await claimed(desk)

        assert (early, ripened) == (True, 1)
        assert (again.member.seq, again.member.attempts, again.member.queued_at) == (1, 1, queued_at)
        assert not again.again

    async def test_a_call_that_goes_on_failing_is_given_up_by_its_age(self, desk: Desk) -> None:
        """Each try has a later time of its own; how long the request has been queued counts from its acceptance."""
        await desk.queue(1)
        now = desk.clock.now()
        await desk.ledger.completions.settle(await claimed(desk), returned(0, now + 60), now)
        await desk.ledger.requests.ripen(now + 60, 10)

        assert await desk.ledger.requests.give_up(now + 1, EXPIRED, now + 90, 10) == [1]
        assert await nothing_left(desk)

    async def test_what_was_not_asked_keeps_its_place(self, desk: Desk) -> None:
        """A released claim leaves the request in front, without an attempt."""
        await desk.queue(2)
        assert not await desk.ledger.completions.release(await claimed(desk), desk.clock.now())
        again = await claimed(desk)

        assert (again.member.seq, again.member.attempts, again.again) == (1, 0, False)
        assert await desk.ledger.bills.totals() == []

    async def test_a_new_process_asks_again_and_knows_it(self, desk: Desk) -> None:
        """What was being asked when a boot ended is claimed again, first in line, and says that it may be the second time."""
        await desk.queue(2)
        await claimed(desk)
        await desk.ledger.begin(exclusive=True)
        first, second = await claimed(desk), await claimed(desk)

        assert [(claim.member.seq, claim.again) for claim in (first, second)] == [(1, True), (2, False)]

    async def test_a_living_process_keeps_its_claims(self, desk: Desk) -> None:
        """Another replica takes nothing that a living one asks, and everything once its lease has run out."""
        await desk.queue(1)
        await claimed(desk)
        await desk.ledger.begin(exclusive=False)
        while_alive = await nothing_left(desk)
        desk.clock.jump(60)

        assert while_alive
        assert (await claimed(desk)).again

    async def test_a_claim_that_was_taken_over_pays_in_vain(self, desk: Desk) -> None:
        """The paused process cannot end the request any more; what it paid is on the bill as wasted."""
        await desk.queue(1)
        late = await claimed(desk)
        await desk.ledger.begin(exclusive=True)
        fresh = await claimed(desk)
        # The ledger of the process that was paused: it claims and settles in the name of a boot that is over.
        desk.ledger.boots._id = 1
        lost = await desk.ledger.completions.settle(late, settled(0, cost_usd=4.0), desk.clock.now())
        desk.ledger.boots._id = 2
        kept = await desk.ledger.completions.settle(fresh, settled(0, cost_usd=1.0), desk.clock.now())
        [bill] = await desk.ledger.bills.totals()

        assert (lost is None, kept is not None) == (True, True)
        assert (bill.requests, bill.lines, bill.cost_usd, bill.wasted_usd) == (1, 2, 5.0, 4.0)

    async def test_an_answer_beats_a_late_cancel(self, desk: Desk) -> None:
        """A request that is being asked is only marked when it is cancelled, and ends with its answer."""
        await desk.queue(1)
        claim = await claimed(desk)
        marked = await desk.ledger.requests.cancel(1, desk.clock.now(), CANCELLED)
        ended = await desk.ledger.completions.settle(claim, settled(0), desk.clock.now())

        assert (marked.state, marked.cancel_at) == (RequestState.QUEUED, desk.clock.now())
        assert ended is not None
        assert ended.state is RequestState.SUCCEEDED

    async def test_a_wished_cancel_comes_true_without_an_answer(self, desk: Desk) -> None:
        """Sent back, released, or found after a crash: nobody asks again what nobody wants, and it ends as was wished."""
        seqs = await desk.queue(3)
        claims = [await claimed(desk) for _ in seqs]
        now = desk.clock.now()
        for seq in seqs:
            await desk.ledger.requests.cancel(seq, now, CANCELLED)
        back = await desk.ledger.completions.settle(claims[0], returned(0, now), now)
        given_up = await desk.ledger.completions.release(claims[1], now)
        await desk.ledger.begin(exclusive=True)

        assert await nothing_left(desk)
        assert (back is not None and back.state, given_up) == (RequestState.CANCELLED, True)
        assert (await desk.ledger.requests.tally())[RequestState.CANCELLED] == 3
        assert await desk.ledger.lanes.windows() == []

    async def test_a_cancel_between_two_processes_ends_at_once(self, desk: Desk) -> None:
        """What only a boot that is over asked is queued like any other: a second cancel ends it, with one outcome."""
        await desk.queue(1)
        await claimed(desk)
        await desk.ledger.requests.cancel(1, desk.clock.now(), CANCELLED)
        await desk.ledger.begin(exclusive=True)
        ended = await desk.ledger.requests.cancel(1, desk.clock.now(), CANCELLED)

        assert ended.state is RequestState.CANCELLED
        assert await nothing_left(desk)

    async def test_what_is_being_asked_is_not_given_up(self, desk: Desk) -> None:
        """Neither the deadline nor an abandoning caller takes away a request whose answer is on its way."""
        await desk.queue(2)
        claim = await claimed(desk)
        late = desk.clock.now() + 1
        given_up = await desk.ledger.requests.give_up(late, EXPIRED, late, 10)
        ended = await desk.ledger.completions.settle(claim, settled(0), late)

        assert given_up == [2]
        assert ended is not None

    async def test_a_final_failure_says_so(self, desk: Desk) -> None:
        """It ends the request like a line's; nothing was billed, so nothing is undiscounted."""
        await desk.queue(1)
        refused = settled(0, failure(permanent=True), billed=False, cost_usd=None, saved_usd=None, trouble="refused")
        ended = await desk.ledger.completions.settle(await claimed(desk), refused, desk.clock.now())
        [bill] = await desk.ledger.bills.totals()

        assert ended is not None
        assert ended.state is RequestState.FAILED
        assert (bill.requests, bill.lines, bill.undiscounted_lines, bill.wasted_lines) == (1, 1, 0, 0)

    async def test_what_goes_to_the_cache_is_told_of_single_answers_too(self, desk: Desk) -> None:
        """Fingerprint and place of the sample, and whether it must not be kept."""
        await desk.admit(arrival("a"), arrival("b", ask=Ask(no_store=True)), arrival("c", custom_id="n"))
        now = desk.clock.now()
        ended = [await desk.ledger.completions.settle(await claimed(desk), settled(0), now) for _ in range(3)]

        assert [(row.fingerprint, row.ordinal, row.no_store) for row in ended if row is not None] == [
            (arrival("a").fingerprint, 0, False),
            (arrival("b").fingerprint, 0, True),
            (arrival("c").fingerprint, None, False),
        ]

    async def test_claims_are_forgotten_with_what_became_of_them(self, desk: Desk) -> None:
        """A claim of a boot that is over leaves nothing behind once its request has ended another way."""
        await desk.queue(2)
        await claimed(desk)
        await desk.ledger.begin(exclusive=True)
        await desk.answer(1, 2)
        before = await self._claims(desk)
        await desk.ledger.requests.forget(0.0, 10)

        assert (before, await self._claims(desk)) == (1, 0)

    async def test_the_bill_adds_up_both_ways(self, desk: Desk) -> None:
        """Batches and single calls of one model are one bill, which says how much of it was not discounted."""
        await desk.queue(2)
        await desk.answer(1, 2)
        await desk.queue(1)
        await desk.ledger.completions.settle(await claimed(desk), settled(0, answer()), desk.clock.now())
        [bill] = await desk.ledger.bills.totals()

        assert (bill.requests, bill.lines, bill.undiscounted_lines) == (3, 3, 1)

    async def test_children_are_asked_by_themselves(self, desk: Desk) -> None:
        """A request for several answers is asked as often as it has children, never itself, and ends when they have."""
        [admission] = await desk.admit(parent(2))
        claims = [await claimed(desk), await claimed(desk)]
        last = await nothing_left(desk)
        for claim in claims:
            await desk.ledger.completions.settle(claim, settled(0), desk.clock.now())
        [family] = await desk.ledger.families.told(10)

        assert last
        assert (family.parent, len(family.endings)) == (admission.seq, 2)

    async def test_a_family_that_is_being_asked_waits_for_what_is_paid(self, desk: Desk) -> None:
        """Cancelling ends what is queued and marks the rest; a caller that hung up takes nothing away that is on its way."""
        [admission] = await desk.admit(parent(2))
        claim = await claimed(desk)
        now = desk.clock.now()
        await desk.ledger.requests.depart([left(admission.seq, now)])
        abandoned = await desk.ledger.requests.cancel_abandoned(now, CANCELLED, 10)
        after = await desk.ledger.requests.cancel(admission.seq, now, CANCELLED)
        ended = await desk.ledger.completions.settle(claim, settled(0), now)

        assert (abandoned, after.state, after.cancel_at) == ([], RequestState.QUEUED, now)
        assert ended is not None
        assert ended.state is RequestState.SUCCEEDED
        assert all(totals == recount for totals, recount in await desk.totals_and_recount())

    async def _claims(self, desk: Desk) -> int:
        [[count]] = await desk.ledger.database.read(lambda session: session.rows("count_completions", {}))
        return int(count)
