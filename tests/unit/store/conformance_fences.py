"""What single statements refuse, whoever runs them: the last line, where the code before them has gone wrong."""

from __future__ import annotations

import pytest

from gateway.clock import Clock
from gateway.errors import LedgerError, StaleEpoch
from gateway.records import BatchState, RequestState
from gateway.store.boots import LEASE_SECONDS
from gateway.store.database import Database, Params, Value
from gateway.store.ledger import Ledger
from gateway.store.rows import Ask, LaneKey
from gateway.store.shipping import BatchRow, Cut
from gateway.testing import FakeClock
from tests.unit.store.conformance_batches import OPEN, VERBS
from tests.unit.store.conformance_families import parent
from tests.unit.store.scenery import CANCELLED, LANE, Desk, arrival, left, remote, settled

#: Verbs that leave a batch in its state, and the one state they are for.
STAYING = {
    "uploaded": BatchState.SEALED,
    "polled": BatchState.SUBMITTED,
    "shown": BatchState.ENDED,
    "fetching": BatchState.ENDED,
    "fetched": BatchState.ENDED,
    "settle": BatchState.ENDED,
}
#: Statements that change the state of one request, by its number, and of those of a batch.
MOVES_OF_A_REQUEST = (
    "end_member",
    "end_wished",
    "return_member",
    "return_members",
    "end_queued",
    "wish_cancel",
    "end_asked",
    "end_wished_queued",
    "return_asked",
    "keep_answer",
)


def anything(now: float) -> Params:
    """A value for every parameter of `MOVES_OF_A_REQUEST`, about the first request of the first batch."""
    words: dict[str, Value] = {"state": "failed", "trouble": "late", "permanent": 1, "answered": 1}
    return {**words, "seq": 1, "batch": 1, "result": 1, "now": now, "not_before": now}


