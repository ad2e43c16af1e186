"""Rows of result files, as far as all plugins read them alike."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import ErrorBody, Result
from gateway.rows import (
    ResultRow,
    error_body,
    failure,
    http_status,
    is_retriable,
    json_row,
    parse_json,
    parsed_object,
    read_response,
    read_row,
    unreadable,
    write_json,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text() | st.sampled_from(["200", "{", '{"a": 1}']),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "message", "code", "detail", "body", "choices"]), inner, max_size=4)
    ),
    max_leaves=8,
)


def answer(body: dict[str, object]) -> dict[str, object] | None:
    """Whatever has choices."""
    return body if body.get("choices") else None


@pytest.mark.parametrize("row", [b"", b"{", b"\xff\xfe", b"[]", b'"x"', b"null", b'{"a": "\xe9', b'{"a": "\xff\xfe"}'])
def test_a_row_that_is_no_object_is_nobodys_and_asked_again(row: bytes) -> None:
    """Broken bytes are a retriable result without a line, from whichever of the two readers."""
    for read in (json_row(row), read_row(row)):
        assert isinstance(read, Result)
        assert (read.line_id, read.status, read.retriable) == (None, 0, True)


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        (b'{"custom_id":"m-1","response":{"body":{"logprob":-Infinity,"more":[NaN,Infinity,1e999]}}}', None),
        (b'{"custom_id":"m-1","response":{"body":{"content":"cut \\ud83d"}}}', "cut \ufffd"),
        (
            b'{"custom_id":"m-1","response":{"body":{"content":"whole \\ud83d\\ude00","x":NaN}}}',
            "whole \N{GRINNING FACE}",
        ),
        (b'\xef\xbb\xbf{"custom_id":"m-1","response":{"body":{"content":"first"}}}', "first"),
        (b'{"custom_id":"m-1","response":{"body":{"content":"cut \xf0\x9f"}}}', "cut \ufffd"),
        (b'{"custom_id":"m-1","response":{"body":{"content":"a\ttab","x":1' + b"0" * 5_000 + b"}}}", "a\ttab"),
        (b'{"custom_id":"m-1","response":"{\\"body\\":{\\"content\\":\\"inner\\",\\"x\\":NaN}}"}', "inner"),
    ],
    ids=[
        "not finite",
        "half of an emoji",
        "a whole emoji",
        "byte order mark",
        "half of the bytes of an emoji",
        "a tab and a long number",
        "in a string",
    ],
)
def test_an_answer_whose_json_is_not_quite_json_is_not_thrown_away(row: bytes, answer: str | None) -> None:
    """What a provider's own writer makes of odd numbers and texts is read: a row that counts as missing is paid for again."""
    read = read_row(row)

    assert isinstance(read, ResultRow)
    assert read.line_id == "m-1"
    body = read.response["body"]
    assert isinstance(body, dict)
    assert body.get("content") == answer
    assert orjson.loads(orjson.dumps(body)) == body


@pytest.mark.parametrize(
    ("row", "line_id", "unanswered"),
    [
        ({"custom_id": "m-1", "response": {"status_code": 200, "body": {"a": 1}}, "error": None}, "m-1", False),
        ({"custom_id": "m-1", "response": None, "error": {"code": "batch_expired"}}, "m-1", True),
        ({"custom_id": "m-1", "response": {"status_code": 0, "body": None}, "error": "late"}, "m-1", True),
        ({"custom_id": "m-1", "response": {"status_code": 400, "body": {"e": 1}}, "error": {"a": 1}}, "m-1", False),
        ({"custom_id": 7, "response": '{"status_code": 200, "body": {"a": 1}}'}, None, False),
    ],
)
def test_a_row_tells_its_line_and_whether_it_was_answered(
    row: dict[str, object], line_id: str | None, unanswered: bool
) -> None:
    """An error counts as an ending of its own only where no response says more."""
    read = read_row(orjson.dumps(row))

    assert isinstance(read, ResultRow)
    assert (read.line_id, read.unanswered) == (line_id, unanswered)


@pytest.mark.parametrize("row", [{}, {"response": None, "error": None}, {"response": "x", "error": {}}])
def test_a_row_without_response_and_error_is_unreadable(row: dict[str, object]) -> None:
    """Its line is known all the same, and is asked again."""
    read = read_row(orjson.dumps({"custom_id": "m-1", **row}))

    assert isinstance(read, Result)
    assert (read.line_id, read.retriable) == ("m-1", True)


