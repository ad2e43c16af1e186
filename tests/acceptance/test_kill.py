"""`kill -9` of the real process in each state of a batch: the clients' retries get every answer, and nothing is asked twice."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from aiohttp import web

from gateway.clock import SystemClock
from gateway.records import BatchState, RequestState
from gateway.sandbox import Fault, FaultKind, NewBatch, Operation, StoredBatch
from gateway_openai.sandbox import OpenAISimulator
from tests.acceptance.stand import QUICK, Stand, Times, ask, is_answer, open_stand, request_body, until

QUESTIONS = [f"Who survives number {n}?" for n in range(12)]
#: Longer than any test: what is ordered to take this long never happens.
FOR_EVER_SECONDS = 3600.0
NEVER = Times(window_seconds=FOR_EVER_SECONDS, idle_seconds=FOR_EVER_SECONDS)
#: openai-python pauses for at most 8 s between tries, so that this is patience enough for any restart.
TRIES = 12
#: Lines of the batch that is half collected: several commits' worth.
MANY = 2_000


async def test_killed_with_requests_queued(stand: Stand) -> None:
    """Requests that no batch has taken yet are taken by the next process."""
    await stand.start(NEVER)
    async with calls(stand):
        await until(lambda: queued(stand), "all requests are queued")
        await stand.kill()
        assert stand.created() == 0
        await stand.start()


async def test_killed_with_batches_sealed(stand: Stand) -> None:
    """Batches whose upload was cut off are uploaded again, and created once."""
    order(stand, FaultKind.DELAY, Operation.UPLOAD)
    await stand.start()
    async with calls(stand):
        await until(lambda: all_in(stand, BatchState.SEALED), "all requests are in sealed batches")
        await until(lambda: stand.simulator.ledger.calls["upload"], "an upload has begun")
        await stand.kill()
        assert stand.created() == 0
        stand.simulator.faults.clear()
        await stand.start()


async def test_killed_while_submitting_before_the_provider_acted(stand: Stand) -> None:
    """A create call that the provider never acted on is repeated, once its list has shown twice that there is no such batch."""
    order(stand, FaultKind.DELAY, Operation.CREATE)
    await stand.start()
    async with calls(stand):
        await until(lambda: all_in(stand, BatchState.SUBMITTING), "all requests are in batches being submitted")
        await until(lambda: stand.simulator.ledger.calls["create"], "a create call has begun")
        await stand.kill()
        assert stand.created() == 0
        stand.simulator.faults.clear()
        await stand.start()


async def test_killed_while_submitting_after_the_provider_acted(tmp_path: Path) -> None:
    """A batch that was created, but whose creation nobody heard of, is found in the provider's list and taken over."""
    simulator = Mute(clock=SystemClock(), name="sim", settings=QUICK)
    async with open_stand(tmp_path, simulator=simulator) as stand:
        await stand.start()
        async with calls(stand):
            await until(lambda: all_in(stand, BatchState.SUBMITTING), "all requests are in batches being submitted")
            sent = stand.batches(BatchState.SUBMITTING)
            await until(lambda: stand.created() == sent, "the provider has made all of them")
            await stand.kill()
            simulator.mute = False
            await stand.start()
        assert stand.created() == sent


async def test_killed_with_batches_submitted(stand: Stand) -> None:
    """Batches that the provider is running are taken up again, not sent again."""
    order(stand, FaultKind.ENDLESS)
    await stand.start()
    async with calls(stand):
        await until(lambda: all_in(stand, BatchState.SUBMITTED), "all requests are with the provider")
        await stand.kill()
        sent = stand.created()
        await stand.start()
        await finish_all(stand)
    assert stand.created() == sent


