"""A call for several answers, at a provider that gives one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import MappingProxyType

import orjson
import pytest

from gateway.config import ProviderTable
from tests.integration.house import MODEL, House, messages, open_house

TABLE = ProviderTable(
    name="sim",
    kind="openai-compatible",
    sandbox=True,
    settings={"refuse_fields": ["n"]},
    limits={"min_poll_seconds": 0.01},
)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A gateway in front of a provider that refuses `n`."""
    async with open_house(tmp_path, providers=MappingProxyType({"sim": TABLE})) as house:
        yield house


async def test_a_caller_gets_all_its_answers_at_once(house: House) -> None:
    """Three answers in one completion, usage added up; three lines are submitted, once, and a second call is free."""
    async with house.client() as client:
        first = await client.chat.completions.create(model=MODEL, messages=messages("How many?"), n=3)
        second = await client.chat.completions.create(model=MODEL, messages=messages("How many?"), n=3)
        single = await client.chat.completions.create(model=MODEL, messages=messages("How many?"))

    assert [choice.index for choice in first.choices] == [0, 1, 2]
    assert all("How many?" in (choice.message.content or "") for choice in first.choices)
    assert first.usage is not None
    assert single.usage is not None
    assert first.usage.prompt_tokens == 3 * single.usage.prompt_tokens
    assert second == first
    assert await house.lines() == 4


async def test_a_stream_tells_all_of_them(house: House) -> None:
    """A streaming caller gets the chunks of every answer under its index."""
    told: dict[int, str] = {0: "", 1: ""}
    async with house.client() as client:
        stream = await client.chat.completions.create(model=MODEL, messages=messages("Two?"), n=2, stream=True)
        async for chunk in stream:
            for choice in chunk.choices:
                told[choice.index] += choice.delta.content or ""

    assert all("Two?" in text for text in told.values())


async def test_many_families_share_batches_and_none_is_mixed_up(house: House) -> None:
    """Families of different sizes in one burst: every caller gets as many answers as it asked for, all its own."""
    async with house.client() as client:

        async def ask(number: int) -> bool:
            n = 1 + number % 4
            text = f"Family {number}?"
            answer = await client.chat.completions.create(model=MODEL, messages=messages(text), n=n)
            return len(answer.choices) == n and all(text in (each.message.content or "") for each in answer.choices)

        right = await asyncio.gather(*(ask(number) for number in range(40)))

    assert all(right)
    assert await house.lines() == sum(1 + number % 4 for number in range(40))


async def test_one_line_that_fails_fails_the_call(house: House) -> None:
    """A caller who asked for two answers is not given one: it is told why the other failed."""
    answered = await house.ask("[sandbox: status=400] Both?", n=2)

    assert answered.status == 400
    assert (await house.ask("One?", n=2)).status == 200


async def test_a_family_is_cancelled_whole(tmp_path: Path) -> None:
    """Cancelling the call while it is queued: nothing of it is ever sent."""
    from gateway.config import Batching

    slow = Batching(window_seconds=600, idle_seconds=600)
    async with open_house(tmp_path, providers=MappingProxyType({"sim": TABLE}), batching=slow) as house:
        accepted = await house.http.post(
            "/v1/chat/completions",
            json={"model": MODEL, "messages": messages("Never mind"), "n": 5},
            headers={"Prefer": "respond-async"},
        )
        cancelled = await house.http.delete(accepted.headers["location"])
        gone = await house.http.get(accepted.headers["location"])

        assert (accepted.status_code, cancelled.status_code, gone.status_code) == (202, 200, 410)
        assert orjson.loads(cancelled.content)["state"] == "cancelled"
        assert [window.count for window in await house.gateway.ledger.lanes.windows()] == []


@pytest.mark.parametrize("n", [0, 129, -1, 2.5, "3", True])
async def test_an_n_that_nobody_has_is_refused(house: House, n: object) -> None:
    """More answers than OpenAI gives, or no number at all: a 400 that names `n`, and nothing is recorded."""
    answered = await house.ask("How many?", n=n)

    assert answered.status == 400
    assert answered.body["error"]["param"] == "n"
    assert await house.lines() == 0
