"""What each kind of row says: goldens, and rows that nobody would write."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from vertex_lab import MARKER

from gateway import Result
from gateway_vertex.decode import decode_row, error_in

KEY = "batchway-line"
NAME = f"{MARKER}-7"
RESPONSE: dict[str, Any] = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "hello"}]}, "finishReason": "STOP"}],
    "modelVersion": "gemini-2.5-flash",
    "responseId": "r1",
    "usageMetadata": {
        "promptTokenCount": 8,
        "candidatesTokenCount": 11,
        "thoughtsTokenCount": 3,
        "totalTokenCount": 22,
    },
}


def row(**changes: object) -> dict[str, object]:
    """A row as the documentation shows it."""
    request = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "labels": {KEY: NAME}}
    shown = {"status": "", "processed_time": "2026-11-20T12:00:00Z", "request": request, "response": RESPONSE}
    return {name: field for name, field in {**shown, **changes}.items() if field != "absent"}


def decoded(content: object, key: str = KEY) -> Result:
    """What a row says."""
    return decode_row(orjson.dumps(content), key)


def test_an_answer_is_a_chat_completion() -> None:
    """A row with candidates is an answer in OpenAI's shape, named by the label that came back."""
    result = decoded(row())

    assert (result.line_id, result.status, result.retriable) == (NAME, 200, False)
    assert result.body is not None
    assert result.body["choices"][0]["message"]["content"] == "hello"  # type: ignore[index]
    assert result.body["usage"]["completion_tokens"] == 14  # type: ignore[index]


@pytest.mark.parametrize(
    "changes",
    [
        {"request": {"labels": {KEY: NAME}}},
        {"request": orjson.dumps({"labels": {KEY: NAME}}).decode()},
        {"request": {"contents": []}, "key": NAME},
        {"request": {"contents": []}, "custom_id": NAME},
        {"request": {"contents": []}, "labels": {KEY: NAME}},
        {"request": {"contents": []}, KEY: NAME},
        {"request": "absent", "instance": {"labels": {KEY: NAME}}},
        {"request": {"labels": {KEY: NAME}}, "key": "another"},
        {"request": {"labels": {KEY: ""}}, "key": NAME},
        {"request": {"labels": {KEY: 5}}, "key": NAME},
    ],
)
def test_a_name_is_found_wherever_it_may_stand(changes: dict[str, object]) -> None:
    """The label in the echo comes first; a name beside the request, in each way that has been described, is taken too."""
    assert decoded(row(**changes)).line_id == NAME


@pytest.mark.parametrize("request_", [{}, None, "text", [], {"labels": {"other": NAME}}, {"labels": [NAME]}])
def test_a_row_without_a_name_has_none(request_: object) -> None:
    """A row whose name cannot be told is nobody's, and still readable."""
    result = decoded(row(request=request_))

    assert (result.line_id, result.status) == (None, 200)


def test_labels_are_not_looked_at_without_a_key() -> None:
    """With `key` as the carrier a foreign label is not taken for a name."""
    assert decoded(row(key=NAME, request={"labels": {"": "x", KEY: "y"}}), key="").line_id == NAME


_JSON = '{"error":{"code":429,"message":"too fast","status":"RESOURCE_EXHAUSTED"}}'


