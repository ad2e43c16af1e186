"""A conversation with functions and thoughts, through the whole gateway, to a provider that wants its thoughts back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType

import openai
import orjson
import pytest
from openai.types.chat import ChatCompletion

from gateway.chat import carried, carry
from gateway.clock import SystemClock
from gateway.config import ProviderTable
from gateway.sandbox import Fault, FaultKind, Operation
from gateway_anthropic.sandbox import AnthropicSimulator
from tests.integration.house import QUICK, House, open_house

#: A model whose thoughts are bound to all that stood before them.
MODEL = "claude-fable-5-1"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
QUESTION = {"role": "user", "content": "Use weather for Paris, please."}


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[House]:
    """A gateway in front of a simulated Anthropic."""
    simulator = AnthropicSimulator(clock=SystemClock(), name="sim", settings=QUICK)
    table = ProviderTable(name="sim", kind="anthropic", sandbox=True, limits={"min_poll_seconds": 0.01})
    providers = MappingProxyType({"sim": table})
    async with open_house(directory, simulator=simulator, providers=providers) as house:  # type: ignore[arg-type]
        yield house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """The gateway and its Anthropic."""
    async with opened(tmp_path) as house:
        yield house


async def ask(house: House, *said: object) -> ChatCompletion:
    """The next answer in a conversation."""
    async with house.client() as client:
        return await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "system", "content": "Be brief."}, QUESTION, *said],  # type: ignore[list-item]
            tools=TOOLS,  # type: ignore[arg-type]
            reasoning_effort="high",
        )


def sent(house: House) -> list[dict[str, list[dict[str, object]]]]:
    """The params of every request that reached the provider in a batch, in the order of batches."""
    store = house.simulator.store
    files = [store.path(batch.file_id).read_bytes() for batch in store.batches.values()]
    return [orjson.loads(line)["params"] for content in files for line in content.splitlines()]


def result_of(answer: ChatCompletion, text: str) -> dict[str, object]:
    """A function's result, for the first call of an answer."""
    calls = answer.choices[0].message.tool_calls
    assert calls
    return {"role": "tool", "tool_call_id": calls[0].id, "content": text}


def told(answer: ChatCompletion) -> dict[str, object]:
    """The assistant's turn as an application sends it back that knows OpenAI's fields only."""
    message = answer.choices[0].message
    return message.model_dump(include={"role", "content", "tool_calls"})


async def test_thoughts_come_back_unchanged(house: House) -> None:
    """What the model thought before it called a function is with it again, block for block, when the result comes."""
    first = await ask(house)
    assert first.choices[0].finish_reason == "tool_calls"
    second = await ask(house, told(first), result_of(first, "sunny"))

    params = sent(house)[-1]
    blocks = params["messages"][1]["content"]
    assert isinstance(blocks, list)
    assert [block["type"] for block in blocks] == ["thinking", "text", "thinking", "tool_use"]
    assert all(len(block["signature"]) == 64 for block in blocks if block["type"] == "thinking")
    assert "__bw1_" not in blocks[-1]["id"]
    assert params["messages"][2]["content"][0]["tool_use_id"] == blocks[-1]["id"]  # type: ignore[index]
    assert second.choices[0].finish_reason == "stop"
    assert "sunny" in (second.choices[0].message.content or "")


async def test_a_third_turn_holds_on_to_all_of_them(house: House) -> None:
    """Thoughts of earlier turns stay where they were when the conversation goes on: the provider finds nothing changed."""
    first = await ask(house)
    said = [told(first), result_of(first, "sunny")]
    second = await ask(house, *said)
    said += [told(second), {"role": "user", "content": "And weather for Rome?"}]
    third = await ask(house, *said)
    fourth = await ask(house, *said, told(third), result_of(third, "rain"))

    assert third.choices[0].finish_reason == "tool_calls"
    assert "rain" in (fourth.choices[0].message.content or "")


async def test_altered_thoughts_are_refused(house: House) -> None:
    """A signature that somebody changed on the way is told to the caller as the provider's own 400."""
    simulator = house.simulator
    first = await ask(house)
    turn = told(first)
    calls = turn["tool_calls"]
    assert isinstance(calls, list)
    plain, notes = carried(calls[0]["id"])
    assert notes is not None
    altered = orjson.loads(orjson.dumps(notes))
    altered["anthropic"][0]["signature"] = "0" * 64
    calls[0]["id"] = carry(plain, altered)
    result = {"role": "tool", "tool_call_id": calls[0]["id"], "content": "sunny"}
    with pytest.raises(openai.BadRequestError, match="Invalid `signature`"):
        await ask(house, turn, result)
    assert (await simulator.submissions()).calls["create"] == 2


async def test_a_lost_create_call_is_found_again(house: House) -> None:
    """When the answer to the create call is lost, the batch is found by its requests and its line ids, and not made twice."""
    house.simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.CREATE, when="after"))
    asked = asyncio.ensure_future(asyncio.gather(house.ask("Where are you?")))
    await house.skip_until(asked)
    [answered] = asked.result()
    submissions = await house.simulator.submissions()

    assert "Where are you?" in answered.text
    assert (submissions.batches, submissions.repeated) == (1, {})


async def test_what_cannot_be_said_is_refused_at_once(house: House) -> None:
    """A field that the provider has no word for is a 400 that names it, and nothing was sent."""
    async with house.client() as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model=MODEL, messages=[QUESTION], temperature=0.2)  # type: ignore[list-item]

    assert refused.value.param == "temperature"
    assert (await house.simulator.submissions()).batches == 0


async def test_several_answers_are_asked_for_one_by_one(house: House) -> None:
    """`n` is no obstacle: the gateway makes single requests of it."""
    async with house.client() as client:
        answer = await client.chat.completions.create(model=MODEL, messages=[QUESTION], n=2)  # type: ignore[list-item]

    assert [choice.index for choice in answer.choices] == [0, 1]
    assert (await house.simulator.submissions()).accepted_lines == 2
