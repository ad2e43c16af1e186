"""In whose words the requests of a lane are written, and what is only rehearsed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.store.rows import Ask
from gateway.store.shipping import Cut
from tests.unit.store.scenery import LANE, Desk, arrival

MEANT = replace(LANE, kind="openai")
REHEARSED = replace(LANE, kind="sandbox:openai")


class KindsConformance:
    """Inherited by `LedgerConformance`."""

    async def test_what_is_written_in_other_words_shares_no_batch(self, desk: Desk) -> None:
        """Requests for one model under several kinds of their provider, simulated and not, wait in windows of their own."""
        kinds = ["openai", "mistral", "sandbox:openai", "openai"]
        await desk.admit(*(arrival(f"{n}", lane=replace(LANE, kind=kind)) for n, kind in enumerate(kinds)))
        windows = await desk.ledger.lanes.windows()

        assert {window.lane.kind: window.count for window in windows} == {
            "openai": 2,
            "mistral": 1,
            "sandbox:openai": 1,
        }
        assert [request.lane.kind for request in await desk.ledger.requests.listed(None)] == kinds
        askable = await desk.ledger.completions.lanes(LANE.provider)
        assert [each.lane for each in askable] == [window.lane for window in windows]
        assert (await desk.seal(lane_id=windows[1].lane_id)).lane == windows[1].lane

    @pytest.mark.parametrize(
        ("old", "first", "other"), [("", "openai", "sandbox:openai"), ("sandbox:", "sandbox:x", "x")]
    )
    async def test_a_lane_of_an_earlier_version_goes_on(self, desk: Desk, old: str, first: str, other: str) -> None:
        """A lane that does not know its kind is that of whoever comes first; a rehearsal's is not taken for what is meant."""
        await desk.admit(arrival("old", lane=replace(LANE, kind=old)))
        await desk.admit(
            arrival("apart", lane=replace(LANE, kind=other)), arrival("new", lane=replace(LANE, kind=first))
        )
        await desk.admit(arrival("later", lane=replace(LANE, kind="changed")))
        windows = await desk.ledger.lanes.windows()

        assert {window.lane.kind: window.count for window in windows} == {first: 2, other: 1, "changed": 1}

    @pytest.mark.parametrize("over", [False, True])
    async def test_a_name_that_was_only_rehearsed_is_free(self, desk: Desk, over: bool) -> None:
        """Who means it gets the name, whatever a rehearsal asked under it, and is asked: under this body and under others."""
        [rehearsed] = await desk.admit(arrival("q", custom_id="n", lane=REHEARSED))
        if over:
            await desk.answer()
        [absent] = await desk.admit(arrival("q", custom_id="n", lane=MEANT, ask=Ask(only_if_cached=True)))
        [meant] = await desk.admit(arrival("another body", custom_id="n", lane=MEANT))
        found = await desk.ledger.requests.find("", "", "n")

        assert absent.absent
        assert (meant.fresh, meant.conflict, meant.ending) == (True, False, None)
        assert meant.seq != rehearsed.seq
        assert found is not None
        assert (found.seq, found.lane) == (meant.seq, MEANT)

    async def test_a_rehearsal_is_given_what_is_there(self, desk: Desk) -> None:
        """In a rehearsal a name finds what was meant, answered or not, and what was rehearsed before: it takes no name away."""
        [meant] = await desk.admit(arrival("q", custom_id="n", lane=MEANT))
        [joined] = await desk.admit(arrival("q", custom_id="n", lane=REHEARSED))
        await desk.answer()
        [served] = await desk.admit(arrival("q", custom_id="n", lane=REHEARSED))
        [conflict] = await desk.admit(arrival("another body", custom_id="n", lane=REHEARSED))
        first, again = await desk.admit(*(arrival("r", custom_id="m", lane=REHEARSED) for _ in range(2)))

        assert (joined.seq, joined.fresh, served.seq, conflict.conflict) == (meant.seq, False, meant.seq, True)
        assert served.ending is not None
        assert (again.seq, again.fresh) == (first.seq, False)

    async def test_a_rehearsal_fills_no_room(self, desk: Desk) -> None:
        """What a simulator has open takes no room from what is meant, nor the other way round, also under one account."""
        await desk.admit(arrival("q", lane=REHEARSED, tokens=7))
        now, batches = desk.clock.now(), desk.ledger.batches
        batch = await batches.seal(1, Cut(), desk.marker(), "acc", "sandbox:sim", now)
        assert batch is not None
        await batches.intend(await desk.claim(batch.id), now)
        lanes = desk.ledger.lanes
        meant, rehearsed = await lanes.load("sim", now, "acc"), await lanes.load("sim", now, "acc", rehearsal=True)

        assert (meant.open_batches, meant.creates_last_hour, meant.enqueued_tokens) == (0, 0, {})
        assert (rehearsed.open_batches, rehearsed.creates_last_hour, rehearsed.enqueued_tokens) == (1, 1, {"m-1": 7})