@pytest.mark.parametrize(
    ("status", "code", "retriable", "message"),
    [
        ("INVALID_ARGUMENT: bad field", 400, False, "bad field"),
        ("Bad Request: INVALID_ARGUMENT", 400, False, "Bad Request"),
        ("RESOURCE_EXHAUSTED", 429, True, "RESOURCE_EXHAUSTED"),
        ("Error: RESOURCE_EXHAUSTED (quota)", 429, True, "quota"),
        ("INTERNAL: oops", 500, True, "oops"),
        ("UNAVAILABLE: later", 503, True, "later"),
        ("DEADLINE_EXCEEDED", 504, True, "DEADLINE"),
        ("PERMISSION_DENIED: no", 403, False, "no"),
        ("NOT_FOUND: model", 404, False, "model"),
        (_JSON, 429, True, "too fast"),
        (f"Too Many Requests: {_JSON}", 429, True, "too fast"),
        ('{"code": 400, "message": "bad"}', 400, False, "bad"),
        ('{"code": 8, "message": "slow"}', 429, True, "slow"),
        ('[{"error": {"code": 503, "message": "down", "status": "UNAVAILABLE"}}]', 503, True, "down"),
        ("rpc error: code = ResourceExhausted desc = slow", 429, True, "slow"),
        ("rpc error: code = InvalidArgument desc = bad", 400, False, "bad"),
        ("failed with code: 13", 500, True, "failed"),
        ("400 Bad Request. The image is broken", 400, False, "broken"),
        ("HTTP 503: try later", 503, True, "try"),
        ("something happened", 500, True, "something happened"),
        ({"code": 3, "message": "bad"}, 400, False, "bad"),
        ({"code": 14, "message": "down"}, 503, True, "down"),
        ({"error": {"code": 429, "message": "slow"}}, 429, True, "slow"),
        (17, 500, True, "no reason"),
    ],
)
@pytest.mark.parametrize("response", ["absent", None, {}])
def test_a_failure_has_its_status(status: object, code: int, retriable: bool, message: str, response: object) -> None:
    """A status text becomes the HTTP status it stands for, in each form that it may have, and its words are kept."""
    result = decoded(row(status=status, response=response))

    assert (result.line_id, result.status, result.retriable) == (NAME, code, retriable)
    assert result.body is None
    assert result.error is not None
    assert message in result.error.message


@pytest.mark.parametrize("error", [{"code": 8, "message": "slow"}, "RESOURCE_EXHAUSTED: slow", [{"code": 8}]])
def test_an_error_may_stand_under_its_own_name(error: object) -> None:
    """A row with `error` instead of `status` is read as well."""
    result = decoded(row(status="absent", response="absent", error=error))

    assert (result.line_id, result.status, result.retriable) == (NAME, 429, True)


def test_an_answer_outweighs_a_status() -> None:
    """What was answered was paid for: a status beside candidates does not take the answer away."""
    assert decoded(row(status="OK")).status == 200


def test_a_blocked_prompt_is_an_answer() -> None:
    """A prompt that was blocked is answered with a refusal, and not asked again."""
    result = decoded(row(response={"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {}}))

    assert (result.status, result.retriable) == (200, False)
    assert result.body is not None
    assert result.body["choices"][0]["finish_reason"] == "content_filter"  # type: ignore[index]


@pytest.mark.parametrize("response", ["absent", None, {}, "", [], {"candidates": []}, {"usageMetadata": {}}])
def test_a_row_without_an_answer_may_be_asked_again(response: object) -> None:
    """Neither answer nor status: the line is named, and retriable."""
    result = decoded(row(response=response))

    assert (result.line_id, result.body, result.retriable) == (NAME, None, True)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"7", b'"text"', b"\xff\xfe", b'{"request":', b"{}"])
def test_a_row_that_cannot_be_read_is_nobodys(raw: bytes) -> None:
    """A damaged row names no line, and harms none."""
    result = decode_row(raw, KEY)

    assert (result.line_id, result.status, result.body, result.retriable) == (None, 0, None, True)


_JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), 1 << 63) | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = ("status", "error", "request", "response", "key", "instance", "prediction", "labels")


@given(changes=st.dictionaries(st.sampled_from(_FIELDS), _JSON_VALUES))
@hypothesis_settings(max_examples=300, deadline=None)
def test_decoding_never_raises(changes: dict[str, object]) -> None:
    """Whatever stands in a row's fields, decoding says something of it, and an answer only where there is one."""
    result = decoded(row(**changes))

    assert (result.body is not None) == (result.status == 200)


@given(text=st.text(max_size=200))
@hypothesis_settings(max_examples=300, deadline=None)
def test_no_text_is_too_strange_for_a_status(text: str) -> None:
    """Any text can be a row's status; one that is not empty makes no answer."""
    result = decoded(row(status=text, response={}))

    assert result.body is None
    assert result.error is not None
    assert error_in(text) is not None or not text
