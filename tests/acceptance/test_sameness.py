"""Which calls share an answer and which are samples of their own, as a user with the official client sees it."""

from __future__ import annotations

import asyncio
import re

import httpx2

from gateway.records import RequestState
from gateway.sandbox import Fault, FaultKind
from tests.acceptance.stand import Stand, ask, until

QUESTION = "Heads or tails?"
SAMPLES = 5


async def test_simultaneous_calls_are_samples_and_a_second_run_gets_the_same_ones(stand: Stand) -> None:
    """Five identical calls at once at temperature 1 are five samples; asked again, the same five, and nothing is paid."""
    await stand.start()

    first = await together(stand)
    again = await together(stand)

    assert len(set(first)) == SAMPLES
    assert sorted(again) == sorted(first)
    assert await stand.lines() == SAMPLES


async def test_callers_that_hang_up_and_come_again_cost_nothing(stand: Stand) -> None:
    """Three of five callers hang up and come again: they find their requests, and five lines are all that is paid."""
    stand.simulator.faults.order(Fault(kind=FaultKind.ENDLESS, times=None))
    await stand.start()
    async with stand.client() as client:
        callers = [asyncio.create_task(ask(client, QUESTION, temperature=1.0)) for _ in range(SAMPLES)]
        await until(lambda: stand.requests(RequestState.BATCHED) == SAMPLES, "all calls are in batches")
        for caller in callers[:3]:
            caller.cancel()
        await asyncio.wait(callers[:3])
        await until(lambda: waiting(stand, SAMPLES - 3), "the gateway notices who has hung up")
        callers[:3] = [asyncio.create_task(ask(client, QUESTION, temperature=1.0)) for _ in range(3)]
        await until(lambda: waiting(stand, SAMPLES), "they wait again")
        await finish_all(stand)
        answers = await asyncio.gather(*callers)

    assert len(set(answers)) == SAMPLES
    assert await stand.lines() == SAMPLES


async def test_a_run_draws_its_samples_in_order_and_never_twice(stand: Stand) -> None:
    """Within a run each call is a new sample; another run gets the same ones in the same order, for nothing."""
    await stand.start()

    one = await one_by_one(stand, "one")
    lines_of_one = await stand.lines()
    two = await one_by_one(stand, "two")
    lines_of_two = await stand.lines()
    more = await one_by_one(stand, "one")

    assert len(set(one)) == SAMPLES
    assert two == one
    assert lines_of_one == lines_of_two == SAMPLES
    assert len({*one, *more}) == 2 * SAMPLES
    assert await stand.lines() == 2 * SAMPLES


async def together(stand: Stand) -> list[str]:
    """Five identical calls at once."""
    async with stand.client() as client:
        return await asyncio.gather(*(ask(client, QUESTION, temperature=1.0) for _ in range(SAMPLES)))


async def one_by_one(stand: Stand, run: str) -> list[str]:
    """Five identical calls of a run, each after the answer to the one before."""
    async with stand.client(run=run) as client:
        return [await ask(client, QUESTION, temperature=1.0) for _ in range(SAMPLES)]


async def waiting(stand: Stand, count: int) -> bool:
    """Whether `count` callers wait, by the gateway's own metrics."""
    async with httpx2.AsyncClient() as http:
        text = (await http.get(f"{stand.url}/metrics")).text
    found = re.search(r"^batchway_waiters (\S+)$", text, re.MULTILINE)
    return found is not None and float(found[1]) == count


async def finish_all(stand: Stand) -> None:
    """Let every remote batch end."""
    stand.simulator.faults.clear()
    for batch_id in list(stand.simulator.store.batches):
        await stand.simulator.finish(batch_id)