@pytest.mark.timeout(240)
async def test_killed_with_a_batch_half_collected(stand: Stand) -> None:
    """What was settled before the kill stays, the rest is settled after it; everyone gets the right answer."""
    names = [f"line-{n}" for n in range(MANY)]
    order(stand, FaultKind.ENDLESS)
    await stand.start(NEVER)
    async with (
        calls(stand, others=MANY),
        httpx2.AsyncClient(base_url=stand.url, timeout=60.0, limits=httpx2.Limits(max_connections=50)) as http,
    ):
        await asyncio.gather(*(post(http, name) for name in names))
        await until(lambda: queued(stand, MANY + len(QUESTIONS)), "all requests are queued")
        await flush(stand, http)
        await until(lambda: all_in(stand, BatchState.SUBMITTED, MANY + len(QUESTIONS)), "the batch is submitted")
        await finish_all(stand)
        settled = await kill_half_way(stand)
        await stand.start()
        await until(lambda: all_in(stand, BatchState.COLLECTED, MANY + len(QUESTIONS)), "the batch is collected")
        answers = await asyncio.gather(*(answer(http, name) for name in names))

    assert 0 < settled < MANY
    assert all(map(is_answer, answers, names))


class Mute(OpenAISimulator):
    """A provider that makes batches and, while `mute`, does not say so."""

    mute = True

    async def create(self, asked: NewBatch) -> StoredBatch | web.Response:
        """Make the batch; the answer comes when nobody waits for it any more."""
        made = await super().create(asked)
        if self.mute:
            await self.clock.sleep(FOR_EVER_SECONDS)
        return made


@asynccontextmanager
async def calls(stand: Stand, others: int = 0) -> AsyncIterator[None]:
    """Ordinary calls that go on during the block, half of them committed to early; at its end each has its own answer.

    And with the `others` that the block asked, each question was submitted once.
    """
    async with stand.client(max_retries=TRIES) as calm, stand.client(timeout=3.0, max_retries=TRIES) as hasty:
        callers = [asyncio.create_task(ask(hasty if n % 2 else calm, question)) for n, question in enumerate(QUESTIONS)]
        try:
            yield
            answers = await asyncio.gather(*callers)
        finally:
            for caller in callers:
                caller.cancel()
            await asyncio.wait(callers)
    assert [is_answer(*pair) for pair in zip(answers, QUESTIONS, strict=True)] == [True] * len(QUESTIONS), answers
    assert await stand.asked_once(len(QUESTIONS) + others)


def order(stand: Stand, kind: FaultKind, operation: Operation | None = None) -> None:
    """Order a fault that strikes until it is withdrawn, and lasts for ever."""
    stand.simulator.faults.order(Fault(kind=kind, operation=operation, seconds=FOR_EVER_SECONDS, times=None))


def queued(stand: Stand, count: int = len(QUESTIONS)) -> bool:
    """Whether `count` requests are queued."""
    return stand.requests(RequestState.QUEUED) == count


def all_in(stand: Stand, state: BatchState, count: int = len(QUESTIONS)) -> bool:
    """Whether batches in `state` hold `count` requests."""
    return stand.in_batches(state) == count


async def finish_all(stand: Stand) -> None:
    """Let every remote batch end."""
    stand.simulator.faults.clear()
    for batch_id in list(stand.simulator.store.batches):
        await stand.simulator.finish(batch_id)


async def kill_half_way(stand: Stand) -> int:
    """`kill -9` when some lines are settled and others are not; how many are.

    The process runs in short slices and is looked at while it stands still, so that the moment cannot be missed.
    """
    process = stand.process
    assert process is not None

    def some_are_settled() -> int:
        process.send_signal(signal.SIGSTOP)
        settled = stand.requests(RequestState.SUCCEEDED)
        if not settled:
            process.send_signal(signal.SIGCONT)
        return settled

    await until(some_are_settled, "the first lines are settled", look_seconds=0.01)
    await stand.kill()
    return stand.requests(RequestState.SUCCEEDED)


async def flush(stand: Stand, http: httpx2.AsyncClient) -> None:
    """Seal what is queued, as an operator."""
    token = (stand.storage / "operator.token").read_text(encoding="ascii").strip()
    response = await http.post("/ops/flush", headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 202


async def post(http: httpx2.AsyncClient, name: str) -> None:
    """Leave a request under a name, without waiting for its answer."""
    headers = {"Prefer": "respond-async", "x-batchway-custom-id": name, "Content-Type": "application/json"}
    response = await http.post("/v1/chat/completions", content=request_body(name), headers=headers)
    assert response.status_code == 202, response.text


async def answer(http: httpx2.AsyncClient, name: str) -> str:
    """The answer to the request of that name."""
    response = await http.get(f"/v1/results/{name}")
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["message"]["content"])