class FencesConformance:
    """Inherited by `LedgerConformance`."""

    @pytest.mark.parametrize("state", OPEN)
    @pytest.mark.parametrize("verb", STAYING)
    async def test_steps_within_a_state_are_for_that_state(self, desk: Desk, verb: str, state: BatchState) -> None:
        """What is uploaded, polled, fetched or settled is a batch in the one state for it, and no other."""
        batch = await desk.claimed(state)
        if state is STAYING[verb]:
            await VERBS[verb][1](desk, batch)
        else:
            with pytest.raises(StaleEpoch):
                await VERBS[verb][1](desk, batch)
            assert await desk.ledger.batches.get(batch.id) == batch

    @pytest.mark.parametrize("query", MOVES_OF_A_REQUEST)
    async def test_no_statement_touches_what_has_ended(self, desk: Desk, query: str) -> None:
        """An ended request stays as it is, and so does its outcome, whatever runs late."""
        batch = await desk.claimed(BatchState.ENDED, 1)
        await desk.ledger.requests.cancel(1, desk.clock.now(), CANCELLED)
        await desk.ledger.batches.settle(batch, [settled(0)], desk.clock.now())
        before = await desk.ledger.requests.listed(None), await desk.ledger.requests.ending(1)
        changed = await desk.ledger.database.write(lambda session: session.run(query, anything(desk.clock.now())))

        assert changed == 0
        assert (await desk.ledger.requests.listed(None), await desk.ledger.requests.ending(1)) == before

    async def test_a_wish_is_noted_once(self, desk: Desk) -> None:
        """The outcome of the first cancel is the one that will come true."""
        await desk.claimed(BatchState.SUBMITTED, 1)
        await desk.ledger.requests.cancel(1, desk.clock.now(), CANCELLED)

        def again(now: float = desk.clock.now() + 9) -> Params:
            return {"seq": 1, "result": 7, "now": now}

        assert await desk.ledger.database.write(lambda session: session.run("wish_cancel", again())) == 0

    async def test_names_samples_markers_and_lines_are_unique(self, desk: Desk) -> None:
        """The database itself refuses a second request of one name or sample, and a second batch of one marker."""
        await desk.admit(arrival("named", custom_id="n"), arrival("sample"))
        batch = await desk.claimed(BatchState.SEALED)
        row: dict[str, Value] = {
            **dict.fromkeys(("lane", "now", "size", "tokens"), 1),
            **dict.fromkeys(("named", "detached", "no_cache", "no_store"), 0),
            **dict.fromkeys(("token", "client", "job"), ""),
            **dict.fromkeys(("name", "held_by", "body_hash"), None),
        }
        named = {**row, "seq": 98, "name": "n", "named": 1, "ordinal": None, "fingerprint": b"x"}
        sample = {**row, "seq": 99, "ordinal": 0, "fingerprint": arrival("sample").fingerprint}
        for params in (named, sample):
            with pytest.raises(LedgerError):
                await desk.ledger.database.write(lambda session, params=params: session.run("insert_request", params))
        await desk.queue(1)
        with pytest.raises(LedgerError):
            await desk.ledger.batches.seal(1, Cut(), batch.marker, "acc", "http://api", 1.0)

    async def test_a_slot_is_taken_by_one(self, desk: Desk, database: Database, clock: FakeClock) -> None:
        """Of two replicas that want a pending sample the second is told no, as long as the first lives."""
        [first] = await desk.admit(arrival())
        other = await self._replica(database, clock)
        take = {"seq": first.seq, "boot": other.boots.id, "now": clock.now()}

        assert await database.write(lambda session: session.run("take_slot", take)) == 0
        clock.jump(LEASE_SECONDS + 1)
        late = {**take, "now": clock.now()}
        assert await database.write(lambda session: session.run("take_slot", late)) == 1

    async def test_a_departure_ends_no_other_boots_hold(self, desk: Desk, database: Database, clock: FakeClock) -> None:
        """A caller that leaves one replica frees nothing that another one holds."""
        [first] = await desk.admit(arrival())
        other = await self._replica(database, clock)
        await other.requests.depart([left(first.seq, clock.now())])
        [slot] = await other.slots.of(arrival().fingerprint, "", None, clock.now())

        assert slot.held

    async def test_what_a_living_boot_holds_is_held_for_all(
        self, desk: Desk, database: Database, clock: FakeClock
    ) -> None:
        """Also where a question has more samples than are looked at one by one."""
        await desk.admit(*[arrival()] * 3)
        other = await self._replica(database, clock)
        slots = await other.slots.of(arrival().fingerprint, "", None, clock.now(), 2)

        assert [slot.held for slot in slots] == [True] * len(slots) != []

    async def test_an_ended_boot_stays_ended(self, desk: Desk, database: Database, clock: FakeClock) -> None:
        """A paused process that was declared dead does not come alive again by renewing its lease."""
        await desk.claimed(BatchState.SUBMITTED, 1)
        mine = Ledger(database, clock)
        await mine.begin(exclusive=True)
        await desk.ledger.renew()

        assert len(await mine.batches.claim([BatchState.SUBMITTED], clock.now(), 10)) == 1

    async def _replica(self, database: Database, clock: Clock) -> Ledger:
        other = Ledger(database, clock)
        await other.begin(exclusive=False)
        return other

    async def test_what_is_claimed_hides_no_other(self, desk: Desk) -> None:
        """However many batches somebody works on, the next free one is found."""
        await desk.claimed(BatchState.SEALED, 1)
        await desk.queue(1)
        free = await desk.seal()

        assert [batch.id for batch in await desk.ledger.batches.claim([BatchState.SEALED], desk.clock.now(), 1)] == [
            free.id
        ]

    async def test_a_batch_found_again_keeps_its_time(self, desk: Desk) -> None:
        """One that is lost and found however often is overdue by its first submission; sent again it begins anew."""
        batch = await desk.claimed(BatchState.SUBMITTED, 1)
        batches, sent_at = desk.ledger.batches, batch.submitted_at
        batch = await desk.claim((await batches.doubt(batch, "missing", 0.0)).id)
        found = await desk.claim((await batches.submitted(batch, remote(), desk.clock.now() + 500, 0.0)).id)
        lost = await desk.claim((await batches.doubt(found, "missing", 0.0)).id)
        anew = await batches.reseal(lost, 0.0)

        assert (found.submitted_at, anew.submitted_at) == (sent_at, None)

    async def test_a_lane_gives_only_its_own_requests(self, desk: Desk) -> None:
        """However the arrivals of several lanes are mixed, each batch has those of its lane."""
        other = LaneKey(provider="sim", endpoint=LANE.endpoint, model="m-2")
        await desk.admit(arrival("a"), arrival("b", lane=other), arrival("c"), arrival("d", lane=other))
        batch = await desk.seal(lane_id=2)
        rows = await desk.ledger.requests.listed(None)

        assert [row.lane for row in rows if row.batch == batch.id] == [other, other]

    async def test_a_seal_takes_neither_parents_nor_what_is_not_due(self, desk: Desk) -> None:
        """Behind a family a later call is sealed, not the parent, and what went back waits for its time."""
        admissions = await desk.admit(parent(2), arrival("late"))
        batch = await desk.seal(Cut(max_requests=3))
        whole = await desk.ledger.requests.find(None, "", admissions[0].custom_id)
        sent = await desk.ledger.requests.find(None, "", admissions[1].custom_id)

        assert whole is not None
        assert sent is not None
        assert (whole.state, sent.state, sent.batch) == (RequestState.QUEUED, RequestState.BATCHED, batch.id)

    async def test_the_end_of_a_batch_ends_no_other_wait(self, desk: Desk) -> None:
        """A lane that is parked for its key does not seal because a batch of it has ended."""
        batch = await desk.claimed(BatchState.SUBMITTED)
        now = desk.clock.now()
        await desk.ledger.lanes.park(1, "no key", now + 9, None, 0)
        await desk.ledger.batches.ended(batch, remote(), now)
        await desk.queue(1)
        [window] = await desk.ledger.lanes.windows()

        assert (window.parked_reason, window.retry_at) == ("no key", now + 9)

    async def test_a_second_cancel_stores_nothing(self, desk: Desk) -> None:
        """One outcome waits for a wished cancel, however often it is wished."""
        await desk.claimed(BatchState.SUBMITTED, 2)
        numbers = []
        for seq in (1, 2, 1, 2):
            await desk.ledger.requests.cancel(seq, desk.clock.now(), CANCELLED)
            numbers.append(await desk.ledger.database.read(lambda session: session.row("next_result", {})))

        assert numbers == [(2,), (3,), (3,), (3,)]

    async def test_what_was_promised_is_not_abandoned(self, desk: Desk) -> None:
        """Who was told to come back finds the request, though somebody else who waited for it has hung up."""
        [waiting] = await desk.admit(arrival("a", custom_id="n"))
        await desk.admit(arrival("a", custom_id="n", ask=Ask(detached=True)))
        now = desk.clock.now()
        await desk.ledger.requests.depart([left(waiting.seq, now - 200)])

        assert await desk.ledger.requests.cancel_abandoned(now - 120, CANCELLED, 10) == []

    async def test_what_waits_is_never_forgotten(self, desk: Desk) -> None:
        """However long ago it was accepted: queued, in a batch, or behind others."""
        await desk.claimed(BatchState.SUBMITTED, 1)
        await desk.queue(2)
        desk.clock.jump(9e9)

        assert await desk.ledger.requests.forget(desk.clock.now(), 10) == 0
        assert len(await desk.ledger.requests.listed(None)) == 3

    async def test_the_newest_request_keeps_its_number(self, desk: Desk) -> None:
        """Retention leaves it, so that no later request has the id, and the lines, of an earlier one."""
        seqs = await desk.queue(2)
        await desk.ledger.requests.cancel(seqs[0], desk.clock.now(), CANCELLED)
        await desk.ledger.requests.cancel(seqs[1], desk.clock.now(), CANCELLED)
        await desk.ledger.requests.depart([left(seq, desk.clock.now(), delivered=True) for seq in seqs])
        desk.clock.jump(1000)

        assert await desk.ledger.requests.forget(desk.clock.now(), 10) == 1
        assert await desk.queue(1) == [seqs[1] + 1]

    async def test_the_newest_batch_keeps_its_number(self, desk: Desk) -> None:
        """Retention leaves it, so that no later batch has the lines of an earlier one."""
        batch = await self._forgettable(desk)
        await desk.queue(1)
        await desk.ledger.requests.forget(desk.clock.now(), 10)

        assert await desk.ledger.batches.get(batch.id) is not None

    async def test_a_batch_is_kept_as_long_as_a_request_of_it(self, desk: Desk) -> None:
        """An answer that can still be read says which batch it came in."""
        batch = await self._forgettable(desk)
        later = await self._forgettable(desk)
        await desk.ledger.requests.forget(desk.clock.now(), 1)

        assert [row.batch for row in await desk.ledger.requests.listed(None)] == [batch.id, later.id, later.id]
        assert await desk.ledger.batches.get(batch.id) is not None

    async def test_a_batch_is_kept_until_its_files_are_gone(self, desk: Desk) -> None:
        """As long as files of it may be left at the provider somebody must know of them."""
        batch = await self._forgettable(desk, discarded=False)
        await self._forgettable(desk)
        await desk.ledger.requests.forget(desk.clock.now(), 10)
        await desk.ledger.requests.forget(desk.clock.now(), 10)

        assert await desk.ledger.batches.get(batch.id) is not None

    async def _forgettable(self, desk: Desk, *, discarded: bool = True) -> BatchRow:
        """A batch of two that was over long ago."""
        batch = await desk.collect(await desk.claimed(BatchState.ENDED, 2), [settled(0), settled(1)])
        if discarded:
            await desk.ledger.batches.discarded(batch)
        await desk.ledger.requests.depart([left(seq, desk.clock.now(), delivered=True) for seq in range(1, 9)])
        desk.clock.jump(1000)
        return batch
