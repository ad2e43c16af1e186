"""Requests that are asked one by one: order, fairness, limits, what goes wrong, crashes, money."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from structlog.testing import capture_logs

from gateway.endings import cancelled
from gateway.errors import Retryable
from gateway.records import RequestState
from gateway.store.rows import Ending
from tests.unit.pipeline.rig import arrival
from tests.unit.pipeline.single import Server, Shop, ending_of, open_shop

SUCCEEDED = RequestState.SUCCEEDED


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """A server that answers at once, at most four calls at a time."""
    async with open_shop(tmp_path) as shop:
        yield shop


def text_of(ending: Ending) -> str:
    """The words of an answer."""
    return str(orjson.loads(ending.body)["choices"][0]["message"]["content"])


def value(shop: Shop, name: str) -> float:
    """What `/metrics` says of one metric with its labels."""
    lines = shop.rig.metrics.render().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"batchway_{name}"))


async def test_every_request_gets_its_own_answer(shop: Shop) -> None:
    """Each is asked once, with the body that its caller sent, and ends with the server's words."""
    texts = [f"q{n}" for n in range(10)]
    admissions = await shop.queue(*texts)
    await shop.finish()

    assert sorted(shop.server.asked) == sorted(texts)
    assert [text_of(await ending_of(shop, each.seq)) for each in admissions] == [f"echo: {text}" for text in texts]
    assert value(shop, 'requests_ended_total{provider="single",state="succeeded"}') == 10
    assert value(shop, 'completions_total{outcome="answered",provider="single"}') == 10


async def test_callers_are_woken_and_the_cache_remembers(shop: Shop) -> None:
    """Whoever waits has the answer as soon as it is durable, and it is kept for later ones."""
    [admission] = await shop.queue("q")
    future = shop.rig.waiters.attach(admission.seq)
    await shop.finish()
    async with asyncio.timeout(20):
        while not (samples := shop.cache.read(arrival("q").fingerprint)):
            await asyncio.sleep(0.001)

    assert text_of(future.result()) == "echo: q"
    assert [orjson.loads(sample.body)["choices"][0]["message"]["content"] for sample in samples] == ["echo: q"]


async def test_no_more_calls_than_allowed_are_under_way(shop: Shop) -> None:
    """However much is queued, `concurrency` bounds the calls, and each that ends makes room for the next."""
    shop.server.open.clear()
    await shop.queue(*(f"q{n}" for n in range(12)))
    await shop.round()
    await shop.round()
    begun = list(shop.server.asked)
    shop.server.open.set()
    await shop.finish()

    assert begun == ["q0", "q1", "q2", "q3"]
    assert (shop.server.most, len(shop.server.asked)) == (4, 12)


async def test_the_oldest_goes_first(tmp_path: Path) -> None:
    """One at a time, a lane is asked in the order of acceptance."""
    async with open_shop(tmp_path, concurrency=1) as shop:
        texts = [f"q{n}" for n in range(6)]
        await shop.queue(*texts)
        await shop.finish()

        assert shop.server.asked == texts


async def test_lanes_take_turns(tmp_path: Path) -> None:
    """A long lane does not keep a short one waiting."""
    async with open_shop(tmp_path, concurrency=1) as shop:
        await shop.queue("a0", "a1", "a2", "a3", model="a")
        await shop.queue("b0", "b1", model="b")
        await shop.finish()

        assert shop.server.asked == ["a0", "b0", "a1", "b1", "a2", "a3"]


async def test_places_are_shared_among_lanes(shop: Shop) -> None:
    """A lane of slow calls holds no more than its share of the places while another has something to ask."""
    shop.server.open.clear()
    await shop.queue("a0", "a1", "a2", "a3", model="a")
    await shop.queue("b0", "b1", "b2", "b3", model="b")
    await shop.round()

    assert sorted(shop.server.asked) == ["a0", "a1", "b0", "b1"]


async def test_slow_calls_do_not_take_all_places(shop: Shop) -> None:
    """While a lane has something quick to ask, one with slow calls keeps to the half it has."""
    shop.server.open.clear()
    shop.server.held = "slow"
    await shop.queue(*(f"slow {n}" for n in range(8)), model="a")
    await shop.queue(*(f"quick {n}" for n in range(8)), model="b")
    await shop.finish_quick()
    last_quick = shop.server.asked.index("quick 7")

    assert sum(prompt.startswith("slow") for prompt in shop.server.asked[:last_quick]) == 2
    assert shop.server.running == 4


