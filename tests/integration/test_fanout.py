"""Servers without a Batch API behind the whole gateway, through real HTTP and the official client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import cast

import orjson
import pytest
from aiohttp import web

from gateway.clock import SystemClock
from gateway.config import ProviderTable, Route, Server, TokenPrices
from gateway.endings import cancelled
from gateway.records import RequestState
from gateway.sandbox import Fault, FaultKind, Operation, SandboxServer
from gateway_openai.sandbox import OpenAISimulator
from tests.acceptance.stand import free_port
from tests.integration.house import MODEL, QUICK, House, messages, open_house, patient

CONCURRENCY = 3


class Counting(OpenAISimulator):
    """Counts the calls that are under way, and holds them while `held`, or until `held_until` are under way at once."""

    def __init__(self, *, held: bool = False, held_until: int = 0) -> None:
        super().__init__(clock=SystemClock(), name="sim", settings=replace(QUICK, completion_seconds=0.01))
        self.running = self.most = 0
        self.held_until = held_until
        self.free = asyncio.Event()
        if not held and not held_until:
            self.free.set()

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """One chat completion."""
        self.running += 1
        self.most = max(self.most, self.running)
        if self.running == self.held_until:
            self.free.set()
        try:
            await self.free.wait()
            return await super().complete(request)
        finally:
            self.running -= 1

    @property
    def asked(self) -> int:
        """Calls that came through."""
        return sum(not line.batch_id for line in self.ledger.lines())


def fanout(**settings: object) -> dict[str, object]:
    """The sections of a configuration with one server without batches, as its own simulator unless it has an address."""
    table = ProviderTable(
        name="sim",
        kind="fanout",
        sandbox="base_url" not in settings,
        settings={"concurrency": CONCURRENCY, **settings},
        prices=cast("dict[str, TokenPrices]", {}),
    )
    return {"providers": MappingProxyType({"sim": table}), "routes": (Route(model="*", provider="sim"),)}


@asynccontextmanager
async def open_counted(directory: Path, simulator: Counting, **sections: object) -> AsyncIterator[House]:
    """A house whose provider has no batches."""
    async with open_house(directory, simulator=simulator, **{**fanout(), **sections}) as house:  # type: ignore[arg-type]
        yield house


def order(simulator: OpenAISimulator, **fault: object) -> int:
    """One fault of the synchronous endpoint."""
    return simulator.faults.order(Fault(operation=Operation.COMPLETE, **fault))  # type: ignore[arg-type]


async def test_callers_get_their_own_answers_one_by_one(tmp_path: Path) -> None:
    """Forty ordinary calls at once, a few at a time at the server, each asked once; no batch is made, nothing is saved."""
    simulator = Counting(held_until=CONCURRENCY)
    questions = [f"Question {n}?" for n in range(40)]
    async with open_counted(tmp_path, simulator) as house, house.client() as client:
        answers = await asyncio.gather(
            *(client.chat.completions.create(model=MODEL, messages=messages(q)) for q in questions)  # type: ignore[arg-type]
        )
        again = await house.ask(questions[0])
        bills = await house.gateway.ledger.bills.totals()
        batches = await house.gateway.ledger.batches.listed()

    texts = [answer.choices[0].message.content or "" for answer in answers]
    assert [text.startswith(f"You said: {question} ") for text, question in zip(texts, questions, strict=True)] == [
        True
    ] * 40
    assert (simulator.most, simulator.asked, batches) == (CONCURRENCY, 40, [])
    assert (again.text, again.headers["x-batchway-saved-usd"]) == (texts[0], "0.000000000")
    assert [(bill.requests, bill.undiscounted_lines, bill.saved_usd) for bill in bills] == [(40, 40, 0.0)]


async def test_what_the_server_can_do_passes_through(tmp_path: Path) -> None:
    """Several choices, structured output and streaming callers, as with any provider."""
    simulator = Counting()
    schema = {"name": "s", "schema": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}}
    async with open_counted(tmp_path, simulator) as house, house.client() as client:
        shaped = await house.ask("two, please", n=2, response_format={"type": "json_schema", "json_schema": schema})
        stream = await client.chat.completions.create(
            model=MODEL,
            messages=messages("stream, please"),  # type: ignore[arg-type]
            stream=True,
        )
        streamed = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    choices = cast("list[dict[str, dict[str, str]]]", shaped.body["choices"])
    assert [list(orjson.loads(choice["message"]["content"])) for choice in choices] == [["a"], ["a"]]
    assert streamed.startswith("You said: stream, please ")
    assert simulator.asked == 2


async def test_a_server_that_is_down_is_waited_for(tmp_path: Path) -> None:
    """Calls go on waiting while nothing listens there, and are answered when it is started, each asked once."""
    port = free_port()
    simulator = Counting()
    sections = fanout(base_url=f"http://127.0.0.1:{port}/sim/v1")
    async with open_house(tmp_path, **sections) as house:  # type: ignore[arg-type]
        asking = asyncio.gather(*(house.ask(f"q{n}") for n in range(8)))

        async def tried_in_vain() -> bool:
            return b'completions_total{outcome="retryable"' in house.gateway.metrics.render()

        await house.until(tried_in_vain)
        async with SandboxServer([simulator], "127.0.0.1", port):
            answers = await asking
        rows = await house.gateway.ledger.requests.listed(None)

    assert [answer.text.startswith(f"You said: q{n} ") for n, answer in enumerate(answers)] == [True] * 8
    assert [row.attempts for row in rows] == [1] * 8
    assert simulator.asked == 8


async def test_come_back_later_is_obeyed(tmp_path: Path) -> None:
    """A 429 with Retry-After costs no attempt, and its caller gets the answer after it."""
    simulator = Counting()
    order(simulator, kind=FaultKind.STATUS, status=429, retry_after=0.2, times=2)
    async with open_counted(tmp_path, simulator) as house:
        answers = await asyncio.gather(*(house.ask(f"q{n}") for n in range(5)))
        rows = await house.gateway.ledger.requests.listed(None)

    assert [answer.status for answer in answers] == [200] * 5
    assert [row.attempts for row in rows] == [1] * 5
    assert simulator.asked == 5


async def test_errors_are_tried_again_and_in_the_end_told(tmp_path: Path) -> None:
    """A 500 is tried again; a 400 is the caller's own; a request that always fails ends with a true status."""
    simulator = Counting()
    order(simulator, kind=FaultKind.STATUS, status=500, times=1)
    async with open_counted(tmp_path, simulator, retries=patient(max_attempts=2)) as house:
        recovered = await house.ask("once")
        refused = await house.ask("bad", temperature=9)
        order(simulator, kind=FaultKind.STATUS, status=500, times=None)
        hopeless = await house.ask("never")

    assert (recovered.status, refused.status, refused.body["error"]["param"]) == (200, 400, "temperature")
    assert (hopeless.status, hopeless.code) == (503, "attempts_exhausted")


