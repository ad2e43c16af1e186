"""Lines, settling, collecting, dissolving, the bill."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import LedgerError
from gateway.records import BatchState, RequestState
from gateway.store.batches import SETTLE_AT_MOST
from gateway.store.rows import Ask
from gateway.store.shipping import Settlement, Usage
from tests.unit.store.scenery import CANCELLED, REFUSED, Desk, arrival, failure, remote, returned, settled


class SettlingConformance:
    """Inherited by `LedgerConformance`."""

    async def test_lines_and_members_are_read_a_page_at_a_time(self, desk: Desk) -> None:
        """Payloads in order after a place; members by place; both without those that are settled."""
        batch = await desk.claimed(BatchState.ENDED, 5)
        await desk.ledger.batches.settle(batch, [settled(1)], desk.clock.now())
        await desk.ledger.requests.cancel(3, desk.clock.now(), CANCELLED)
        batches = desk.ledger.batches

        def read() -> None:
            with desk.ledger.database.reader() as session:
                lines = batches.lines(session, batch.id, -1, 3)
                assert [line.n for line in lines] == [0, 2, 3]
                assert lines[0].payload.startswith(b"question 0")
                assert [line.n for line in batches.lines(session, batch.id, 3, 3)] == [4]
                members = batches.members(session, batch.id)
                assert [(member.n, member.seq) for member in members] == [(0, 1), (2, 3), (3, 4), (4, 5)]
                assert (len(members), members.get(1), members.get(-1), members.get(5)) == (4, None, None, None)
                wished = members.get(2)
                assert wished is not None
                assert (wished.cancel_at, wished.attempts) == (desk.clock.now(), 0)

        await asyncio.to_thread(read)

    async def test_settled_lines_end_their_requests(self, desk: Desk) -> None:
        """Answers and failures reach their own requests, with what they cost; the rest goes back for later."""
        batch = await desk.claimed(BatchState.ENDED, 3)
        now = desk.clock.now()
        ended = await desk.ledger.batches.settle(batch, [settled(2), settled(0, failure()), returned(1, now + 60)], now)
        ending = await desk.ledger.requests.ending(3)
        [back] = await desk.ledger.requests.listed(None, [RequestState.QUEUED])

        assert {row.seq: (row.n, row.state, row.ordinal) for row in ended} == {
            3: (2, RequestState.SUCCEEDED, 0),
            1: (0, RequestState.FAILED, 0),
        }
        assert ending is not None
        assert (ending.body, ending.batch, ending.provider) == (b'{"n":2}', batch.id, "sim")
        assert (back.seq, back.attempts, back.batch, back.ready_at) == (2, 1, None, now + 60)

    async def test_settling_again_changes_nothing(self, desk: Desk) -> None:
        """A result file that is read again after a crash neither ends nor books anything twice, whatever it says then."""
        batch = await desk.claimed(BatchState.ENDED, 2)
        batches, now = desk.ledger.batches, desk.clock.now()
        await batches.settle(batch, [settled(0), returned(1, billed=True, cost_usd=1.0)], now)
        paid = await desk.ledger.bills.totals()
        again = await batches.settle(batch, [settled(0, failure(), cost_usd=9.0), settled(1, cost_usd=9.0)], now + 1)
        ending = await desk.ledger.requests.ending(1)

        assert again == []
        assert await desk.ledger.bills.totals() == paid
        assert ending is not None
        assert ending.state is RequestState.SUCCEEDED

    async def test_a_line_named_twice_counts_once(self, desk: Desk) -> None:
        """The first row of a line decides, in one chunk or in two."""
        batch = await desk.claimed(BatchState.ENDED, 1)
        ended = await desk.ledger.batches.settle(batch, [settled(0), settled(0, failure())], desk.clock.now())

        assert [row.state for row in ended] == [RequestState.SUCCEEDED]
        assert [bill.lines for bill in await desk.ledger.bills.totals()] == [1]

    async def test_a_chunk_is_bounded(self, desk: Desk) -> None:
        """A settlement longer than callers should wait for is refused."""
        batch = await desk.claimed(BatchState.ENDED, 1)
        with pytest.raises(ValueError, match="too many"):
            await desk.ledger.batches.settle(batch, [settled(n) for n in range(SETTLE_AT_MOST + 1)], 0.0)

    async def test_a_batch_is_collected_only_when_every_line_is_settled(self, desk: Desk) -> None:
        """Closing it earlier would leave requests waiting for ever, so it is refused and nothing changes."""
        batch = await desk.claimed(BatchState.ENDED, 2)
        await desk.ledger.batches.settle(batch, [settled(0)], desk.clock.now())
        with pytest.raises(LedgerError, match="not settled"):
            await desk.ledger.batches.collected(batch, desk.clock.now())

        assert await desk.ledger.batches.get(batch.id) == batch

    async def test_a_lane_learns_from_what_was_counted(self, desk: Desk) -> None:
        """Estimates move half-way towards the provider's count, and a target grows by a tenth."""
        batch = await desk.claimed(BatchState.ENDED, 2)
        await desk.ledger.lanes.shrink(1, target_tokens=1000, now=0.0, first_pause=1, longest_pause=1)
        await desk.collect(batch, [settled(0), settled(1)])
        await desk.queue(1, tokens=100)
        [window] = await desk.ledger.lanes.windows()

        assert (window.token_factor, window.tokens, window.parked_reason) == (1.5, 150, None)
        assert window.target_tokens is not None
        assert 1100 <= window.target_tokens <= 1101

    async def test_what_answers_nobody_is_booked_as_wasted(self, desk: Desk) -> None:
        """A billed line whose request has left the batch, or that goes back, is paid in vain and says so."""
        batch = await desk.claimed(BatchState.ENDED, 3)
        await desk.ledger.batches.settle(
            batch,
            [
                settled(0, cost_usd=1.0, saved_usd=1.0),
                returned(1, billed=True, cost_usd=2.0),
                settled(2, cost_usd=None, saved_usd=None),
                settled(7, cost_usd=4.0),
            ],
            desk.clock.now(),
        )
        [bill] = await desk.ledger.bills.totals()

        assert (bill.provider, bill.model, bill.requests, bill.lines) == ("sim", "m-1", 2, 4)
        assert (bill.cost_usd, bill.saved_usd, bill.wasted_usd) == (7.0, 1.0, 6.0)
        assert (bill.wasted_lines, bill.unpriced_lines) == (2, 1)
        assert await desk.ledger.bills.wasted() == {"sim": 6.0}

    async def test_a_dissolved_batch_gives_its_requests_back(self, desk: Desk) -> None:
        """Refused lines fail, unwanted ones end cancelled, the rest is due at once with its age and attempts."""
        batch = await desk.claimed(BatchState.SUBMITTING, 4)
        queued_at = desk.clock.now()
        desk.clock.jump(50)
        await desk.ledger.requests.cancel(2, desk.clock.now(), CANCELLED)
        parts, ended = await desk.ledger.batches.dissolve(batch, desk.clock.now(), {0: REFUSED})
        [window] = await desk.ledger.lanes.windows()
        rows = await desk.ledger.requests.listed(None, [RequestState.QUEUED])

        assert parts == []
        assert {row.seq: row.state for row in ended} == {1: RequestState.FAILED, 2: RequestState.CANCELLED}
        assert (window.count, window.fresh, window.oldest_at) == (2, 0, queued_at)
        assert [(row.seq, row.attempts, row.queued_at) for row in rows] == [(3, 0, queued_at), (4, 0, queued_at)]
        assert (await desk.seal()).count == 2

    async def test_a_batch_can_be_dissolved_for_later(self, desk: Desk) -> None:
        """With a moment before which nothing is to be tried, its requests wait in no window until then."""
        batch = await desk.claimed(BatchState.SEALED, 2)
        later = desk.clock.now() + 60
        await desk.ledger.batches.dissolve(batch, desk.clock.now(), {}, not_before=later)

        assert await desk.ledger.lanes.windows() == []
        assert await desk.ledger.requests.ripen(later, 10) == 2

    @pytest.mark.parametrize(("count", "sizes"), [(5, [3, 2]), (2, [1, 1]), (1, [1])])
    async def test_a_batch_is_halved_in_one_step(self, desk: Desk, count: int, sizes: list[int]) -> None:
        """Its lines become new sealed batches in their order, numbered anew; nothing passes through the lane."""
        batch = await desk.claimed(BatchState.SUBMITTING, count)
        markers = [desk.marker(), desk.marker()]
        parts, ended = await desk.ledger.batches.dissolve(batch, desk.clock.now(), {}, markers)
        lines = {row.seq: (row.batch, row.n) for row in await desk.ledger.requests.listed(None)}
        expected = [(part.id, n) for part in parts for n in range(part.count)]

        assert ([part.count for part in parts], ended) == (sizes, [])
        assert [part.marker for part in parts] == markers[: len(parts)]
        assert [(part.size, part.tokens, part.state) for part in parts] == [
            (100 * size, 10 * size, BatchState.SEALED) for size in sizes
        ]
        assert list(lines.values()) == expected
        assert await desk.ledger.lanes.windows() == []

    async def test_what_was_in_vain_is_counted(self, desk: Desk) -> None:
        """Creates in doubt that made nothing, and batches that vanished; a refused create is neither; halves count on."""
        batches, now = desk.ledger.batches, desk.clock.now()
        batch = await batches.reseal(await desk.claimed(BatchState.SUBMITTING, 2), now, "status 429")
        batch = await batches.doubt(await batches.intend(await desk.claim(batch.id), now), "timeout", now)
        batch = await batches.reseal(await desk.claim(batch.id), now)
        sent = await batches.submitted(await batches.intend(await desk.claim(batch.id), now), remote(), now, now)
        batch = await batches.doubt(await desk.claim(sent.id), "missing", now)
        batch = await batches.reseal(await desk.claim(batch.id), now)
        assert (batch.submissions, batch.unfound, batch.vanished) == (3, 1, 1)

        halves, _ = await batches.dissolve(await desk.claim(batch.id), now, {}, [desk.marker(), desk.marker()])
        assert [(half.submissions, half.unfound, half.vanished) for half in halves] == [(0, 1, 1)] * 2

    async def test_what_goes_to_the_cache_is_told(self, desk: Desk) -> None:
        """The collector learns fingerprint and place of each sample, and which must not be kept."""
        await desk.admit(arrival("a"), arrival("b", ask=Ask(no_store=True)), arrival("c", custom_id="n"))
        batches, now = desk.ledger.batches, desk.clock.now()
        batch = await batches.intend(await desk.claim((await desk.seal()).id), now)
        batch = await desk.claim((await batches.submitted(batch, remote(), now, now)).id)
        batch = await desk.claim((await batches.ended(batch, remote(), now)).id)
        ended = await batches.settle(batch, [settled(n) for n in range(3)], now)

        assert [(row.fingerprint, row.ordinal, row.no_store) for row in sorted(ended, key=lambda row: row.n)] == [
            (arrival("a").fingerprint, 0, False),
            (arrival("b").fingerprint, 0, True),
            (arrival("c").fingerprint, None, False),
        ]

    async def test_usage_of_a_line_may_be_unknown(self, desk: Desk) -> None:
        """A line without usage or price is settled all the same."""
        batch = await desk.claimed(BatchState.ENDED, 2)
        usage = Usage(input_tokens=1, cached_tokens=1, output_tokens=1)
        bare = Settlement(n=0, status=0, ending=failure(), trouble="missing")
        await desk.collect(batch, [bare, settled(1, usage=usage)])

        assert (await desk.ledger.requests.tally())[RequestState.FAILED] == 1
