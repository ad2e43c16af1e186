"""What the tests of this plugin share: bodies, what is sent for them, and rows of results."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from gateway import Call, Unsupported
from gateway.testing import QuickClock, served
from gateway_anthropic import AnthropicProvider
from gateway_anthropic.encode import CHAT, Params, write_params
from gateway_anthropic.settings import AnthropicSettings

MODEL = "claude-opus-4-8"
#: Thinks by a budget.
OLDER = "claude-haiku-4-5"
#: Always thinks, and calls functions only when it wants to.
NEWEST = "claude-fable-5-1"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def chat(*messages: Mapping[str, object], model: str = MODEL, **fields: object) -> dict[str, object]:
    """A chat body; one question when no messages are given."""
    return {"model": model, "messages": list(messages) or [user("Hello")], **fields}


def user(content: object) -> dict[str, object]:
    """A user's message."""
    return {"role": "user", "content": content}


def called(*ids: str, content: str | None = None) -> dict[str, object]:
    """An assistant's message that calls `weather` once for each id."""
    calls = [
        {"id": name, "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
        for name in ids
    ]
    return {"role": "assistant", "content": content, "tool_calls": calls}


def result(call_id: str, content: str = "sunny") -> dict[str, object]:
    """A function's result."""
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def tool(name: str = "weather", **fields: object) -> dict[str, object]:
    """A function on offer."""
    return {"type": "function", "function": {"name": name, "parameters": SCHEMA, **fields}}


def written(body: Mapping[str, object], **settings: object) -> Params:
    """What is sent for `body`, and what is left out."""
    own = AnthropicSettings.model_validate(settings)
    return write_params(Call(endpoint=CHAT, model=str(body["model"]), body=body), own)


def sent(body: Mapping[str, object], **settings: object) -> dict[str, Any]:
    """What is sent for `body`, as the provider parses it."""
    parsed: dict[str, Any] = orjson.loads(orjson.dumps(written(body, **settings).content))
    return parsed


def refused(body: Mapping[str, object], **settings: object) -> str:
    """The field that a refusal of `body` names."""
    with pytest.raises(Unsupported) as refusal:
        written(body, **settings)
    return refusal.value.field


def message(*blocks: object, **fields: object) -> dict[str, object]:
    """An answered Message."""
    usage = {"input_tokens": 7, "output_tokens": 5}
    shown = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": list(blocks)}
    return {**shown, "stop_reason": "end_turn", "stop_sequence": None, "usage": usage, **fields}


def succeeded(*blocks: object, **fields: object) -> bytes:
    """A row with an answer."""
    return row({"type": "succeeded", "message": message(*blocks, **fields)})


def row(result: object, custom_id: object = "m-1") -> bytes:
    """A row."""
    return orjson.dumps({"custom_id": custom_id, "result": result})


def text(words: str) -> dict[str, object]:
    """A text block."""
    return {"type": "text", "text": words}


def bodies(count: int) -> list[dict[str, object]]:
    """So many different questions."""
    return [chat(user(f"question {n}")) for n in range(count)]


@asynccontextmanager
async def speaking_to(
    answer: object, tmp_path: Path, **settings: object
) -> AsyncIterator[tuple[AnthropicProvider, list[web.Request]]]:
    """A provider in front of a server that gives one answer to everything, and what it was asked."""
    asked: list[web.Request] = []

    async def answered(request: web.Request) -> web.StreamResponse:
        asked.append(request)
        if callable(answer):
            response: web.StreamResponse = await answer(request)
            return response
        return web.json_response(answer)

    async with served(answered) as url:
        own = AnthropicProvider.Settings.model_validate({"api_key": "k", "base_url": url, **settings})
        made = AnthropicProvider("anthropic", own, QuickClock(), tmp_path)
        try:
            yield made, asked
        finally:
            await made.aclose()


def call_of(asked: dict[str, object]) -> Call:
    """What the gateway makes of a body."""
    return Call(endpoint="/v1/chat/completions", model=str(asked["model"]), body=asked)
