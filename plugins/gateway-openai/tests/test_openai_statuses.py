"""Rows of services that leave out the status of an answer."""

from __future__ import annotations

import orjson
import pytest

from gateway_openai.decode import decode_row

ANSWER = {"object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}}]}


@pytest.mark.parametrize("response", [{"body": ANSWER}, {"status_code": None, "body": ANSWER}], ids=["none", "null"])
def test_an_answer_without_a_status_is_one(response: dict[str, object]) -> None:
    """What is not said does not lie: a whole answer without an error is not asked for, and paid, again."""
    result = decode_row(orjson.dumps({"custom_id": "m-1", "response": response, "error": None}))

    assert (result.line_id, result.status, result.body) == ("m-1", 200, ANSWER)


@pytest.mark.parametrize(
    ("response", "error"),
    [
        ({"body": ANSWER}, {"message": "but"}),
        ({"body": {**ANSWER, "error": {"message": "but"}}}, None),
        ({"body": {**ANSWER, "choices": []}}, None),
        ({"status_code": 0, "body": ANSWER}, None),
        ({"body": {"error": {"message": "no"}}}, None),
    ],
)
def test_a_missing_status_makes_no_answer(response: dict[str, object], error: object) -> None:
    """An error, a status that says otherwise, and a body without an answer count as ever."""
    result = decode_row(orjson.dumps({"custom_id": "m-1", "response": response, "error": error}))

    assert (result.body, result.retriable) == (None, True)
