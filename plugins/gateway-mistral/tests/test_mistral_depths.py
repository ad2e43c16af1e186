"""What is nested deeper than most writers go is sent, or refused by its name, and is no fault of the plugin's."""

from __future__ import annotations

import orjson

from gateway import Call
from gateway_mistral.encode import encode_line


def test_arguments_of_any_depth_go_back_as_text() -> None:
    """A call of an earlier turn whose arguments came as an object goes back with the same arguments in text."""
    deep: object = 1
    for _ in range(600):
        deep = {"a": deep}
    call = {"id": "abcdefghi", "type": "function", "function": {"name": "f", "arguments": deep}}
    body = {
        "model": "m",
        "messages": [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "abcdefghi", "content": "r"},
        ],
    }
    line = orjson.loads(encode_line(Call(endpoint="/v1/chat/completions", model="m", body=body), frozenset()))
    sent = line["body"]["messages"][1]["tool_calls"][0]["function"]["arguments"]

    assert orjson.loads(sent) == deep