@pytest.mark.parametrize(
    ("status", "body", "has_error", "told", "retriable"),
    [
        (200, {"choices": [1]}, False, 200, False),
        (200, '{"choices": [1]}', False, 200, False),
        (200, {"choices": [1]}, True, 200, True),
        (200, {"choices": [1], "error": {"message": "no"}}, False, 200, True),
        (200, {"choices": []}, False, 200, True),
        (200, None, False, 200, True),
        (302, {"choices": [1]}, False, 302, True),
        (400, {"error": {"message": "no"}}, False, 400, False),
        (429, "slow down", False, 429, True),
        (0, None, False, 0, True),
    ],
)
def test_only_three_signs_together_are_success(
    status: int, body: object, has_error: bool, told: int, retriable: bool
) -> None:
    """No error, status 200, and an answer in the body; all else is an error, retriable where it may pass."""
    read = read_response("m-1", status, body, answer, has_error=has_error)

    assert (read.status, read.retriable) == (told, retriable)
    assert (read.body is not None) is (told == 200 and not retriable)
    assert (read.error is None) is (read.body is not None)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("words", ErrorBody(message="words", type="upstream_error")),
        (
            {"message": "m", "type": "t", "param": "p", "code": 400},
            ErrorBody(message="m", type="t", param="p", code="400"),
        ),
        ({"detail": "d"}, ErrorBody(message="d", type="upstream_error")),
        ({"code": "late"}, ErrorBody(message="late", type="upstream_error", code="late")),
        ({"message": ["m"]}, None),
        ("", None),
        (None, None),
        (7, None),
    ],
)
def test_errors_are_found_in_their_usual_forms(content: object, expected: ErrorBody | None) -> None:
    """Text, OpenAI's object, a bare code; what is none of them says nothing."""
    assert error_body(content) == expected


def test_a_long_message_is_cut() -> None:
    """A provider that echoes a prompt into its error does not fill the ledger with it."""
    read = unreadable("m-1", "x" * 5_000)
    told = error_body({"message": "x" * 5_000})

    assert read.error is not None
    assert told is not None
    assert len(read.error.message) == len(told.message) == 2_000


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (200, 200),
        ("404", 404),
        (0, 0),
        (True, 0),
        ("20", 0),
        ("²00", 0),
        ("٢٠٠", 0),
        (-1, 0),
        (1000, 0),
        (None, 0),
        (2.0, 0),
    ],
)
def test_a_status_is_three_digits_however_it_is_written(content: object, status: int) -> None:
    """Numbers and strings of three digits are read, everything else is no status."""
    assert http_status(content) == status


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0, True),
        (400, False),
        (404, False),
        (408, True),
        (409, True),
        (422, False),
        (429, True),
        (499, True),
        (500, True),
    ],
)
def test_what_may_pass_is_asked_again(status: int, expected: bool) -> None:
    """A line that was never run, or failed for reasons that pass, is retriable."""
    assert is_retriable(status) is expected
    assert failure("m-1", status, ErrorBody(message="no", type="t")).retriable is expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [({"a": 1}, {"a": 1}), (' {"a": 1}', {"a": 1}), ("{", None), ("[]", None), ('{"\ud800', None), (None, None)],
)
def test_an_object_in_a_string_is_an_object(content: object, expected: object) -> None:
    """What was encoded twice is decoded twice, and what is broken is nothing."""
    assert parsed_object(content) == expected


@given(row=st.binary() | JSON.map(orjson.dumps), status=st.integers(0, 999), body=JSON, failed=st.booleans())
def test_nothing_raises(row: bytes, status: int, body: object, failed: bool) -> None:
    """Whatever a provider sends, a reader gets a row or a result, and an error always has its message."""
    assert isinstance(read_row(row), ResultRow | Result)
    read = read_response(None, status, body, answer, has_error=failed)

    assert read.body is not None or (read.error is not None and read.error.message)


def nested(value: object, depth: int) -> object:
    """`value` in so many lists, each in an object's field."""
    for _ in range(depth // 2):
        value = {"a": [value, 1]}
    return value


@given(JSON, st.sampled_from([0, 254, 300, 1_000]))
def test_what_can_be_read_can_be_written(value: object, depth: int) -> None:
    """Whatever stands in a row comes back as it was when it is written, however deep it is nested."""
    assert parse_json(write_json(nested(value, depth))) == nested(value, depth)


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (float("nan"), None),
        (float("-inf"), None),
        ("cut \ud83d off", "cut \ufffd off"),
        ({"\ude00": 1}, {"\ufffd": 1}),
        ({7: (1, 2.5)}, {"7": [1, 2.5]}),
        (2**70, float(2**70)),
        ({"a": [], "b": {}, "c": [{}, [None, True]]}, {"a": [], "b": {}, "c": [{}, [None, True]]}),
    ],
)
def test_what_json_has_no_words_for_is_written_so_that_it_can_be_read(value: object, read: object) -> None:
    """Values that plugins have made and JSON does not know are written as the nearest that it knows, at any depth."""
    assert orjson.loads(write_json([value, 2**70])) == [read, float(2**70)]
    assert orjson.loads(write_json(nested(value, 600))) == nested(read, 600)


def test_what_nobody_could_read_is_not_written() -> None:
    """What is no JSON, is nested deeper than readers go, or contains itself is refused: it could not be told again."""
    within_itself: list[object] = []
    within_itself.append(within_itself)
    with pytest.raises(TypeError):
        write_json({"a": b"bytes"})
    for value in (nested(None, 1_026), within_itself):
        with pytest.raises(ValueError, match="too deeply"):
            write_json(value)
