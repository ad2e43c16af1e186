"""The official SDK in front of the simulator: requests for it, and what became of them."""

from __future__ import annotations

from typing import Any

import anthropic
from anthropic.types.messages import MessageBatch
from anthropic_lab import user

from gateway.testing import Lab

MODEL = "claude-opus-4-8"
TOOL = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
#: A call and its result.
USED: list[dict[str, Any]] = [
    {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1"}]},
]


def params(words: str, **fields: object) -> dict[str, Any]:
    """Params of one question."""
    return {"model": MODEL, "max_tokens": 1_000, "messages": [user(words)], **fields}


def request(name: str, words: str = "hello", **fields: object) -> Any:  # noqa: ANN401 - the SDK's own type
    """One request of a batch."""
    return {"custom_id": name, "params": params(words, **fields)}


async def rows(sdk: anthropic.AsyncAnthropic, batch: MessageBatch) -> dict[str, Any]:
    """The results of a batch, by name."""
    return {row.custom_id: row.result async for row in await sdk.messages.batches.results(batch.id)}


async def ended(lab: Lab, sdk: anthropic.AsyncAnthropic, batch: MessageBatch) -> MessageBatch:
    """The same batch after long enough."""
    lab.clock.jump(1_000)
    return await sdk.messages.batches.retrieve(batch.id)


async def fate(lab: Lab, sdk: anthropic.AsyncAnthropic, **fields: object) -> str:
    """What a line with these fields is told; empty when it is answered."""
    batch = await sdk.messages.batches.create(requests=[request("a", **fields)])  # type: ignore[arg-type]
    await ended(lab, sdk, batch)
    result = (await rows(sdk, batch))["a"]
    return "" if result.type == "succeeded" else f"{result.error.error.type}: {result.error.error.message}"