async def test_an_event_shortens_the_wait_and_a_tick_makes_it_optional(shop: Shop) -> None:
    """What is queued is asked when the event is heard, or a second later without one."""
    worker = shop.rig.tasks.spawn("completer", shop.completer.run())
    await shop.queue("heard")
    shop.unbatched.set()
    await shop.quiet()
    heard = list(shop.server.asked)
    await shop.queue("not heard")
    await shop.rig.clock.advance(1.0)
    await shop.quiet()
    worker.cancel()

    assert heard == ["heard"]
    assert shop.server.asked == ["heard", "not heard"]


async def test_the_batcher_leaves_such_lanes_alone(shop: Shop) -> None:
    """Nothing is sealed however old it is, and an old window is no reason to look more often."""
    await shop.queue("q")
    shop.rig.clock.jump(100_000)
    batcher = shop.rig.batcher()
    batcher.flush()

    assert await batcher.tick() == 1.0
    assert await shop.rig.batches() == []


async def test_a_queued_request_can_be_cancelled(shop: Shop) -> None:
    """It ends at once, and nobody asks it."""
    [first, _] = await shop.queue("q", "other")
    await shop.rig.ledger.requests.cancel(first.seq, shop.rig.clock.now(), cancelled("single"))
    await shop.finish()

    assert shop.server.asked == ["other"]
    assert (await ending_of(shop, first.seq)).code == "cancelled"


@pytest.mark.parametrize(("outcome", "state"), [(None, SUCCEEDED), (Retryable("no"), RequestState.CANCELLED)])
async def test_an_answer_beats_a_cancel_that_came_later(
    shop: Shop, outcome: Exception | None, state: RequestState
) -> None:
    """A request that is being asked ends with its answer; without one it ends as cancelled and is not asked again."""
    shop.server.open.clear()
    [admission] = await shop.queue("q")
    future = shop.rig.waiters.attach(admission.seq)
    await shop.round()
    await shop.rig.ledger.requests.cancel(admission.seq, shop.rig.clock.now(), cancelled("single"))
    if outcome is not None:
        shop.server.script["q"].append(outcome)
    shop.server.open.set()
    await shop.finish()
    await shop.rig.clock.advance(600)
    await shop.finish()

    assert future.result().state is state
    assert shop.server.asked == ["q"]


async def test_a_stop_leaves_everything_for_the_next_process(tmp_path: Path) -> None:
    """Calls under way are dropped; the next process asks them again and counts them, and the others once."""
    server = Server()
    async with open_shop(tmp_path, server, concurrency=3) as shop:
        server.open.clear()
        await shop.queue(*(f"q{n}" for n in range(5)))
        await shop.round()
        clock = shop.rig.clock
    first = list(server.asked)
    async with open_shop(tmp_path, server, concurrency=3, clock=clock) as shop:
        with capture_logs() as logs:
            await shop.finish()
        named = [request.custom_id for request in await shop.rig.ledger.requests.listed(None)]

        assert [log["custom_id"] for log in logs if log["event"] == "asked_again"] == named[:3]
        assert first == ["q0", "q1", "q2"]
        assert server.asked[3:6] == first
        assert sorted(server.asked[6:]) == ["q3", "q4"]
        assert await shop.rig.states() == [SUCCEEDED] * 5
        assert value(shop, "asked_again_total") == 3


async def test_the_bill_says_that_nothing_was_discounted(tmp_path: Path) -> None:
    """Costs are booked once, at the one price there is; nothing is saved, and an unknown price stays unknown."""
    async with open_shop(tmp_path) as shop:
        [admission] = await shop.queue("q")
        await shop.finish()
        [bill] = await shop.rig.ledger.bills.totals()
        ending = await ending_of(shop, admission.seq)

        assert (bill.requests, bill.lines, bill.undiscounted_lines, bill.saved_usd) == (1, 1, 1, 0.0)
        assert (bill.unpriced_lines, ending.cost_usd, ending.saved_usd) == (1, None, 0.0)
