"""What Anthropic, Gemini and Vertex AI cannot be asked is refused at the door: a 400 that names the field, nothing recorded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import httpx2

from gateway.cli.demo.cast import parts
from tests.integration.town import Town, town

KINDS = ("anthropic", "gemini", "vertex")
USER = {"role": "user", "content": "Hello"}
FUNCTION = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}


def said(*parts: Mapping[str, object]) -> dict[str, object]:
    """A body with one user message of these parts."""
    return {"messages": [{"role": "user", "content": list(parts)}]}


def called(arguments: str) -> dict[str, object]:
    """A body whose history calls a function with these arguments."""
    call = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": arguments}}
    result = {"role": "tool", "tool_call_id": "call_1", "content": "42"}
    return {"messages": [USER, {"role": "assistant", "tool_calls": [call]}, result], "tools": [FUNCTION]}


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AAAA"}}
REMOTE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
SOUND = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}

#: name -> the body, the kinds that refuse it, and how the field that is named begins.
REFUSALS: Mapping[str, tuple[Mapping[str, object], tuple[str, ...], str]] = {
    "custom tool": ({"tools": [{"type": "custom", "custom": {"name": "free"}}]}, KINDS, "tools"),
    "grammar": (
        {"tools": [{"type": "custom", "custom": {"name": "g", "format": {"type": "grammar", "grammar": {}}}}]},
        KINDS,
        "tools",
    ),
    "audio output": ({"modalities": ["text", "audio"]}, KINDS, "modalities"),
    "audio": ({"audio": {"voice": "alloy", "format": "wav"}}, KINDS, "audio"),
    "OpenAI file": (said({"type": "file", "file": {"file_id": "file-1"}}), KINDS, "messages[0].content[0]"),
    "audio input": (said(SOUND), ("anthropic",), "messages[0].content[0]"),
    "logit bias": ({"logit_bias": {"50256": -100}}, KINDS, "logit_bias"),
    "logprobs": ({"logprobs": True}, ("anthropic",), "logprobs"),
    "JSON object": ({"response_format": {"type": "json_object"}}, ("anthropic",), "response_format"),
    "temperature": ({"temperature": 0.5}, ("anthropic",), "temperature"),
    "top_p": ({"top_p": 0.5}, ("anthropic",), "top_p"),
    "presence penalty": ({"presence_penalty": 1}, ("anthropic",), "presence_penalty"),
    "frequency penalty": ({"frequency_penalty": 1}, ("anthropic",), "frequency_penalty"),
    "calls one at a time": (
        {"tools": [FUNCTION], "parallel_tool_calls": False},
        ("gemini", "vertex"),
        "parallel_tool_calls",
    ),
    "web search": ({"web_search_options": {}}, KINDS, "web_search_options"),
    "moderation": ({"moderation": {"model": "m"}}, KINDS, "moderation"),
    "tier flex of others": ({"service_tier": "priority"}, KINDS, "service_tier"),
    "scale": ({"service_tier": "scale"}, KINDS, "service_tier"),
    "arguments that are no JSON": (called("{"), KINDS, "messages[1].tool_calls[0]"),
    "arguments that are no object": (called("[1]"), KINDS, "messages[1].tool_calls[0]"),
    "image type": (said(IMAGE), ("anthropic",), "messages[0].content[0]"),
    "remote image": (said(REMOTE), ("gemini", "vertex"), "messages[0].content[0]"),
    "unknown field": ({"sampling_magic": 1}, KINDS, "sampling_magic"),
    "unknown part": (said({"type": "hologram", "hologram": {}}), KINDS, "messages[0].content[0]"),
    "no tokens": ({"max_completion_tokens": 0}, KINDS, "max_completion_tokens"),
    "result of no call": (
        {"messages": [USER, {"role": "tool", "tool_call_id": "lost", "content": "x"}]},
        KINDS,
        "messages[1]",
    ),
}


async def test_whatever_cannot_be_said_is_refused_before_anything_is_recorded(tmp_path: Path) -> None:
    """Each is a 400 with OpenAI's error object that names the field; nothing is recorded, and no provider hears of it."""
    async with town(tmp_path, parts(KINDS)) as here:
        wrong = [
            (name, kind, seen)
            for name, (body, kinds, field) in REFUSALS.items()
            for kind in kinds
            if (seen := await asked(here, kind, body))[0] != 400 or not seen[1].startswith(field)
        ]
        recorded = await here.gateway.ledger.requests.listed(None)
        submissions = [await simulator.submissions() for simulator in here.simulators.values()]

    assert wrong == []
    assert recorded == []
    assert [found.calls for found in submissions] == [{}] * len(KINDS)


async def asked(here: Town, kind: str, body: Mapping[str, object]) -> tuple[int, str]:
    """The status, and the field that the error names."""
    model = next(part.model for part in here.cast if part.kind == kind)
    # Whoever is not refused is not waited for.
    headers = {"Prefer": "respond-async"}
    async with httpx2.AsyncClient() as http:
        response = await http.post(
            f"{here.client.base_url}chat/completions",
            json={"model": f"{kind}/{model}", "messages": [USER], **body},
            headers=headers,
        )
    error = response.json().get("error") or {}
    return response.status_code, str(error.get("param"))
