"""Rows that are nested deeper than anybody writes are decoded all the same."""

from __future__ import annotations

from gateway.rows import write_json
from gateway_anthropic.decode import decode_row


def test_a_thought_of_any_depth_keeps_its_answer() -> None:
    """A field of a thinking block that is not known yet, nested deeply, leaves the call beside it as it is."""
    deep: object = 1
    for _ in range(600):
        deep = [deep]
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "s", "trace": deep},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
    ]
    message = {"id": "msg_1", "model": "m", "content": content, "stop_reason": "tool_use"}
    result = decode_row(write_json({"custom_id": "c", "result": {"type": "succeeded", "message": message}}))

    assert (result.line_id, result.status) == ("c", 200)
    assert b'"id":"toolu_1"' in write_json(result.body)
