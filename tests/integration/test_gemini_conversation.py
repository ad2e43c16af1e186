"""A conversation with tools through the whole gateway, with the official client of OpenAI on one side."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson
import pytest
from openai import BadRequestError
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from gateway.chat import read_chat
from gateway.clock import SystemClock
from gateway.config import ProviderTable
from gateway.sandbox import Directive, Line, Outcome
from gateway_gemini.dialect import PLACEHOLDER
from gateway_gemini.sandbox import GeminiSimulator
from gateway_gemini.simulated.signing import signature
from gateway_gemini.translate import chat_answer, generate_content_request
from tests.integration.house import QUICK, House, open_house

MODEL = "gemini-3-flash"
_CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_TOOLS: list[ChatCompletionToolParam] = [
    {"type": "function", "function": {"name": "weather", "parameters": _CITY}},
    {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}},
]


class Account(GeminiSimulator):
    """A simulated project that remembers the requests it ran."""

    def __init__(self) -> None:
        """A quick one."""
        super().__init__(clock=SystemClock(), name="sim", settings=QUICK)
        self.ran: list[Any] = []

    def answer(self, line: Line, told: Directive | None) -> Outcome:
        """The same answer, remembered."""
        self.ran.append(line.body)
        return super().answer(line, told)


@pytest.fixture
async def account() -> Account:
    """One project."""
    return Account()


@pytest.fixture
async def house(tmp_path: Path, account: Account) -> AsyncIterator[House]:
    """A gateway in front of it."""
    table = ProviderTable(name="sim", kind="gemini", sandbox=True, limits={"min_poll_seconds": 0.01})
    providers = MappingProxyType({"sim": table})
    async with open_house(tmp_path, simulator=account, providers=providers) as opened:  # type: ignore[arg-type]
        yield opened


async def test_signatures_survive_a_conversation(house: House, account: Account) -> None:
    """Two turns with tools and reasoning: the model's signature comes back to it as it was, in the call it belongs to."""
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": "weather and time in Oslo?"}]
    async with house.client() as client:
        first = await client.chat.completions.create(
            model=MODEL, messages=messages, tools=_TOOLS, tool_choice="required", reasoning_effort="high"
        )
        calls = first.choices[0].message.tool_calls or []
        messages.append(first.choices[0].message.model_dump(exclude_none=True))  # type: ignore[arg-type]
        messages += [{"role": "tool", "tool_call_id": each.id, "content": "rain"} for each in calls]
        second = await client.chat.completions.create(
            model=MODEL, messages=messages, tools=_TOOLS, reasoning_effort="high"
        )
    replayed = account.ran[1]["contents"][1]["parts"]

    assert first.choices[0].finish_reason == "tool_calls"
    assert [each.function.name for each in calls if each.type == "function"] == ["weather", "time"]
    assert replayed[0]["thoughtSignature"] == signature(replayed[0]["functionCall"]) != PLACEHOLDER
    assert "thoughtSignature" not in replayed[1]
    assert [part["functionCall"]["id"] for part in replayed] == [each.id.partition("__bw1_")[0] for each in calls]
    assert [part["functionResponse"]["name"] for part in account.ran[1]["contents"][2]["parts"]] == ["weather", "time"]
    assert second.choices[0].finish_reason == "stop"
    assert first.usage is not None
    assert first.usage.completion_tokens_details is not None
    assert first.usage.completion_tokens_details.reasoning_tokens == 16


def test_ids_of_our_making_stay_with_us() -> None:
    """An answer whose calls have no ids is replayed without ids: the provider never sees one that it did not give."""
    part = {"functionCall": {"name": "weather", "args": {"city": "Oslo"}}, "thoughtSignature": "c2ln"}
    answer = {"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]}
    [called] = orjson.loads(orjson.dumps(chat_answer(answer).body))["choices"][0]["message"]["tool_calls"]
    result = {"role": "tool", "tool_call_id": called["id"], "content": "rain"}
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [called]}, result]
    contents: Any = generate_content_request(read_chat({"model": MODEL, "messages": messages}))["contents"]

    assert contents[1]["parts"] == [part]
    assert contents[2]["parts"] == [{"functionResponse": {"name": "weather", "response": {"output": "rain"}}}]


async def test_an_altered_call_is_the_callers_own_400(house: House) -> None:
    """A caller who changes the arguments of a signed call gets the provider's refusal; a lost signature is made up for."""
    messages: list[Any] = [{"role": "user", "content": "weather?"}]
    async with house.client() as client:
        first = await client.chat.completions.create(
            model=MODEL, messages=messages, tools=_TOOLS, tool_choice="required"
        )
        message = orjson.loads(first.choices[0].message.model_dump_json(exclude_none=True))
        results = [{"role": "tool", "tool_call_id": each["id"], "content": "x"} for each in message["tool_calls"]]
        message["tool_calls"][0]["function"]["arguments"] = '{"city":"elsewhere"}'
        with pytest.raises(BadRequestError, match="signature"):
            await client.chat.completions.create(model=MODEL, messages=[*messages, message, *results], tools=_TOOLS)
        for place, each in enumerate(message["tool_calls"]):
            each["id"] = results[place]["tool_call_id"] = f"call_{place}"
        answered = await client.chat.completions.create(
            model=MODEL, messages=[*messages, message, *results], tools=_TOOLS
        )

    assert answered.choices[0].message.content


async def test_a_refusal_at_admission_costs_nothing(house: House, account: Account) -> None:
    """What Gemini cannot say is a 400 that names the field, before anything is recorded or sent."""
    async with house.client() as client:
        with pytest.raises(BadRequestError) as caught:
            await client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "x"}], logit_bias={"1": 2}
            )

    assert caught.value.param == "logit_bias"
    assert account.ran == []
    assert await house.lines() == 0
