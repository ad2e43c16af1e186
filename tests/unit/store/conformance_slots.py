"""Sameness in the ledger: samples, holds, runs, the cache's samples; the stories the rules were made for."""

from __future__ import annotations

from msgspec.structs import replace

from gateway.records import RequestState
from gateway.store.choose import SLOT_LIMIT
from gateway.store.rows import Admission, Arrival, Ask, Sample
from tests.unit.store.scenery import CANCELLED, Desk, arrival, left, remote, settled

WHY = arrival().fingerprint


def in_run(run: str, *, retry: bool = False) -> Arrival:
    """The usual question, in a run."""
    return arrival(ask=Ask(run=run, retry=retry))


async def deliver(desk: Desk, admissions: list[Admission], run: str | None = None) -> None:
    """Their callers got their answers and left."""
    now = desk.clock.now()
    await desk.ledger.requests.depart([left(each.seq, now, delivered=True, run=run) for each in admissions])


class SlotsConformance:
    """Inherited by `LedgerConformance`."""

    async def test_five_identical_calls_are_five_samples_and_again_the_same_five(self, desk: Desk) -> None:
        """Simultaneous identical calls each make a line; run again, the same five answers come, and no new line."""
        first = await desk.admit(*[arrival()] * 5)
        await desk.answer()
        await deliver(desk, first)
        second = []
        for _ in range(5):
            [admission] = await desk.admit(arrival())
            await deliver(desk, [admission])
            second.append(admission)

        assert [each.fresh for each in first] == [True] * 5
        assert [each.fresh for each in second] == [False] * 5
        assert {each.seq for each in second} == {each.seq for each in first}
        assert len({each.ending.body for each in second if each.ending}) == 5

    async def test_callers_that_hang_up_come_back_to_their_samples(self, desk: Desk) -> None:
        """Three of five leave and come again: still five lines, whether they retry or start afresh."""
        first = await desk.admit(*[arrival()] * 5)
        gone = [left(each.seq, desk.clock.now()) for each in first[1:4]]
        [one, two] = await desk.ledger.requests.admit([arrival(), arrival(ask=Ask(retry=True))], gone)
        [three] = await desk.admit(arrival())
        [four] = await desk.admit(arrival())

        assert sorted(each.seq for each in (one, two, three)) == [each.seq for each in first[1:4]]
        assert four.fresh

    async def test_a_shared_slot_is_held_until_the_last_has_left(self, desk: Desk) -> None:
        """Two callers of one slot: when one goes, it is not free for a third; when both have gone, it is."""
        [first] = await desk.admit(arrival())
        [joined] = await desk.admit(arrival(ask=Ask(retry=True)))
        [third] = await desk.ledger.requests.admit([arrival()], [left(first.seq, desk.clock.now(), last=False)])
        [fourth] = await desk.ledger.requests.admit([arrival()], [left(first.seq, desk.clock.now())])

        assert (joined.seq, third.fresh, fourth.seq) == (first.seq, True, first.seq)

    async def test_a_restarted_script_re_attaches_after_a_crash(self, desk: Desk) -> None:
        """Slots that a dead process held are taken again by the same calls; nothing new is asked."""
        first = await desk.admit(*[arrival()] * 3)
        await desk.ledger.begin(exclusive=True)
        again = await desk.admit(*[arrival()] * 3)

        assert sorted(each.seq for each in again) == sorted(each.seq for each in first)

    async def test_a_group_serves_each_stored_sample_once(self, desk: Desk) -> None:
        """Calls of one group that find finished samples get different ones, before any delivery is counted."""
        first = await desk.admit(*[arrival()] * 3)
        await desk.answer()
        await deliver(desk, first)
        served = await desk.admit(*[arrival()] * 3)

        assert len({each.seq for each in served}) == 3
        assert [(each.sample, each.of) for each in served] == [(1, 3), (2, 3), (3, 3)]

    async def test_what_the_process_is_delivering_counts(self, desk: Desk) -> None:
        """Deliveries that are not committed yet are counted by the choice, and so are waiters."""
        first = await desk.admit(*[arrival()] * 2)
        await desk.answer()
        await deliver(desk, first)
        booked = replace(arrival(), booked={first[0].seq: 1})
        [served] = await desk.admit(booked)
        waiting = await desk.admit(*[arrival("other")] * 2)
        busy = replace(arrival("other", ask=Ask(retry=True)), waiters={waiting[0].seq: 2, waiting[1].seq: 1})
        [joined] = await desk.admit(busy)

        assert served.seq == first[1].seq
        assert (joined.seq, joined.fresh) == (waiting[1].seq, False)

    async def test_runs_get_the_same_samples_in_the_same_order(self, desk: Desk) -> None:
        """Five in run one, the same five in the same order in run two, five new ones in run one again."""
        one = await self._pass(desk, "one")
        lines = (await desk.ledger.requests.tally())[RequestState.SUCCEEDED]
        two = await self._pass(desk, "two")
        same_lines = (await desk.ledger.requests.tally())[RequestState.SUCCEEDED]
        more = await self._pass(desk, "one")

        assert two == one
        assert (lines, same_lines) == (5, 5)
        assert not set(more) & set(one)
        assert len(set(more)) == 5

    async def _pass(self, desk: Desk, run: str) -> list[int]:
        """Five sequential calls of a run, each answered before the next; the seqs they got."""
        seqs = []
        for _ in range(5):
            [admission] = await desk.admit(in_run(run))
            if admission.ending is None:
                await desk.answer()
            await deliver(desk, [admission], run)
            seqs.append(admission.seq)
        return seqs

    async def test_a_call_of_a_run_that_hangs_up_gets_its_sample_again(self, desk: Desk) -> None:
        """In its run a sample that was given and not delivered goes to the next call; in another run it is shared."""
        first, second = await desk.admit(in_run("one"), in_run("one"))
        await desk.ledger.requests.depart([left(first.seq, desk.clock.now(), run="one")])
        [again] = await desk.admit(in_run("one"))
        shared = await desk.admit(in_run("two"), in_run("two"), in_run("two"))

        assert again.seq == first.seq
        assert [each.seq for each in shared[:2]] == [first.seq, second.seq]
        assert [each.fresh for each in shared] == [False, False, True]

    async def test_a_retry_in_a_run_costs_no_other_sample(self, desk: Desk) -> None:
        """A retry whose old socket still seems to wait joins its own sample, and both must leave before it is free."""
        [first] = await desk.admit(in_run("one"))
        [retry] = await desk.admit(in_run("one", retry=True))
        now = desk.clock.now()
        await desk.ledger.requests.depart([left(first.seq, now, run="one", last=False)])
        [other] = await desk.admit(in_run("one"))

        assert retry.seq == first.seq
        assert other.fresh

    async def test_samples_of_the_cache_are_slots_again(self, desk: Desk) -> None:
        """With no slot in the ledger, the cache's answers come back, are served in turn, and a new one lies above them."""
        stored = tuple(Sample(ordinal=n, body=b"stored %d" % n, ended_at=desk.clock.now()) for n in (0, 4))
        first, second = await desk.admit(arrival(samples=stored), arrival(samples=stored))
        [fresh] = await desk.admit(arrival(ask=Ask(no_cache=True), samples=stored))
        slots = await desk.ledger.slots.of(WHY, "", None, desk.clock.now())

        assert [each.ending.body for each in (first, second) if each.ending] == [b"stored 0", b"stored 4"]
        assert fresh.fresh
        assert [slot.ordinal for slot in slots] == [0, 4, 5]
        assert await desk.ledger.lanes.windows() != []

    async def test_the_number_of_a_forgotten_sample_is_not_given_again(self, desk: Desk) -> None:
        """Samples that ended before an earlier one are forgotten before it: the next sample stands above them all the same."""
        await self._answered_last_first(desk)
        await desk.ledger.requests.forget(desk.clock.now() - 500, 10)
        [fresh] = await desk.admit(arrival(ask=Ask(no_cache=True)))

        assert fresh.sample == 4
        assert [slot.ordinal for slot in await desk.ledger.slots.of(WHY, "", None, desk.clock.now())] == [0, 2, 3]

    async def test_samples_are_forgotten_with_the_last_of_them(self, desk: Desk) -> None:
        """What kept the highest number taken is gone as soon as nothing below it is kept."""
        await self._answered_last_first(desk)
        desk.clock.jump(1000)

        assert await desk.ledger.requests.forget(desk.clock.now() - 500, 10) == 3
        assert await desk.ledger.slots.of(WHY, "", None, desk.clock.now()) == []

    async def _answered_last_first(self, desk: Desk) -> None:
        """Three samples, the first of which was answered long after the others, and a newer request."""
        admissions = await desk.admit(*[arrival()] * 3)
        batches, now = desk.ledger.batches, desk.clock.now()
        batch = await batches.intend(await desk.claim((await desk.seal()).id), now)
        batch = await desk.claim((await batches.submitted(batch, remote(), now, now)).id)
        batch = await desk.claim((await batches.ended(batch, remote(), now)).id)
        await batches.settle(batch, [settled(n) for n in (1, 2)], now)
        await deliver(desk, admissions)
        desk.clock.jump(1000)
        await desk.collect(batch, [settled(0)])
        await desk.admit(arrival("something new"))

    async def test_what_the_ledger_has_forgotten_of_a_question_comes_back(self, desk: Desk) -> None:
        """Samples that only the cache has stand beside those the ledger has kept, each at its place and once."""
        await self._answered_last_first(desk)
        await desk.ledger.requests.forget(desk.clock.now() - 500, 10)
        stored = tuple(Sample(ordinal=n, body=b"stored %d" % n, ended_at=desk.clock.now()) for n in range(3))
        calls = [replace(in_run("one"), samples=stored)] * 4
        first, second, third, fourth = await desk.admit(*calls)

        assert [each.ending.body for each in (first, second, third) if each.ending] == [
            b'{"n":0}',
            b"stored 1",
            b'{"n":2}',
        ]
        assert (fourth.fresh, fourth.sample) == (True, 4)

    async def test_only_if_cached_records_nothing(self, desk: Desk) -> None:
        """Without a finished sample the call is absent, and no row is made."""
        [absent] = await desk.admit(arrival(ask=Ask(only_if_cached=True)))

        assert absent.absent
        assert await desk.ledger.requests.listed(None) == []

    async def test_a_large_fingerprint_still_finds_its_free_slot(self, desk: Desk) -> None:
        """Behind hundreds of held samples, the one that was left, the one that is owed and the run's own are found."""
        count = 5 * SLOT_LIMIT
        everyone = await desk.admit(*[in_run("one")] * count)
        now = desk.clock.now()
        odd = everyone[-3]
        await desk.ledger.requests.depart([left(odd.seq, now, run="one")])
        [general] = await desk.admit(arrival())
        await desk.ledger.requests.depart([left(odd.seq, now)])
        [own] = await desk.admit(in_run("one"))
        [above] = await desk.admit(in_run("one"))
        await desk.ledger.requests.depart([left(odd.seq, now, run="one")])
        everything = await desk.ledger.slots.of(WHY, "", "one", now)
        [retry] = await desk.admit(arrival(ask=Ask(retry=True)))

        assert [general.seq, own.seq, retry.seq] == [odd.seq] * 3
        assert above.fresh
        assert odd.seq in {slot.seq for slot in everything}
        assert len(everything) <= 4 * SLOT_LIMIT

    async def test_a_run_with_gaps_gets_the_lowest_sample_left_out(self, desk: Desk) -> None:
        """Of many samples, one that did not count when its turn came is given as soon as it does."""
        await desk.admit(*[arrival()] * (SLOT_LIMIT + 10))
        await desk.answer()
        [skipped] = await desk.admit(arrival(ask=Ask(run="one", no_cache=True)))
        [lowest] = await desk.admit(in_run("one"))
        [next_one] = await desk.admit(in_run("one"))

        assert skipped.fresh
        assert [lowest.sample, next_one.sample] == [1, 2]

    async def test_dead_failures_do_not_hide_a_live_sample(self, desk: Desk) -> None:
        """However many samples of a question have failed for good, an answer behind them is found."""
        from gateway.records import BatchState
        from tests.unit.store.scenery import failure

        count = SLOT_LIMIT + 20
        admissions = await desk.admit(*[arrival()] * count)
        batches, now = desk.ledger.batches, desk.clock.now()
        batch = await batches.intend(await desk.claim((await desk.seal()).id), now)
        batch = await desk.claim((await batches.submitted(batch, remote(), now, now)).id)
        batch = await desk.claim((await batches.ended(batch, remote(), now)).id)
        done = await desk.collect(batch, [settled(n, None if n == count - 1 else failure()) for n in range(count)])
        await desk.ledger.requests.depart([left(each.seq, now, delivered=True) for each in admissions])
        desk.clock.jump(1000)
        [served] = await desk.admit(arrival())

        assert done.state is BatchState.COLLECTED
        assert (served.seq, served.fresh) == (admissions[-1].seq, False)

    async def test_cancels_under_way_do_not_hide_a_live_sample(self, desk: Desk) -> None:
        """However many samples of a question are being cancelled, one behind them is joined, in a run and by a retry too."""
        count = SLOT_LIMIT + 20
        admissions = await desk.admit(*[arrival()] * count)
        now = desk.clock.now()
        await desk.seal()
        await desk.ledger.requests.depart([left(each.seq, now) for each in admissions])
        for each in admissions[:-1]:
            await desk.ledger.requests.cancel(each.seq, now, CANCELLED)
        general, in_one = await desk.admit(arrival(), in_run("one"))
        [retry] = await desk.admit(arrival(ask=Ask(retry=True)))

        assert [general.seq, in_one.seq, retry.seq] == [admissions[-1].seq] * 3

    async def test_a_slot_says_how_it_was_delivered_and_left(self, desk: Desk) -> None:
        """Deliveries, their first and last moment, and when it was left, as they were folded."""
        [admission] = await desk.admit(arrival())
        await desk.ledger.requests.depart([left(admission.seq, 100.0)])
        await desk.admit(arrival())
        await desk.answer()
        await desk.ledger.requests.depart(
            [left(admission.seq, 200.0, delivered=True), left(admission.seq, 300.0, delivered=True)]
        )
        [slot] = await desk.ledger.slots.of(WHY, "", None, desk.clock.now())

        assert (slot.deliveries, slot.first_delivered_at, slot.last_delivered_at) == (2, 200.0, 300.0)
        assert (slot.held, slot.left_at, slot.custom_id) == (False, 100.0, admission.custom_id)
