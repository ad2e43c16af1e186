"""Windows, sealing, claims and every move of a batch, each fenced."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from gateway.clock import as_datetime
from gateway.errors import StaleEpoch
from gateway.records import BATCH_MOVES, BatchState, RemoteState, RequestState
from gateway.store.batches import SETTLE_AT_MOST
from gateway.store.database import Session
from gateway.store.lanes import TOKEN_LIMIT
from gateway.store.rows import LaneKey
from gateway.store.shipping import BatchRow, Cut
from tests.unit.store.scenery import CANCELLED, LANE, Desk, remote, settled

OPEN = [BatchState.SEALED, BatchState.SUBMITTING, BatchState.SUBMITTED, BatchState.RECONCILING, BatchState.ENDED]

#: Every verb that writes to a claimed batch, with the state it leads to (None: it stays).
VERBS: dict[str, tuple[BatchState | None, Callable[[Desk, BatchRow], Awaitable[object]]]] = {
    "release": (None, lambda desk, batch: desk.ledger.batches.release(batch, retry_at=1.0)),
    "uploaded": (None, lambda desk, batch: desk.ledger.batches.uploaded(batch, "file-1")),
    "intend": (BatchState.SUBMITTING, lambda desk, batch: desk.ledger.batches.intend(batch, 1.0)),
    "submitted": (BatchState.SUBMITTED, lambda desk, batch: desk.ledger.batches.submitted(batch, remote(), 1.0, 2.0)),
    "reseal": (BatchState.SEALED, lambda desk, batch: desk.ledger.batches.reseal(batch, 1.0, "429")),
    "doubt": (BatchState.RECONCILING, lambda desk, batch: desk.ledger.batches.doubt(batch, "lost", 1.0)),
    "polled": (None, lambda desk, batch: desk.ledger.batches.polled(batch, remote(), 1.0)),
    "ended": (BatchState.ENDED, lambda desk, batch: desk.ledger.batches.ended(batch, remote(), 1.0)),
    "shown": (None, lambda desk, batch: desk.ledger.batches.shown(batch, remote())),
    "resumed": (BatchState.SUBMITTED, lambda desk, batch: desk.ledger.batches.resumed(batch, remote(), 1.0)),
    "fetching": (None, lambda desk, batch: desk.ledger.batches.fetching(batch)),
    "fetched": (None, lambda desk, batch: desk.ledger.batches.fetched(batch)),
    "settle": (None, lambda desk, batch: desk.ledger.batches.settle(batch, [settled(0)], 1.0)),
    "collected": (BatchState.COLLECTED, lambda desk, batch: desk.ledger.batches.collected(batch, 1.0)),
    "dissolve": (BatchState.DISSOLVED, lambda desk, batch: desk.ledger.batches.dissolve(batch, 1.0, {})),
    "mark_cancelling": (None, lambda desk, batch: desk.ledger.batches.mark_cancelling(batch, 1.0)),
}

#: Two verbs lead to `submitted`; of the beginnings that the table has for it, this one has the last.
ENDED_ONLY = "resumed"


def may_begin(verb: str, state: BatchState) -> bool:
    """Whether a verb that changes the state works from `state`."""
    leads_to, _ = VERBS[verb]
    if leads_to is BatchState.SUBMITTED and (verb == ENDED_ONLY) != (state is BatchState.ENDED):
        return False
    return leads_to in BATCH_MOVES[state]


class BatchesConformance:
    """Inherited by `LedgerConformance`."""

    async def test_a_window_says_what_sealing_depends_on(self, desk: Desk) -> None:
        """Counts, sums, age and last arrival of what is due in each lane, and nothing of empty lanes."""
        await desk.queue(2, size=100, tokens=10)
        began = desk.clock.now()
        desk.clock.jump(7)
        await desk.queue(1, size=50, tokens=5)
        [window] = await desk.ledger.lanes.windows()

        assert (window.lane, window.count, window.size, window.tokens, window.fresh) == (LANE, 3, 250, 25, 3)
        assert (window.oldest_at, window.last_arrival_at) == (began, began + 7)
        assert (window.in_flight, window.oldest_in_flight_at, window.turnarounds) == (0, None, ())
        await desk.seal()
        assert await desk.ledger.lanes.windows() == []

    @pytest.mark.parametrize(
        ("cut", "count"),
        [
            (Cut(), 5),
            (Cut(max_requests=3), 3),
            (Cut(max_bytes=250), 2),
            (Cut(max_tokens=40), 4),
            (Cut(max_bytes=1, max_tokens=1), 1),
            (Cut(max_requests=4, max_bytes=350, max_tokens=50), 3),
        ],
    )
    async def test_a_seal_takes_the_oldest_within_its_limits(self, desk: Desk, cut: Cut, count: int) -> None:
        """The longest run from the front that fits, at least one; in order, numbered from 0; the rest stays."""
        seqs = await desk.queue(5, size=100, tokens=10)
        batch = await desk.seal(cut)
        rows = [
            await desk.ledger.requests.find(None, "", row.custom_id) for row in await desk.ledger.requests.listed(None)
        ]
        members = [(row.n, row.seq) for row in rows if row is not None and row.batch == batch.id]

        assert members == list(enumerate(seqs[:count]))
        assert (batch.count, batch.size, batch.tokens) == (count, 100 * count, 10 * count)
        assert (batch.state, batch.epoch, batch.account, batch.base_url) == (BatchState.SEALED, 0, "acc", "http://api")

    async def test_sealing_an_empty_window_makes_nothing(self, desk: Desk) -> None:
        """No batch without a request."""
        assert await desk.ledger.batches.seal(1, Cut(), desk.marker(), "", "", 0.0) is None
        assert await desk.ledger.batches.listed() == []

    async def test_lanes_do_not_mix(self, desk: Desk) -> None:
        """A batch has requests of one lane only."""
        await desk.queue(2)
        await desk.queue(3, lane=LaneKey(provider="sim", endpoint=LANE.endpoint, model="m-2"))

        assert [(await desk.seal(lane_id=lane)).count for lane in (1, 2)] == [2, 3]

    async def test_a_claim_is_exclusive_until_it_is_given_back(self, desk: Desk) -> None:
        """One worker at a time, in the same process too; each claim has an epoch of its own."""
        await desk.queue(1)
        batch = await desk.seal()
        batches, now = desk.ledger.batches, desk.clock.now()
        [first] = await batches.claim([BatchState.SEALED], now, 10)

        assert first.epoch == batch.epoch + 1
        assert await batches.claim([BatchState.SEALED], now, 10) == []
        assert await batches.claim_one(batch.id) is None
        await batches.release(first, retry_at=now + 5, parked_reason="why", troubles=2)
        assert await batches.claim([BatchState.SEALED], now + 4, 10) == []
        [second] = await batches.claim([BatchState.SEALED], now + 5, 10)
        assert (second.epoch, second.parked_reason, second.troubles) == (first.epoch + 1, "why", 2)

    async def test_simultaneous_claims_share_the_work(self, desk: Desk) -> None:
        """Two workers that claim at the same moment never get the same batch."""
        for _ in range(4):
            await desk.queue(1)
            await desk.seal()
        claims = [desk.ledger.batches.claim([BatchState.SEALED], desk.clock.now(), 3) for _ in range(2)]
        ids = [batch.id for claimed in await asyncio.gather(*claims) for batch in claimed]

        assert len(ids) == len(set(ids)) >= 3

    @pytest.mark.parametrize("verb", VERBS)
    async def test_a_stale_claim_writes_nothing(self, desk: Desk, verb: str) -> None:
        """Whoever's claim was overtaken is told so by every verb, and the batch stays as it is."""
        leads_to, call = VERBS[verb]
        for state in OPEN:
            if leads_to is not None and not may_begin(verb, state):
                continue
            batch = await desk.claimed(state)
            stale = replace(batch, epoch=batch.epoch - 1)
            with pytest.raises(StaleEpoch):
                await call(desk, stale)
            assert await desk.ledger.batches.get(batch.id) == batch

    @pytest.mark.parametrize("state", OPEN)
    @pytest.mark.parametrize("verb", [verb for verb, (leads_to, _) in VERBS.items() if leads_to is not None])
    async def test_batches_move_as_the_table_says(self, desk: Desk, verb: str, state: BatchState) -> None:
        """A verb that changes the state works from exactly the states of `BATCH_MOVES`, and from no other."""
        leads_to, call = VERBS[verb]
        batch = await desk.claimed(state)
        if state is BatchState.ENDED:
            await desk.ledger.batches.settle(batch, [settled(n) for n in range(3)], 1.0)
        allowed = may_begin(verb, state)
        if allowed:
            await call(desk, batch)
        else:
            with pytest.raises(StaleEpoch):
                await call(desk, batch)
        after = await desk.ledger.batches.get(batch.id)

        assert after is not None
        assert after.state is (leads_to if allowed else state)

    async def test_the_way_of_a_batch_is_kept(self, desk: Desk) -> None:
        """Upload, intent, submission, polls and end each leave what they said."""
        batch = await desk.claimed(BatchState.SEALED)
        batches = desk.ledger.batches
        batch = await batches.uploaded(batch, "file-1")
        batch = await batches.intend(batch, 10.0)
        assert (batch.file_id, batch.state, batch.submissions) == ("file-1", BatchState.SUBMITTING, 1)
        batch = await desk.claim((await batches.reseal(batch, 11.0, "429", 1)).id)
        batch = await batches.intend(batch, 20.0)
        assert (batch.submissions, batch.first_sent_at, batch.last_sent_at) == (2, 10.0, 20.0)
        sent = remote("r-9", created=as_datetime(15.0), total=3, where={"output": "o-1"})
        batch = await desk.claim((await batches.submitted(batch, sent, 21.0, 22.0)).id)
        assert (batch.remote_id, batch.submitted_at, batch.remote_created_at, batch.total) == ("r-9", 21.0, 15.0, 3)
        batch = await desk.claim((await batches.polled(batch, remote("r-9", done=2), 30.0)).id)
        assert (batch.total, batch.done, batch.remote_created_at, batch.retry_at) == (3, 2, 15.0, 30.0)
        end = remote("r-9", RemoteState.ENDED, where={"output": "o-2"})
        batch = await desk.claim((await batches.ended(batch, end, 40.0)).id)
        assert (batch.state, batch.ended_at, batch.remote_state) == (BatchState.ENDED, 40.0, RemoteState.ENDED)
        assert (batch.where, batch.ambiguous, batch.troubles) == ({"output": "o-2"}, False, 0)
        batch = await batches.fetched(await batches.fetching(batch))
        assert (batch.fetches, batch.fetched) == (1, True)

    async def test_a_doubtful_batch_is_remembered_as_such(self, desk: Desk) -> None:
        """However it is resolved, it was ambiguous once."""
        batch = await desk.claimed(BatchState.RECONCILING)
        adopted = await desk.ledger.batches.submitted(batch, remote("found"), 1.0, 1.0)

        assert (adopted.ambiguous, adopted.state, adopted.remote_id) == (True, BatchState.SUBMITTED, "found")

    async def test_load_counts_what_is_open(self, desk: Desk) -> None:
        """Open batches, tokens by model and create calls of the last hour; ended ones hold nothing any more."""
        other = LaneKey(provider="sim", endpoint=LANE.endpoint, model="m-2")
        await desk.claimed(BatchState.SUBMITTED, 2)
        await desk.claimed(BatchState.ENDED, 4)
        await desk.queue(1, tokens=7, lane=other)
        await desk.seal(lane_id=2)
        load = await desk.ledger.lanes.load("sim", desk.clock.now())

        assert (load.open_batches, load.creates_last_hour) == (2, 2)
        assert load.enqueued_tokens == {"m-1": 20, "m-2": 7}
        assert (await desk.ledger.lanes.load("sim", desk.clock.now() + 3601)).creates_last_hour == 0
        assert (await desk.ledger.lanes.load("none", desk.clock.now())).open_batches == 0

    async def test_a_window_knows_what_is_in_flight_and_how_long_it_takes(self, desk: Desk) -> None:
        """Batches at work count, parked and doubtful ones do not; turnarounds of the last five collected, latest first."""
        for seconds in range(10, 16):
            await desk.queue(1)
            sealed = await desk.seal()
            desk.clock.jump(seconds)
            batch = await self._ended(desk, sealed)
            await desk.collect(batch, [settled(0)])
        await desk.claimed(BatchState.RECONCILING)
        parked = await desk.claimed(BatchState.SEALED)
        await desk.ledger.batches.release(parked, retry_at=0.0, parked_reason="key missing")
        working = await desk.claimed(BatchState.SUBMITTED)
        await desk.queue(1)
        [window] = await desk.ledger.lanes.windows()

        assert (window.in_flight, window.oldest_in_flight_at) == (1, working.sealed_at)
        assert window.turnarounds == (15.0, 14.0, 13.0, 12.0, 11.0)

    async def _ended(self, desk: Desk, sealed: BatchRow) -> BatchRow:
        """`sealed`, taken to its end and claimed."""
        batches, now = desk.ledger.batches, desk.clock.now()
        batch = await batches.intend(await desk.claim(sealed.id), now)
        batch = await desk.claim((await batches.submitted(batch, remote(), now, now)).id)
        return await desk.claim((await batches.ended(batch, remote(), now)).id)

    async def test_a_token_limit_parks_its_lane_until_a_batch_ends(self, desk: Desk) -> None:
        """Each refusal doubles the wait, up to the longest; the end of a batch ends it; another reason stays."""
        batch = await desk.claimed(BatchState.SUBMITTED)
        lanes, now = desk.ledger.lanes, desk.clock.now()
        pauses = [
            await lanes.shrink(1, target_tokens=500, now=now, first_pause=60, longest_pause=200) for _ in range(4)
        ]
        await desk.queue(1)
        [parked] = await lanes.windows()
        await desk.ledger.batches.ended(batch, remote(), now)
        [relieved] = await lanes.windows()
        await lanes.park(1, "no key", now + 9, 500, 0)
        [other] = await lanes.windows()

        assert pauses == [60, 120, 200, 200]
        assert (parked.parked_reason, parked.retry_at, parked.target_tokens) == (TOKEN_LIMIT, now + 200, 500)
        assert (relieved.parked_reason, relieved.retry_at, relieved.park_steps) == (None, 0, 0)
        assert (other.parked_reason, other.retry_at) == ("no key", now + 9)
        await lanes.unpark(1)
        assert (await lanes.windows())[0].parked_reason is None

    async def test_batches_are_listed_for_people(self, desk: Desk) -> None:
        """Newest first, by state; open ones of a provider and account; names of remote batches that are ours."""
        first = await desk.claimed(BatchState.SUBMITTED)
        second = await desk.claimed(BatchState.SEALED)
        batches = desk.ledger.batches

        assert [batch.id for batch in await batches.listed()] == [second.id, first.id]
        assert [batch.id for batch in await batches.listed([BatchState.SUBMITTED])] == [first.id]
        assert [batch.id for batch in await batches.open_of("sim")] == [first.id, second.id]
        assert [batch.id for batch in await batches.open_beside(first)] == [first.id, second.id]
        assert await batches.open_beside(replace(first, account="other")) == []
        assert await batches.known_remote_ids(second, ["r-0", f"r-{first.id}", "r-x"]) == {f"r-{first.id}"}
        assert await batches.open_counts() == {("sim", BatchState.SUBMITTED): 1, ("sim", BatchState.SEALED): 1}

    async def test_a_batch_nobody_wants_is_found(self, desk: Desk) -> None:
        """Once every unsettled line is unwanted the batch is listed, until its cancel has been asked for."""
        batch = await desk.claimed(BatchState.SUBMITTED, 2)
        batches, now = desk.ledger.batches, desk.clock.now()
        await desk.ledger.requests.cancel(1, now, CANCELLED)
        assert await batches.cancelled_whole(10) == []
        assert not await batches.unwanted(batch.id)
        assert await batches.cancel_members(batch.id, CANCELLED, now) == 1
        assert await batches.unwanted(batch.id)
        assert [found.id for found in await batches.cancelled_whole(10)] == [batch.id]
        marked = await batches.mark_cancelling(batch, now)
        assert (marked.cancel_at, await batches.cancelled_whole(10)) == (now, [])
        assert await batches.cancel_members(99, CANCELLED, now) is None
        assert not await batches.unwanted(99)

    async def test_a_cancel_goes_on_though_the_batch_falls_apart(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A large batch is cancelled some lines at a time: those that go back to their lane meanwhile are not sealed anew."""
        batch = await desk.claimed(BatchState.SEALED, SETTLE_AT_MOST + 1)
        write, now = desk.ledger.database.write, desk.clock.now()

        async def then_dissolve(op: Callable[[Session], object], *, bulk: bool = False) -> object:
            monkeypatch.undo()
            done = await write(op, bulk=bulk)
            await desk.ledger.batches.dissolve(batch, now, {})
            return done

        monkeypatch.setattr(desk.ledger.database, "write", then_dissolve)
        marked = await desk.ledger.batches.cancel_members(batch.id, CANCELLED, now)

        assert marked == SETTLE_AT_MOST + 1
        assert (await desk.ledger.requests.tally())[RequestState.CANCELLED] == marked
        assert await desk.ledger.lanes.windows() == []
        assert all(totals == counted for totals, counted in await desk.totals_and_recount())

    async def test_remote_files_are_discarded_once(self, desk: Desk) -> None:
        """A batch that is over is listed until its files are gone, and not before its time."""
        batch = await desk.claimed(BatchState.ENDED, 1)
        done = await desk.collect(batch, [settled(0)])
        batches, now = desk.ledger.batches, desk.clock.now()
        later = await batches.release(done, retry_at=now + 60)

        assert await batches.undiscarded(now, 10) == []
        assert [found.id for found in await batches.undiscarded(now + 60, 10)] == [later.id]
        await batches.discarded(later)
        assert await batches.undiscarded(now + 60, 10) == []

    async def test_it_is_known_since_when_a_batch_is_parked(self, desk: Desk) -> None:
        """From its first reason on, whatever reasons follow; and anew when there was none in between."""
        batches, start = desk.ledger.batches, desk.clock.now()
        batch = await batches.release(await desk.claimed(BatchState.SEALED), retry_at=0.0, parked_reason="key refused")
        await desk.clock.advance(10)
        still = await batches.release(await desk.claim(batch.id), retry_at=0.0, parked_reason="no such project")
        free = await batches.release(await desk.claim(batch.id), retry_at=0.0)
        await desk.clock.advance(10)
        again = await batches.reseal(await batches.intend(await desk.claim(batch.id), start), 0.0, "refused connection")
        await desk.clock.advance(10)
        doubtful = await batches.doubt(await batches.intend(await desk.claim(batch.id), start), "timeout", 0.0)
        anew = await batches.submitted(await desk.claim(batch.id), remote(), start, start)

        assert [each.parked_since for each in (batch, still, free, again, doubtful, anew)] == [
            start, start, None, start + 20, start + 20, None,
        ]  # fmt: skip
