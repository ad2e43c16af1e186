"""The batcher at work on a real ledger: bursts, scripts, trickles, returned lines, and everything that holds a lane back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.config import Batching
from gateway.records import BatchState, RemoteBatch, RemoteState, RequestState
from gateway.store.rows import LaneKey
from gateway.store.shipping import BatchRow, Cut, Settlement
from tests.unit.pipeline.rig import CHAT, Rig, arrival, open_rig


async def sizes(rig: Rig) -> list[int]:
    """How many requests each batch has, the oldest first."""
    return [batch.count for batch in await rig.batches()]


async def collected(rig: Rig, batch: BatchRow) -> None:
    """Take a batch to its end as if the provider had answered nothing: every line goes back, to be due in a minute."""
    claimed = await rig.ledger.batches.claim_one(batch.id)
    assert claimed is not None
    remote = RemoteBatch(remote_id=f"r{batch.id}", state=RemoteState.ENDED)
    now = rig.clock.now()
    moved = await rig.ledger.batches.intend(claimed, now)
    await rig.ledger.batches.submitted(moved, remote, now, now)
    moved = await rig.ledger.batches.claim_one(batch.id)
    assert moved is not None
    await rig.ledger.batches.ended(moved, remote, now)
    moved = await rig.ledger.batches.claim_one(batch.id)
    assert moved is not None
    back = [
        Settlement(n=n, status=500, ending=None, trouble="server_error", not_before=now + 60)
        for n in range(batch.count)
    ]
    await rig.ledger.batches.settle(moved, back, now)
    await rig.ledger.batches.collected(moved, now)


async def test_a_burst_leaves_together_after_two_quiet_seconds(tmp_path: Path) -> None:
    """Requests that come together are one batch, sealed as soon as nothing more has come for `idle_seconds`."""
    async with open_rig(tmp_path) as rig:
        batcher = rig.batcher()
        await rig.admit(*map(str, range(20)))
        assert 0 < await batcher.tick() <= 2
        assert await rig.batches() == []
        await rig.clock.advance(1)
        await rig.admit("one more")
        await rig.clock.advance(1.5)
        assert await batcher.tick() == pytest.approx(0.5)
        await rig.clock.advance(0.5)
        await batcher.tick()
        assert await sizes(rig) == [21]
        assert await rig.states() == [RequestState.BATCHED] * 21
        assert rig.upstream.sealed.is_set()
        assert b'batches_sealed_total{provider="fake",reason="quiet"} 1.0' in rig.metrics.render()


async def test_a_full_batch_leaves_at_once(tmp_path: Path) -> None:
    """At `max_requests` nothing is waited for; what is over waits on."""
    async with open_rig(tmp_path) as rig:
        batcher = rig.batcher(Batching(max_requests=5))
        await rig.admit(*map(str, range(12)))
        assert await batcher.tick() == 0
        assert await batcher.tick() == 0
        await batcher.tick()
        assert await sizes(rig) == [5, 5]
        assert await rig.states() == [RequestState.BATCHED] * 10 + [RequestState.QUEUED] * 2


async def test_the_providers_limit_caps_the_configured_one(tmp_path: Path) -> None:
    """`max_requests` in the configuration cannot exceed what the provider takes."""
    async with open_rig(tmp_path, {"max_requests": 3}) as rig:
        batcher = rig.batcher(Batching(max_requests=1000))
        await rig.admit(*map(str, range(7)))
        while await batcher.tick() == 0:
            pass
        assert await sizes(rig) == [3, 3]


async def test_no_batch_is_larger_than_the_provider_takes(tmp_path: Path) -> None:
    """Lines are cut so that each batch's bytes stay within the limit."""
    async with open_rig(tmp_path, {"max_bytes": 1000}) as rig:
        batcher = rig.batcher()
        await rig.admit(*("x" * 200 + str(n) for n in range(9)))
        while await batcher.tick() == 0:
            pass
        await rig.clock.advance(31)
        while await batcher.tick() == 0:
            pass
        assert sum(await sizes(rig)) == 9
        assert all(batch.size <= 1000 for batch in await rig.batches())


async def test_a_sequential_script_pays_two_seconds_a_call(tmp_path: Path) -> None:
    """With nothing in flight every single call leaves after `idle_seconds`."""
    async with open_rig(tmp_path) as rig:
        batcher = rig.batcher()
        for n in range(3):
            await rig.admit(f"step {n}")
            await rig.clock.advance(2)
            await batcher.tick()
            await collected(rig, (await rig.batches())[-1])
        assert await sizes(rig) == [1, 1, 1]