async def test_a_lost_answer_is_asked_for_again(tmp_path: Path) -> None:
    """The server acted and the connection was cut: nobody can know, so it counts as an attempt and is asked once more."""
    simulator = Counting()
    order(simulator, kind=FaultKind.CUT, when="after", times=1)
    async with open_counted(tmp_path, simulator) as house:
        answer = await house.ask("q")
        [row] = await house.gateway.ledger.requests.listed(None)

    assert (answer.status, row.attempts, simulator.asked) == (200, 2, 2)


async def test_a_revoked_key_makes_everybody_wait(tmp_path: Path) -> None:
    """Nobody fails for our key; when it works again, everybody is answered."""
    simulator = Counting()
    number = order(simulator, kind=FaultKind.REVOKED)
    async with open_counted(tmp_path, simulator, retries=patient(unauthorised_seconds=0.2)) as house:
        asking = asyncio.gather(*(house.ask(f"q{n}") for n in range(4)))

        async def refused() -> bool:
            return simulator.ledger.calls["complete"] >= CONCURRENCY + 1

        await house.until(refused)
        simulator.faults.withdraw(number)
        answers = await asking

    assert [answer.status for answer in answers] == [200] * 4
    assert simulator.asked == 4


async def test_cancelling_before_and_while_it_is_asked(tmp_path: Path) -> None:
    """A queued request is gone at once and never asked; one that is being asked ends with its answer."""
    simulator = Counting(held=True)
    async with open_counted(tmp_path, simulator) as house:
        headers = {"Prefer": "respond-async"}
        names = [f"name-{n}" for n in range(CONCURRENCY + 1)]
        for name in names:
            assert (await house.ask(name, headers={**headers, "x-batchway-custom-id": name})).status == 202

        async def full() -> bool:
            return simulator.running == CONCURRENCY

        await house.until(full)
        asked = await house.http.delete(f"/v1/results/{names[0]}")
        queued = await house.http.delete(f"/v1/results/{names[-1]}")
        simulator.free.set()
        kept = await house.http.get(f"/v1/results/{names[0]}", headers={"Prefer": "wait=20"})

    assert (asked.status_code, asked.json()["cancelling"]) == (202, True)
    assert (queued.status_code, queued.json()["state"]) == (200, "cancelled")
    assert kept.status_code == 200
    assert simulator.asked == CONCURRENCY


