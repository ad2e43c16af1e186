"""Admission by name and without slots, reading, cancelling, giving up, forgetting."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import LedgerError
from gateway.records import BatchState, RequestState
from gateway.store.batches import SETTLE_AT_MOST
from gateway.store.requests import ENDINGS_AT_ONCE
from gateway.store.rows import Ask
from tests.unit.store.scenery import CANCELLED, EXPIRED, LANE, Desk, answer, arrival, failure, left, returned, settled

DETACHED = Ask(detached=True)


class RequestsConformance:
    """Inherited by `LedgerConformance`."""

    async def test_an_admitted_request_can_be_found_and_read(self, desk: Desk) -> None:
        """A fresh request is queued under an id of ours, in its lane, by the client that asked, and by the operator."""
        [admission] = await desk.admit(arrival("q", client="alice"))
        found = await desk.ledger.requests.find("alice", "", admission.custom_id)

        assert admission.fresh
        assert admission.custom_id.startswith("bw_")
        assert found is not None
        assert (found.seq, found.state, found.lane, found.client) == (admission.seq, RequestState.QUEUED, LANE, "alice")
        assert await desk.ledger.requests.find(None, "", admission.custom_id) == found
        assert await desk.ledger.requests.ending(admission.seq) is None

    async def test_ids_and_names_of_others_are_not_found(self, desk: Desk) -> None:
        """A client finds neither another's id nor another's name, and a guessed id finds nothing."""
        own, named = await desk.admit(arrival("q", client="alice"), arrival("r", client="alice", custom_id="n"))
        requests = desk.ledger.requests
        guessed = own.custom_id[:-1] + ("0" if own.custom_id[-1] != "0" else "1")

        assert await requests.find("bob", "", own.custom_id) is None
        assert await requests.find("bob", "", named.custom_id) is None
        assert [await requests.find("alice", "", name) for name in (guessed, "bw__", "bw_1_", "", "bw_zzz_x_y")] == [
            None
        ] * 5

    async def test_one_name_is_one_request(self, desk: Desk) -> None:
        """The same name with the same body joins while it is pending and is served afterwards; one row in all."""
        first, second = await desk.admit(arrival("q", custom_id="n"), arrival("q", custom_id="n"))
        await desk.answer(first.seq)
        [third] = await desk.admit(arrival("q", custom_id="n"))

        assert (first.seq, first.fresh, second.fresh, third.fresh) == (second.seq, True, False, False)
        assert third.ending is not None
        assert third.ending.body.startswith(b"answer")

    async def test_one_name_in_two_scopes_is_two_requests(self, desk: Desk) -> None:
        """Names belong to a client: another client's request of the same name and body is another one."""
        mine, other = await desk.admit(arrival("q", custom_id="n"), arrival("q", custom_id="n", client="bob"))

        assert mine.seq != other.seq
        assert other.fresh

    async def test_a_name_with_another_body_conflicts(self, desk: Desk) -> None:
        """The second body is not recorded, and the first stays as it was."""
        [first] = await desk.admit(arrival("q", custom_id="n"))
        [second] = await desk.admit(arrival("other", custom_id="n"))

        assert second.conflict
        assert not second.fresh
        assert [row.seq for row in await desk.ledger.requests.listed(None)] == [first.seq]

    async def test_a_failed_name_is_tried_anew(self, desk: Desk) -> None:
        """A failure that no longer matches loses its name to a new attempt, and stays readable by nobody's name."""
        batch = await _named_batch(desk)
        await desk.collect(batch, [settled(0, failure())])
        [retry] = await desk.admit(arrival("q", custom_id="n", ask=Ask(retry=True)))
        [again] = await desk.admit(arrival("q", custom_id="n"))
        found = await desk.ledger.requests.find("", "", "n")

        assert (retry.fresh, retry.ending is not None) == (False, True)
        assert again.fresh
        assert found is not None
        assert (found.seq, found.attempts) == (again.seq, 0)

    async def test_an_owed_failure_of_a_name_is_served(self, desk: Desk) -> None:
        """A failure behind a cut connection goes to the next call of the name, whatever it is."""
        batch = await _named_batch(desk)
        await desk.collect(batch, [settled(0, failure())])
        now = desk.clock.now()
        await desk.ledger.requests.depart([left(1, now, owed_until=now + 120)])
        [again] = await desk.admit(arrival("q", custom_id="n"))

        assert (again.fresh, again.seq) == (False, 1)

    async def test_detached_requests_make_and_take_no_slots(self, desk: Desk) -> None:
        """Each is a row of its own, but for a retry within two minutes, which gets the same one."""
        first, second = await desk.admit(arrival(ask=DETACHED), arrival(ask=DETACHED))
        desk.clock.jump(120)
        [retry] = await desk.admit(arrival(ask=Ask(detached=True, retry=True)))
        desk.clock.jump(1)
        [late] = await desk.admit(arrival(ask=Ask(detached=True, retry=True)))

        assert first.seq != second.seq
        assert (retry.seq, retry.custom_id) == (second.seq, second.custom_id)
        assert late.fresh
        assert await desk.ledger.slots.of(arrival().fingerprint, "", None, desk.clock.now()) == []

    async def test_several_endings_are_read_at_once(self, desk: Desk) -> None:
        """Those that have ended are there, those that have not are absent."""
        seqs = await desk.queue(3)
        await desk.answer(*seqs)
        later = await desk.queue(1)
        endings = await desk.ledger.requests.endings([*seqs, *later, 999])

        assert sorted(endings) == seqs
        assert {ending.provider for ending in endings.values()} == {"sim"}

    async def test_requests_are_listed_in_order_page_by_page(self, desk: Desk) -> None:
        """By client, by state, after a place, at most so many."""
        await desk.admit(*(arrival(f"q{n}", client="alice") for n in range(4)), arrival("q", client="bob"))
        requests = desk.ledger.requests

        assert [row.seq for row in await requests.listed("alice", limit=3)] == [1, 2, 3]
        assert [row.seq for row in await requests.listed("alice", limit=3, after_seq=3)] == [4]
        assert [row.client for row in await requests.listed(None, [RequestState.QUEUED])] == ["alice"] * 4 + ["bob"]
        assert await requests.listed(None, [RequestState.FAILED]) == []

    async def test_a_queued_request_is_cancelled_at_once(self, desk: Desk) -> None:
        """It ends with the given result, leaves its window, and a second cancel changes nothing."""
        keep, drop = await desk.queue(2)
        cancelled = await desk.ledger.requests.cancel(drop, desk.clock.now(), CANCELLED)
        desk.clock.jump(5)
        again = await desk.ledger.requests.cancel(drop, desk.clock.now(), EXPIRED)
        [window] = await desk.ledger.lanes.windows()
        ending = await desk.ledger.requests.ending(drop)

        assert cancelled.state is RequestState.CANCELLED
        assert again == cancelled
        assert ending is not None
        assert (ending.status, ending.body) == (CANCELLED.status, CANCELLED.body)
        assert (window.count, keep) == (1, 1)

    async def test_a_cancel_of_a_line_waits_for_its_batch(self, desk: Desk) -> None:
        """A request in a batch is only marked: an answer still wins, a line that would go back ends cancelled."""
        batch = await desk.claimed(BatchState.ENDED, 3)
        for seq in (1, 2):
            marked = await desk.ledger.requests.cancel(seq, desk.clock.now(), CANCELLED)
            assert (marked.state, marked.cancel_at) == (RequestState.BATCHED, desk.clock.now())
        ended = await desk.ledger.batches.settle(batch, [settled(0), returned(1), returned(2)], desk.clock.now())
        endings = await desk.ledger.requests.endings([1, 2, 3])

        assert {row.seq: row.state for row in ended} == {1: RequestState.SUCCEEDED, 2: RequestState.CANCELLED}
        assert {seq: ending.body for seq, ending in endings.items()} == {1: answer('{"n":0}').body, 2: CANCELLED.body}

    async def test_cancelling_nothing_is_an_error(self, desk: Desk) -> None:
        """There is no request of that number."""
        with pytest.raises(LedgerError):
            await desk.ledger.requests.cancel(99, desk.clock.now(), CANCELLED)

    async def test_only_abandoned_requests_are_cancelled(self, desk: Desk) -> None:
        """Left by its last caller long enough, un-held, never delivered, not detached, not in a batch: all of it."""
        gone, held, recent = await desk.queue(3)
        await desk.admit(arrival("d", ask=DETACHED), arrival("taken again"))
        now = desk.clock.now()
        await desk.ledger.requests.admit([arrival("taken again")], [left(5, now - 200)])
        await desk.ledger.requests.depart(
            [left(gone, now - 200), left(held, now - 200, last=False), left(recent, now - 10)]
        )

        assert await desk.ledger.requests.cancel_abandoned(now - 120, CANCELLED, 10) == [gone]
        assert await desk.ledger.requests.cancel_abandoned(now - 120, CANCELLED, 10) == []

    async def test_what_is_queued_for_too_long_is_given_up(self, desk: Desk) -> None:
        """Old requests expire wherever they stand in the queue: fresh, or back from a batch; younger ones stay."""
        batch = await desk.claimed(BatchState.ENDED, 1)
        [old] = await desk.queue(1)
        await desk.collect(batch, [returned(0, desk.clock.now() + 9e5)])
        limit = desk.clock.now()
        desk.clock.jump(1)
        await desk.queue(1)
        given_up = await desk.ledger.requests.give_up(limit, EXPIRED, desk.clock.now(), 10)

        assert sorted(given_up) == [1, old]
        assert (await desk.ledger.requests.tally())[RequestState.EXPIRED] == 2

    async def test_returned_lines_ripen(self, desk: Desk) -> None:
        """A returned line counts in no window before its time, in the window afterwards, and is not fresh."""
        batch = await desk.claimed(BatchState.ENDED, 1)
        await desk.collect(batch, [returned(0, desk.clock.now() + 60)])
        requests, lanes = desk.ledger.requests, desk.ledger.lanes

        assert (await requests.ripen(desk.clock.now() + 59, 10), await lanes.windows()) == (0, [])
        assert await requests.ripen(desk.clock.now() + 60, 10) == 1
        [window] = await lanes.windows()
        assert (window.count, window.fresh, window.oldest_at) == (1, 0, desk.clock.now() + 60)

    async def test_retention_forgets_requests_and_keeps_the_bill(self, desk: Desk) -> None:
        """What ended long ago is gone, with its batch and marks; what was paid stays; the newest number stays taken."""
        batch = await desk.claimed(BatchState.ENDED, 2)
        done = await desk.collect(batch, [settled(0), settled(1), settled(7, cost_usd=4.0)])
        await desk.ledger.batches.discarded(done)
        paid = await desk.ledger.bills.totals()
        desk.clock.jump(1000)
        await desk.answer(*await desk.queue(1))
        forgotten = await desk.ledger.requests.forget(desk.clock.now() - 500, 10)

        assert forgotten == 2
        assert await desk.ledger.requests.ending(1) is None
        assert await desk.ledger.batches.get(batch.id) is None
        assert [bill.cost_usd for bill in await desk.ledger.bills.totals()] == [paid[0].cost_usd + 0.25]
        assert await desk.ledger.bills.wasted() == {"sim": 4.0}
        assert await desk.queue(1) == [4]

    async def test_retention_takes_a_large_batch_in_parts(self, desk: Desk) -> None:
        """Lines go some at a time, and their batch with the last of them; what was paid is the same in between."""
        batch = await desk.claimed(BatchState.ENDED, 1)
        late = [settled(n, cost_usd=2.0) for n in range(1, SETTLE_AT_MOST + 1)]
        await desk.ledger.batches.settle(batch, late, desk.clock.now())
        await desk.ledger.batches.discarded(await desk.collect(batch, [settled(0)]))
        paid = await desk.ledger.bills.totals()
        desk.clock.jump(1000)
        await desk.claimed(BatchState.SEALED, 1)
        still = []
        for _ in range(2):
            await desk.ledger.requests.forget(desk.clock.now() - 500, 10)
            still.append(await desk.ledger.batches.get(batch.id) is not None)
            assert await desk.ledger.bills.totals() == paid
            assert await desk.ledger.bills.wasted() == {"sim": 2.0 * SETTLE_AT_MOST}

        assert still == [True, False]

    async def test_retention_takes_many_small_batches_at_once(self, desk: Desk) -> None:
        """However small they are: batches must not come faster than they are forgotten."""
        for _ in range(3):
            done = await desk.collect(await desk.claimed(BatchState.ENDED, 1), [settled(0)])
            await desk.ledger.batches.discarded(done)
        desk.clock.jump(1000)
        last = await desk.claimed(BatchState.SEALED, 1)
        await desk.ledger.requests.forget(desk.clock.now() - 500, 10)

        assert [batch.id for batch in await desk.ledger.batches.listed()] == [last.id]

    async def test_the_endings_of_many_are_read_by_turns(self, desk: Desk) -> None:
        """Whoever asks for those of a whole batch lets others have the loop in between."""
        seqs = await desk.queue(2 * ENDINGS_AT_ONCE + 1)
        for seq in seqs:
            await desk.ledger.requests.cancel(seq, desk.clock.now(), CANCELLED)
        turns, reading = 0, asyncio.create_task(desk.ledger.requests.endings(seqs))
        while not reading.done():
            turns += 1
            await asyncio.sleep(0)

        assert set(await reading) == set(seqs)
        assert turns >= 3

    async def test_retention_spares_what_is_still_under_way(self, desk: Desk) -> None:
        """A request is kept while its batch is not collected, while somebody reads it, and if it is the newest of all."""
        batch = await desk.claimed(BatchState.ENDED, 3)
        requests, now = desk.ledger.requests, desk.clock.now()
        await requests.depart([left(1, now, delivered=True), left(3, now)])
        await desk.ledger.batches.settle(batch, [settled(n) for n in range(3)], now)

        assert await requests.forget(now, 10) == 0
        await desk.ledger.batches.collected(batch, now)
        assert await requests.forget(now, 10) == 1
        assert [row.seq for row in await requests.listed(None)] == [2, 3]

    async def test_the_tally_counts_every_state(self, desk: Desk) -> None:
        """Queued, returned, batched and ended requests, each where it stands."""
        batch = await desk.claimed(BatchState.ENDED, 4)
        await desk.ledger.batches.settle(
            batch, [settled(0), settled(1, failure()), returned(2, desk.clock.now() + 60)], desk.clock.now()
        )
        await desk.queue(1)
        tally = await desk.ledger.requests.tally()

        assert {state: count for state, count in tally.items() if count} == {
            RequestState.QUEUED: 2,
            RequestState.BATCHED: 1,
            RequestState.SUCCEEDED: 1,
            RequestState.FAILED: 1,
        }


async def _named_batch(desk: Desk) -> object:
    """An ended, claimed batch of one request called `n`."""
    await desk.admit(arrival("q", custom_id="n"))
    now, batches = desk.clock.now(), desk.ledger.batches
    batch = await batches.intend(await desk.claim((await desk.seal()).id), now)
    from tests.unit.store.scenery import remote

    batch = await desk.claim((await batches.submitted(batch, remote(), now, now)).id)
    return await desk.claim((await batches.ended(batch, remote(), now)).id)