async def test_with_a_batch_in_flight_nothing_is_quiet(tmp_path: Path) -> None:
    """While a batch is under way the next window gathers for its age, not for two seconds."""
    async with open_rig(tmp_path) as rig:
        batcher = rig.batcher()
        await rig.admit("first")
        await rig.clock.advance(2)
        await batcher.tick()
        await rig.admit("second")
        await rig.clock.advance(20)
        await batcher.tick()
        assert await sizes(rig) == [1]
        await rig.clock.advance(10)
        await batcher.tick()
        assert await sizes(rig) == [1, 1]


async def test_returned_lines_ripen_and_leave_by_age(tmp_path: Path) -> None:
    """A line that went back counts in no window before its time, then waits for company for a whole window."""
    async with open_rig(tmp_path) as rig:
        batcher = rig.batcher()
        await rig.admit("again")
        await rig.clock.advance(2)
        await batcher.tick()
        await collected(rig, await rig.batch())
        await rig.clock.advance(59)
        await batcher.tick()
        assert await rig.ledger.lanes.windows() == []
        await rig.clock.advance(1)
        await batcher.tick()
        (window,) = await rig.ledger.lanes.windows()
        assert (window.count, window.fresh) == (1, 0)
        await rig.clock.advance(29)
        await batcher.tick()
        assert len(await rig.batches()) == 1
        await rig.clock.advance(1)
        await batcher.tick()
        assert await sizes(rig) == [1, 1]


async def test_flush_seals_what_is_there_and_nothing_that_comes_later(tmp_path: Path) -> None:
    """After a flush the window leaves at the next look; requests that come afterwards wait as ever."""
    async with open_rig(tmp_path) as rig:
        batcher = rig.batcher()
        await rig.admit("a", "b")
        await rig.clock.advance(0.5)
        batcher.flush()
        assert rig.upstream.arrived.is_set()
        await batcher.tick()
        assert await sizes(rig) == [2]
        await rig.clock.advance(0.5)
        await rig.admit("c")
        await batcher.tick()
        assert await sizes(rig) == [2]


async def test_flush_seals_nothing_without_headroom(tmp_path: Path) -> None:
    """An operator's haste does not overrule the provider's limits."""
    async with open_rig(tmp_path, {"max_open_batches": 1}) as rig:
        batcher = rig.batcher()
        await rig.admit("a")
        await rig.clock.advance(2)
        await batcher.tick()
        await rig.admit("b")
        batcher.flush()
        await batcher.tick()
        assert await sizes(rig) == [1]


async def test_without_room_the_window_goes_on_gathering(tmp_path: Path) -> None:
    """At the limit of open batches requests gather, and leave together when one has ended."""
    async with open_rig(tmp_path, {"max_open_batches": 1}) as rig:
        batcher = rig.batcher(Batching(max_requests=3))
        await rig.admit("a")
        await rig.clock.advance(2)
        await batcher.tick()
        for n in range(5):
            await rig.admit(f"later {n}")
            await rig.clock.advance(1000)
            await batcher.tick()
        assert await sizes(rig) == [1]
        await collected(rig, await rig.batch())
        await batcher.tick()
        assert (await sizes(rig))[:2] == [1, 3]


async def test_creates_of_the_last_hour_are_counted(tmp_path: Path) -> None:
    """At the limit of creates an hour nothing seals until the hour has passed."""
    async with open_rig(tmp_path, {"max_creates_per_hour": 1}) as rig:
        batcher = rig.batcher()
        await rig.admit("a")
        await rig.clock.advance(2)
        await batcher.tick()
        await collected(rig, await rig.batch())
        await rig.admit("b")
        await rig.clock.advance(3500)
        await batcher.tick()
        assert await sizes(rig) == [1]
        await rig.clock.advance(200)
        await batcher.tick()
        assert len(await rig.batches()) == 2


async def test_an_open_breaker_holds_windows_back(tmp_path: Path) -> None:
    """While creates of the account fail nothing is sealed; when the pause is over it is."""
    async with open_rig(tmp_path) as rig:
        batcher = rig.batcher()
        account = rig.accounts.of(rig.router.providers["fake"])
        await rig.admit("a")
        await rig.clock.advance(2)
        account.create_failed("no")
        assert await batcher.tick() <= 5
        assert await rig.batches() == []
        await rig.clock.advance(5)
        await batcher.tick()
        assert await sizes(rig) == [1]


async def test_a_parked_lane_waits_for_its_time(tmp_path: Path) -> None:
    """A lane that is parked seals nothing before `retry_at`, whatever is due in it."""
    async with open_rig(tmp_path) as rig:
        batcher = rig.batcher()
        await rig.admit("a")
        (window,) = await rig.ledger.lanes.windows()
        await rig.ledger.lanes.park(window.lane_id, "no room", rig.clock.now() + 100, None, 1)
        await rig.clock.advance(99)
        assert await batcher.tick() == pytest.approx(1)
        assert await rig.batches() == []
        await rig.clock.advance(1)
        await batcher.tick()
        assert await sizes(rig) == [1]


