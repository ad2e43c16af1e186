"""What the tests of this plugin share: bodies, rows, and Google's client in front of the simulator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import orjson
from google import genai
from google.genai import types
from google.genai.client import AsyncClient

from gateway import (
    Call,
    Result,
)
from gateway.testing import Lab
from gateway_gemini.decode import decode_row
from gateway_gemini.dialect import Dialect
from gateway_gemini.encode import encode_line
from gateway_gemini.sandbox import GeminiSimulator

CHAT = "/v1/chat/completions"
MODEL = "gemini-3-flash"
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TIME = {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}}
PIXEL = "iVBORw0KGgo="


def chat(text: str = "hello", **fields: object) -> dict[str, object]:
    """A chat body with one user message."""
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}


def call(body: Mapping[str, object], endpoint: str = CHAT) -> Call:
    """What the gateway hands to `encode`."""
    return Call(endpoint=endpoint, model=str(body["model"]), body=body)


def simulator(lab: Lab) -> GeminiSimulator:
    """The simulator by its own type."""
    return cast("GeminiSimulator", lab.simulator)


def message_of(result: Result) -> dict[str, object]:
    """The message of a result's first choice."""
    answer = orjson.loads(orjson.dumps(result.body))
    return cast("dict[str, object]", answer["choices"][0]["message"])


@asynccontextmanager
async def sdk_of(lab: Lab, version: str) -> AsyncIterator[AsyncClient]:
    """Google's client, pointed at the simulator."""
    assert lab.server is not None
    options = types.HttpOptions(base_url=lab.server.base_url(lab.simulator), api_version=version)
    with genai.Client(vertexai=False, api_key="k", http_options=options) as client:
        yield client.aio
        await client.aio.aclose()


CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}


ASKED = [
    {"role": "user", "content": "q"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "rain"},
]


def request_in(body: Mapping[str, object], dialect: Dialect | None = None) -> dict[str, Any]:
    """The request that `encode` writes."""
    line = orjson.loads(encode_line(call(body), dialect or Dialect()))
    assert line.keys() == {"request"}
    request: dict[str, Any] = line["request"]
    return request


MARKER = "abcdefghij0123456789"


def row(response: dict[str, Any] | None = None, **fields: object) -> Result:
    """What a row with the key `k` says."""
    content: dict[str, object] = {"key": "k", **fields}
    if response is not None:
        content["response"] = response
    return decode_row(orjson.dumps(content))
