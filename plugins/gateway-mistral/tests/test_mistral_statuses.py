"""A row that tells no status is read as the provider's own helper reads it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from mistralai.client.models import ChatCompletionResponse
from mistralai.extra.batch import BatchOutput

from gateway_mistral.decode import decode_row

MESSAGE = {"role": "assistant", "content": "Hello"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
ANSWER = {
    "id": "cmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
    "usage": USAGE,
}


@pytest.mark.parametrize(
    "response",
    [{"body": ANSWER}, {"status_code": None, "body": ANSWER}],
    ids=["none", "null"],
)
def test_an_answer_without_a_status_is_one(response: dict[str, Any]) -> None:
    """Only an error, or a status of 400 and more, makes a row a failure: an answer is not asked for, and paid, again."""
    row = orjson.dumps({"custom_id": "m-1", "response": response, "error": None})
    helped = BatchOutput.from_jsonl_bytes(row + b"\n", ChatCompletionResponse)
    result = decode_row(row)

    assert list(helped.responses) == ["m-1"]
    assert (result.line_id, result.status) == ("m-1", 200)
    assert result.body is not None


@pytest.mark.parametrize(
    "response", [{}, {"body": None}, {"status_code": 0, "body": {}}, {"status_code": 500, "body": ANSWER}]
)
def test_a_row_without_an_answer_has_none(response: dict[str, Any]) -> None:
    """Neither a missing status nor a body alone makes an answer."""
    result = decode_row(orjson.dumps({"custom_id": "m-1", "response": response, "error": None}))

    assert (result.body, result.retriable) == (None, True)