async def test_a_lane_without_provider_is_parked_and_says_why(tmp_path: Path) -> None:
    """Work of a provider whose plugin is gone stays queued, with the reason; other lanes go on."""
    async with open_rig(tmp_path) as rig:
        batcher = rig.batcher()
        await rig.admit("lost", provider="gone")
        await rig.admit("lost too", provider="never configured")
        await rig.admit("fine")
        await rig.clock.advance(2)
        await batcher.tick()
        assert [batch.lane.provider for batch in await rig.batches()] == ["fake"]
        requests = await rig.ledger.requests.listed(None, [RequestState.QUEUED])
        assert ["uninstalled" in (requests[0].parked_reason or ""), requests[1].parked_reason] == [
            True,
            "provider is not configured",
        ]


async def test_a_target_after_a_token_limit_makes_batches_smaller(tmp_path: Path) -> None:
    """After a refusal for tokens batches stay under the lane's target, and it is told as tokens."""
    async with open_rig(tmp_path) as rig:
        batcher = rig.batcher()
        await rig.admit(*map(str, range(10)), tokens=100)
        (window,) = await rig.ledger.lanes.windows()
        await rig.ledger.lanes.park(window.lane_id, "token_limit", rig.clock.now(), 350, 1)
        while await batcher.tick() == 0:
            pass
        assert await sizes(rig) == [3, 3, 3]


async def test_enqueued_tokens_leave_room_for_a_part(tmp_path: Path) -> None:
    """With tokens enqueued only as many requests are cut as fit beside them."""
    async with open_rig(tmp_path, {"max_enqueued_tokens": 1000}) as rig:
        batcher = rig.batcher()
        await rig.admit(*map(str, range(6)), tokens=100)
        await rig.clock.advance(2)
        await batcher.tick()
        await rig.admit(*(f"more {n}" for n in range(9)), tokens=100)
        await rig.clock.advance(31)
        while await batcher.tick() == 0:
            pass
        assert await sizes(rig) == [6, 4]


async def test_a_request_larger_than_the_room_left_waits_for_it(tmp_path: Path) -> None:
    """A single request with more tokens than fit beside what is enqueued is not sent to be refused: it waits for room."""
    async with open_rig(tmp_path, {"max_enqueued_tokens": 1000}) as rig:
        batcher = rig.batcher()
        await rig.admit(*map(str, range(6)), tokens=100)
        await rig.clock.advance(2)
        await batcher.tick()
        await rig.admit("large", tokens=900)
        await rig.admit(*(f"small {n}" for n in range(9)), tokens=10)
        await rig.clock.advance(100)
        while await batcher.tick() == 0:
            pass
        assert await sizes(rig) == [6]
        await collected(rig, await rig.batch())
        await batcher.tick()
        assert sum(batch.tokens for batch in (await rig.batches())[1:]) <= 1000
        assert len(await rig.batches()) == 2


async def test_lanes_do_not_mix(tmp_path: Path) -> None:
    """Each batch holds requests of one provider, endpoint and model."""
    async with open_rig(tmp_path) as rig:
        batcher = rig.batcher()
        await rig.admit("a", "b")
        other = replace(arrival("c"), lane=LaneKey(provider="fake", endpoint=CHAT, model="m2"))
        await rig.ledger.requests.admit([other])
        await rig.clock.advance(2)
        await batcher.tick()
        assert sorted((batch.lane.model, batch.count) for batch in await rig.batches()) == [("m", 2), ("m2", 1)]


async def test_a_seal_that_finds_nothing_is_harmless(tmp_path: Path) -> None:
    """When the window was emptied in between, no batch is made."""
    async with open_rig(tmp_path) as rig:
        await rig.admit("a")
        (window,) = await rig.ledger.lanes.windows()
        assert await rig.ledger.batches.seal(window.lane_id, Cut(), "m" * 20, "", "", rig.clock.now()) is not None
        assert await rig.ledger.batches.seal(window.lane_id, Cut(), "n" * 20, "", "", rig.clock.now()) is None
        await rig.batcher().tick()
        assert await sizes(rig) == [1]


async def test_the_worker_seals_by_itself(tmp_path: Path) -> None:
    """Run as a task, the batcher notices arrivals and seals them when they are due, without being told the time."""
    async with open_rig(tmp_path) as rig:
        rig.tasks.start("batcher", rig.batcher().run())
        await rig.clock.advance(10)
        await rig.admit("a")
        rig.upstream.arrived.set()
        async with asyncio.timeout(20):
            while not await rig.batches(BatchState.SEALED):
                await rig.clock.advance(0.5)
                await asyncio.sleep(0.005)
        assert rig.clock.monotonic() <= 16
        assert rig.faults == []
