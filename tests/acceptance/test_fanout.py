"""A server without batches, and a gateway that is killed while it asks it one by one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from gateway.clock import SystemClock
from gateway.records import RequestState
from gateway.sandbox import body_hash
from gateway_openai.sandbox import OpenAISimulator
from tests.acceptance.stand import MODEL, QUICK, Stand, ask, is_answer, open_stand, until

CONCURRENCY = 5
QUESTIONS = [f"Who survives number {n}?" for n in range(50)]
KIND = f'kind = "fanout"\nconcurrency = {CONCURRENCY}'
TRIES = 12


class Turnstile(OpenAISimulator):
    """Lets so many calls through and holds the others; counts those under way."""

    def __init__(self, tickets: int) -> None:
        super().__init__(clock=SystemClock(), name="sim", settings=QUICK)
        self.tickets = asyncio.Semaphore(tickets)
        self.running = self.most = 0

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """One chat completion; it is asked as soon as it arrives, and answered when it may pass."""
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            response = await super().complete(request)
            await self.tickets.acquire()
            return response
        finally:
            self.running -= 1

    async def open(self) -> None:
        """Hold nobody any more, and return when the calls of a process that is gone are over."""
        for _ in range(10_000):
            self.tickets.release()
        await until(lambda: self.running == 0, "the server is idle")

    def times_asked(self) -> Counter[str]:
        """How often each question arrived."""
        return Counter(line.hash for line in self.ledger.lines() if not line.batch_id)


@asynccontextmanager
async def open_turnstile(directory: Path, tickets: int) -> AsyncIterator[tuple[Stand, Turnstile]]:
    """A stand before a server without batches."""
    simulator = Turnstile(tickets)
    async with open_stand(directory, simulator=simulator) as stand:
        stand.kind = KIND
        yield stand, simulator


async def test_killed_in_the_middle_of_fifty(tmp_path: Path) -> None:
    """The next process finishes the rest: every caller gets its own answer, and only what was under way is asked again."""
    async with open_turnstile(tmp_path, tickets=20) as (stand, simulator):
        await stand.start()
        async with stand.client(max_retries=TRIES) as client:
            callers = [asyncio.create_task(ask(client, question)) for question in QUESTIONS]
            await until(lambda: stand.requests(RequestState.SUCCEEDED) == 20, "twenty are answered and durable")
            await until(lambda: simulator.running == CONCURRENCY, "others are being asked")
            await stand.kill()
            under_way = len(simulator.times_asked()) - 20
            await simulator.open()
            await stand.start()
            answers = await asyncio.gather(*callers)
        await until(lambda: stand.requests(RequestState.SUCCEEDED) == 50, "all are settled")
        again = stand.events("asked_again")

    assert [is_answer(*pair) for pair in zip(answers, QUESTIONS, strict=True)] == [True] * 50
    asked = simulator.times_asked()
    twice = [name for name, times in asked.items() if times > 1]
    expected = {body_hash({"model": MODEL, "messages": [{"role": "user", "content": q}]}) for q in QUESTIONS}
    assert set(asked) == expected
    assert max(asked.values()) <= 2
    assert len(twice) == under_way == again == CONCURRENCY
    assert simulator.most == CONCURRENCY


async def test_sigterm_leaves_what_is_queued_for_the_next_start(tmp_path: Path) -> None:
    """A stop does not wait for slow answers, and nobody is answered twice or never."""
    async with open_turnstile(tmp_path, tickets=3) as (stand, simulator):
        await stand.start()
        async with stand.client(max_retries=TRIES) as client:
            callers = [asyncio.create_task(ask(client, question)) for question in QUESTIONS[:12]]
            await until(lambda: simulator.running == CONCURRENCY, "the server is busy")
            await until(lambda: stand.requests(RequestState.SUCCEEDED) == 3, "three are answered")
            status = await stand.terminate(20)
            await simulator.open()
            await stand.start()
            answers = await asyncio.gather(*callers)

    assert status == 0
    assert [is_answer(*pair) for pair in zip(answers, QUESTIONS[:12], strict=True)] == [True] * 12
    assert sum(times - 1 for times in simulator.times_asked().values()) <= CONCURRENCY
