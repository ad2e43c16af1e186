"""A conversation that goes on after functions were called, whatever the client made of it."""

from __future__ import annotations

from typing import Any

import orjson
from gemini_lab import call, chat

from gateway.chat import carry
from gateway_gemini.dialect import PLACEHOLDER, Dialect
from gateway_gemini.encode import encode_line

_CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
_ASKED = [
    {"role": "user", "content": "q"},
    {"role": "assistant", "content": None, "tool_calls": [_CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "rain"},
]


def contents_of(*messages: object) -> list[dict[str, Any]]:
    """The `contents` that are sent for these messages."""
    contents: list[dict[str, Any]] = orjson.loads(encode_line(call(chat(messages=list(messages))), Dialect()))[
        "request"
    ]["contents"]
    return contents


def test_results_stand_as_their_calls_did() -> None:
    """Calls that came without ids go back without: then only their order tells the results of one function apart."""
    first, second = ({**_CALL, "id": name} for name in ("call_g_1", "call_g_2"))
    said = {"role": "assistant", "content": None, "tool_calls": [first, second]}
    results = [{"role": "tool", "tool_call_id": name, "content": name} for name in ("call_g_2", "call_g_1")]
    contents = contents_of(_ASKED[0], said, *results)

    outputs = [part["functionResponse"]["response"]["output"] for part in contents[2]["parts"]]
    assert outputs == ["call_g_1", "call_g_2"]


def test_a_call_whose_signed_text_a_client_dropped_gets_the_placeholder() -> None:
    """A signature that has no text to stand beside would leave the call without any, which Gemini 3 refuses."""
    packed = {**_CALL, "id": carry("c1", {"gemini_text": "signed"})}
    messages = [_ASKED[0], {"role": "assistant", "content": None, "tool_calls": [packed]}, _ASKED[2]]
    part = contents_of(*messages)[1]["parts"][0]

    assert part["thoughtSignature"] == PLACEHOLDER


def test_a_result_with_numbers_that_json_here_cannot_hold_stays_text() -> None:
    """Rounded, an id of 30 digits would be another one."""
    content = '{"id": 123456789012345678901234567890}'
    contents = contents_of(*_ASKED[:2], {**_ASKED[2], "content": content})

    assert contents[2]["parts"][0]["functionResponse"]["response"] == {"output": content}