@pytest.mark.parametrize("when", ["queued", "asked"])
async def test_a_caller_that_hangs_up_does_not_take_its_answer_with_it(tmp_path: Path, when: str) -> None:
    """With on_disconnect = "cancel" what is queued goes after a while; what is being asked is kept."""
    simulator = Counting(held=True)
    async with open_counted(tmp_path, simulator, server=Server(port=0, on_disconnect="cancel")) as house:
        fillers = [asyncio.create_task(house.ask(f"filler {n}")) for n in range(CONCURRENCY - (when == "asked"))]

        async def begun() -> bool:
            return simulator.running == len(fillers)

        await house.until(begun)
        caller = asyncio.create_task(house.ask("mine"))

        async def there() -> bool:
            wanted = CONCURRENCY if when == "asked" else len(fillers)
            return len(house.gateway.waiters) == len(fillers) + 1 and simulator.running == wanted

        await house.until(there)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)

        async def left() -> bool:
            return len(house.gateway.waiters) == len(fillers)

        await house.until(left)
        await house.gateway.waiters.fold()
        house.clock.jump(130)
        await house.gateway.ledger.renew()
        ended = await house.gateway.ledger.requests.cancel_abandoned(house.clock.now() - 120, cancelled("sim"), 10)
        simulator.free.set()
        await asyncio.gather(*fillers)

        async def over() -> bool:
            return (await house.gateway.ledger.requests.tally())[RequestState.QUEUED] == 0

        await house.until(over)
        tally = await house.gateway.ledger.requests.tally()

    assert len(ended) == (when == "queued")
    assert tally[RequestState.CANCELLED] == (when == "queued")
    assert tally[RequestState.SUCCEEDED] == len(fillers) + (when == "asked")


async def test_operators_see_and_steer_it(tmp_path: Path) -> None:
    """Flushing speaks of batches only; models and results know the provider; metrics count its calls."""
    simulator = Counting(held=True)
    async with open_counted(tmp_path, simulator) as house:
        asking = asyncio.create_task(house.ask("q"))

        async def full() -> bool:
            return simulator.running == 1

        await house.until(full)
        token = (tmp_path / "operator.token").read_text(encoding="ascii").strip()
        flushed = await house.http.post("/ops/flush", headers={"Authorization": f"Bearer {token}"})
        listed = (await house.http.get("/v1/results")).json()["data"]
        simulator.free.set()
        await asking
        metrics = (await house.http.get("/metrics")).text

    assert (flushed.status_code, flushed.json()["queued"]) == (202, 0)
    assert [(row["state"], row["provider"], row["batch_id"]) for row in listed] == [("queued", "sim", None)]
    assert 'batchway_completions_total{outcome="answered",provider="sim"} 1.0' in metrics
    assert 'batchway_wasted_usd{provider="sim"} 0.0' in metrics
