"""All kinds of providers behind one gateway at once: every caller its own answer, every provider its own wire format."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from openai.types.chat import ChatCompletion

from gateway.cli.demo.cast import parts
from gateway.cli.demo.oracle import Oracle
from gateway.clock import SystemClock
from tests.integration.town import town

COUNT = 1_000

TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Looks a word up.",
        "parameters": {
            "type": "object",
            "properties": {"word": {"type": "string"}},
            "required": ["word"],
            "additionalProperties": False,
        },
    },
}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "verdict",
        "schema": {
            "type": "object",
            "properties": {"word": {"type": "string"}, "sure": {"type": "boolean"}},
            "required": ["word", "sure"],
            "additionalProperties": False,
        },
    },
}


def body(number: int) -> dict[str, object]:
    """The request of this number: texts, conversations, tools, results of tools, structured answers, in turn."""
    user = {"role": "user", "content": f"What is number {number} about?"}
    called = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "look_up", "arguments": f'{{"word":"w{number}"}}'},
    }
    shapes: list[dict[str, object]] = [
        {"messages": [user]},
        {"messages": [{"role": "system", "content": "Be short."}, user], "max_completion_tokens": 500},
        {
            "messages": [
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "Hello. How can I help?"},
                {"role": "user", "content": [{"type": "text", "text": f"With number {number}"}]},
            ],
            "stop": ["END"],
        },
        {"messages": [user], "tools": [TOOL], "tool_choice": "required"},
        {
            "messages": [
                user,
                {"role": "assistant", "content": None, "tool_calls": [called]},
                {"role": "tool", "tool_call_id": "call_1", "content": f"A word: {number}."},
            ],
            "tools": [TOOL],
        },
        {"messages": [user], "response_format": SCHEMA},
    ]
    return shapes[number % len(shapes)]


def gist(completion: Mapping[str, object]) -> object:
    """What of an answer depends on the question alone: not the ids, which are drawn."""
    parsed = ChatCompletion.model_validate({"id": "", "created": 0, "object": "chat.completion", **completion})
    return [
        (
            choice.finish_reason,
            choice.message.content,
            [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or ()],
        )
        for choice in parsed.choices
    ]


async def test_a_thousand_requests_over_all_kinds_come_back_to_their_callers(tmp_path: Path) -> None:
    """Texts, conversations, tools and structured answers for all kinds at once: each caller gets what the simulated provider
    says to its own request, nothing is submitted twice, and no provider refuses a line.
    """
    cast = parts([])
    clock = SystemClock()
    kinds = [part.kind for part in cast]
    numbers = {number: kinds[number // 6 % len(kinds)] for number in range(COUNT)}
    async with town(tmp_path, cast) as here:
        answers = await asyncio.gather(*(here.ask(kind, skipped(kind, number)) for number, kind in numbers.items()))
        submissions = {kind: await simulator.submissions() for kind, simulator in here.simulators.items()}
    oracles = {
        part.kind: Oracle(part.provider_class, part.simulator_class, clock, tmp_path / "oracle") for part in cast
    }
    models = {part.kind: part.model for part in cast}
    wrong = [
        (kind, number)
        for (number, kind), answer in zip(numbers.items(), answers, strict=True)
        if gist(answer.model_dump()) != gist(oracles[kind].completion(models[kind], skipped(kind, number)))
    ]
    for oracle in oracles.values():
        await oracle.provider.aclose()

    assert wrong == []
    assert {kind: found.repeated for kind, found in submissions.items()} == {kind: {} for kind in kinds}
    batched = {part.kind for part in cast if part.provider_class.batch}
    asked = Counter(numbers.values())
    assert {kind: submissions[kind].accepted_lines for kind in batched} == {kind: asked[kind] for kind in batched}
    assert all(submissions[kind].answered == asked[kind] for kind in batched)


def skipped(kind: str, number: int) -> dict[str, object]:
    """The request, less a structured answer where the kind has none."""
    asked = body(number)
    return {"messages": asked["messages"]} if "response_format" in asked and kind == "kluster" else asked
