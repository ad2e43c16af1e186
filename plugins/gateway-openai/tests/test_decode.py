"""What a row of a result file says, also when it says nonsense."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import Result
from gateway_openai.decode import decode_row

ANSWER = {"id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": {"content": "hi"}}]}
ERROR = {"error": {"message": "no such thing", "type": "invalid_request_error", "param": "model", "code": "nope"}}


def row(status: object, body: object, error: object = None) -> bytes:
    """One row with a response."""
    response = {"status_code": status, "request_id": "r", "body": body}
    return orjson.dumps({"id": "b", "custom_id": "m-1", "response": response, "error": error})


def unanswered(code: str) -> bytes:
    """One row of a line that was never answered."""
    return orjson.dumps({"custom_id": "m-1", "response": None, "error": {"code": code, "message": "sorry"}})


@pytest.mark.parametrize("body", [ANSWER, orjson.dumps(ANSWER).decode()])
def test_an_answer_is_handed_on_whole(body: object) -> None:
    """An answer comes back unchanged, also where the body was sent as a string of JSON."""
    assert decode_row(row(200, body)) == Result(line_id="m-1", status=200, body=ANSWER)


@pytest.mark.parametrize(
    ("raw", "status", "retriable"),
    [
        (row(400, ERROR), 400, False),
        (row(404, ERROR), 404, False),
        (row(401, ERROR), 401, False),
        (row(408, ERROR), 408, True),
        (row(409, ERROR), 409, True),
        (row(429, ERROR), 429, True),
        (row(500, ERROR), 500, True),
        (row(503, None), 503, True),
        (row("429", ERROR), 429, True),
        (row(0, None), 0, True),
        (row(None, None), 0, True),
        (row(200, ANSWER | {"choices": []}), 200, True),
        (row(200, {"object": "chat.completion"}), 200, True),
        (row(200, None), 200, True),
        (row(200, ERROR), 200, True),
        (row(200, ANSWER | ERROR), 200, True),
        (row(200, ANSWER, error={"message": "but"}), 200, True),
        (unanswered("batch_expired"), 504, True),
        (unanswered("batch_cancelled"), 499, True),
        (unanswered("request_timeout"), 408, True),
        (unanswered("something_new"), 0, True),
        (orjson.dumps({"custom_id": "m-1"}), 0, True),
    ],
)
def test_failures_are_told_apart(raw: bytes, status: int, retriable: bool) -> None:
    """Each kind of failed row gives its status, an error, no body, and whether asking again may help."""
    result = decode_row(raw)

    assert (result.line_id, result.status, result.retriable) == ("m-1", status, retriable)
    assert result.body is None
    assert result.error is not None
    assert result.error.message


def test_the_providers_own_error_is_kept() -> None:
    """The caller gets to see what the provider said, field by field."""
    error = decode_row(row(400, ERROR)).error

    assert error is not None
    assert (error.message, error.type, error.param, error.code) == (
        "no such thing",
        "invalid_request_error",
        "model",
        "nope",
    )


@pytest.mark.parametrize("raw", [b"", b"{", b"null", b"[1]", b'"x"', b"\xff\xfe", b'{"custom_id": 5}'])
def test_rows_that_cannot_be_read_name_no_line(raw: bytes) -> None:
    """A row that is no JSON object, or names no line, is retriable and belongs to nobody."""
    result = decode_row(raw)

    assert (result.line_id, result.body, result.retriable) == (None, None, True)


@given(st.binary(max_size=200))
def test_no_bytes_can_make_it_raise(raw: bytes) -> None:
    """Arbitrary bytes give a result, never an exception."""
    assert isinstance(decode_row(raw), Result)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
ROWS = st.fixed_dictionaries(
    {},
    optional={
        "custom_id": JSON,
        "error": JSON | st.fixed_dictionaries({}, optional={"code": JSON, "message": JSON}),
        "response": JSON
        | st.fixed_dictionaries(
            {},
            optional={
                "status_code": JSON | st.sampled_from([200, 400, 500]),
                "body": JSON | st.fixed_dictionaries({}, optional={"error": JSON, "choices": JSON, "object": JSON}),
            },
        ),
    },
)


@given(JSON | ROWS)
def test_no_json_can_make_it_raise(content: object) -> None:
    """Arbitrary JSON, also of nearly the right shape, gives an answer only with choices, and else an error."""
    try:
        raw = orjson.dumps(content)
    except orjson.JSONEncodeError:
        return
    result = decode_row(raw)

    assert (result.body is None) != (result.error is None)
    assert result.line_id is None or isinstance(result.line_id, str)
    assert result.retriable or result.error is None or 400 <= result.status < 500
