"""Together behind the whole gateway, with the official client of OpenAI on the other side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import pytest
from openai import AsyncOpenAI, BadRequestError

from gateway.clock import SystemClock
from gateway.config import ProviderTable
from gateway.sandbox import Fault, FaultKind, Operation
from gateway_together.sandbox import TogetherSimulator
from tests.integration.house import QUICK, House, open_house

MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
    }
]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A gateway in front of a simulated account."""
    simulator = TogetherSimulator(clock=SystemClock(), name="sim", settings=QUICK)
    table = ProviderTable(name="sim", kind="together", sandbox=True, limits={"min_poll_seconds": 0.01})
    providers = MappingProxyType({"sim": table})
    async with open_house(tmp_path, simulator=simulator, providers=providers) as opened:  # type: ignore[arg-type]
        yield opened


async def say(client: AsyncOpenAI, text: str, **options: object) -> str:
    """What the model says to one question."""
    body: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": text}], **options}
    return str((await client.chat.completions.create(**body)).choices[0].message.content)


async def test_a_conversation_with_tools(house: House) -> None:
    """A call that the model made goes back to it with what it gave, as the client read it, nulls and all."""
    messages: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Weather in Oslo?"},
    ]
    async with house.client() as client:
        first = await client.chat.completions.create(
            model=MODEL, messages=messages, tools=TOOLS, tool_choice="required", max_completion_tokens=100
        )
        called = first.choices[0].message
        assert called.tool_calls is not None
        messages += [called.model_dump(), {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "rain"}]
        second = await client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
        messages += [second.choices[0].message.model_dump(), {"role": "user", "content": "And tomorrow?"}]
        third = await client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)

    assert [answer.choices[0].finish_reason for answer in (first, second, third)] == ["tool_calls", "stop", "stop"]
    assert "And tomorrow?" in str(third.choices[0].message.content)


async def test_many_callers_share_one_batch(house: House) -> None:
    """Everybody gets an answer to the own question, each line is sent once, and no cost is guessed."""
    async with house.client() as client:
        answers = await asyncio.gather(*(say(client, f"question {n}?") for n in range(30)))
    submitted = await house.simulator.submissions()

    for n, answer in enumerate(answers):
        assert f"question {n}?" in answer
    assert (submitted.accepted_lines, submitted.repeated) == (30, {})
    assert (await house.wasted_and_billed()) == (0, 30)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_lost_create_call_is_found_by_its_file(house: House, when: Literal["before", "after"]) -> None:
    """A create call whose answer was lost is looked for by its file: answered once, paid once, whether it had acted or not."""
    house.simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.CREATE, when=when))
    async with house.client() as client:
        answer = await say(client, "are you there?")
    submitted = await house.simulator.submissions()

    assert "are you there?" in answer
    assert (submitted.batches, submitted.repeated) == (1, {})


async def test_a_bad_line_costs_its_neighbours_nothing(house: House) -> None:
    """Together names no line that can be trusted: the bad one is found by halving, and gets its own 400."""
    async with house.client() as client:
        good = [say(client, f"good {n}") for n in range(4)]
        *answers, refused = await asyncio.gather(*good, say(client, "bad [sandbox: poison]"), return_exceptions=True)

    assert [f"good {n}" in str(answer) for n, answer in enumerate(answers)] == [True] * 4
    assert isinstance(refused, BadRequestError)
    assert refused.code == "provider_rejected"


async def test_what_is_left_out_is_told(house: House) -> None:
    """A hint that Together has no place for is named in a header; what it cannot do is a 400 and costs nothing."""
    async with house.client() as client:
        raw = await client.chat.completions.with_raw_response.create(
            model=MODEL, messages=[{"role": "user", "content": "x"}], user="me", verbosity="low"
        )
        with pytest.raises(BadRequestError) as caught:
            await say(client, "x", web_search_options={})

    assert sorted(raw.headers["x-batchway-dropped"].replace(" ", "").split(",")) == ["user", "verbosity"]
    assert caught.value.param == "web_search_options"
    assert await house.lines() == 1
