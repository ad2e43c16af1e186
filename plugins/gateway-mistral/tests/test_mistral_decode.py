"""What a row of a result file says, whatever the provider has put there."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mistral_lab import JSON
from openai.types.chat import ChatCompletion

from gateway import ErrorBody
from gateway_mistral.decode import decode_row
from gateway_mistral.messages import translated_messages
from gateway_mistral.remote import refusal, remote_batch


def answer(**changes: object) -> dict[str, object]:
    """A completion as Mistral writes it."""
    message = {"role": "assistant", "content": "Bonjour", "tool_calls": None, "prefix": False}
    return {
        "id": "41d9fe8c",
        "object": "chat.completion",
        "created": 1_764_000_000,
        "model": "mistral-small-latest",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
    } | changes


def said(finish: str = "stop", **message: object) -> dict[str, object]:
    """A completion with this message."""
    return answer(choices=[{"index": 0, "finish_reason": finish, "message": {"role": "assistant", **message}}])


def row(body: object, status: object = 200, error: object = None) -> bytes:
    """A row of a result file."""
    response = {"status_code": status, "body": body}
    return orjson.dumps({"id": "batch-1", "custom_id": "m-0", "response": response, "error": error})


def read(body: object) -> dict[str, object]:
    """The decoded body of a row that succeeded; it is what the `openai` client takes."""
    result = decode_row(row(body))
    assert result.status == 200
    assert result.body is not None
    ChatCompletion.model_validate({"id": "x", "created": 1, **result.body})
    return orjson.loads(orjson.dumps(result.body))


def message_of(body: object) -> dict[str, object]:
    """The first choice's message."""
    choices = read(body)["choices"]
    assert isinstance(choices, list)
    message: dict[str, object] = choices[0]["message"]
    return message


def test_an_answer_is_a_chat_completion() -> None:
    """Id, time and model are the provider's; the tokens are counted as OpenAI counts them."""
    result = decode_row(row(answer()))

    assert (result.line_id, result.status, result.error, result.retriable) == ("m-0", 200, None, False)
    assert read(answer()) == {
        "id": "41d9fe8c",
        "created": 1_764_000_000,
        "model": "mistral-small-latest",
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Bonjour", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 7,
            "total_tokens": 12,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


def test_what_is_thought_is_told_from_what_is_said() -> None:
    """A list of chunks becomes one text; thoughts go to `reasoning_content`; other chunks are left out."""
    message = message_of(
        said(
            content=[
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}, {"type": "reference"}]},
                {"type": "text", "text": "A"},
                {"type": "reference", "reference_ids": [1]},
                {"type": "text", "text": "B"},
            ]
        )
    )

    assert message == {"role": "assistant", "content": "AB", "refusal": None, "reasoning_content": "hm"}


def test_tool_calls() -> None:
    """Arguments become text, a missing id is made up, and a null content stays null."""
    body = said(
        "tool_calls",
        content="",
        tool_calls=[
            {"id": "aB3dE6gH9", "function": {"name": "f", "arguments": {"a": 1}}, "index": 0},
            {"id": "null", "function": {"name": "g", "arguments": '{"b":2}'}},
        ],
    )
    message = message_of(body)
    calls = message["tool_calls"]
    assert isinstance(calls, list)

    assert message["content"] is None
    assert calls[0] == {"id": "aB3dE6gH9", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    assert calls[1]["function"] == {"name": "g", "arguments": '{"b":2}'}
    assert calls[1]["id"] not in ("", "null", "aB3dE6gH9")
    assert message_of(body) == message


@pytest.mark.parametrize(
    ("finish", "expected"),
    [("stop", "stop"), ("length", "length"), ("model_length", "length"), ("tool_calls", "tool_calls"), ("odd", "stop")],
)
def test_finish_reasons(finish: str, expected: str) -> None:
    """The model's own limit is `length` too; a new word counts as `stop`."""
    choices = read(said(finish, content="x"))["choices"]
    assert isinstance(choices, list)

    assert choices[0]["finish_reason"] == expected


def test_an_answer_that_broke_down_is_a_failure() -> None:
    """A choice that ended in `error` has no answer, and the line is tried again."""
    result = decode_row(row(said("error", content="half a sen")))

    assert (result.status, result.body, result.retriable) == (502, None, True)


def test_tokens_are_counted_when_they_come_as_text() -> None:
    """A count that is not read would make an answer look free."""
    usage = read(answer(usage={"prompt_tokens": "12", "completion_tokens": 3, "total_tokens": None}))["usage"]

    assert (usage["prompt_tokens"], usage["total_tokens"]) == (12, 15)  # type: ignore[index]


def test_usage_with_nulls() -> None:
    """Counts that are null are zero; cached tokens are found under either name."""
    plain = {"prompt_tokens": None, "completion_tokens": 3, "total_tokens": None, "prompt_audio_seconds": None}

    assert read(answer(usage=plain))["usage"]["total_tokens"] == 3  # type: ignore[index]
    for cached in ({"prompt_tokens_details": {"cached_tokens": 4}}, {"num_cached_tokens": 4}):
        usage = read(answer(usage=plain | cached))["usage"]
        assert usage["prompt_tokens_details"] == {"cached_tokens": 4}  # type: ignore[index]


FORBIDDEN = {"type": "extra_forbidden", "loc": ["body", "user"], "msg": "Extra inputs are not permitted", "input": "u"}
TEXT = "Extra inputs are not permitted (user)"


@pytest.mark.parametrize(
    ("status", "body", "error", "expected", "retriable"),
    [
        (
            422,
            {"object": "error", "message": {"detail": [FORBIDDEN]}, "type": "invalid_request_error", "code": None},
            None,
            ErrorBody(message=TEXT, type="invalid_request_error", param="user"),
            False,
        ),
        (422, {"detail": [FORBIDDEN]}, None, ErrorBody(message=TEXT, type="upstream_error", param="user"), False),
        (
            400,
            {"object": "error", "message": "bad id", "type": "invalid_function_call", "param": None, "code": "3280"},
            None,
            ErrorBody(message="bad id", type="invalid_function_call", code="3280"),
            False,
        ),
        (400, None, {"message": "told"}, ErrorBody(message="told", type="upstream_error"), False),
        (429, {"message": "slow down"}, None, ErrorBody(message="slow down", type="upstream_error"), True),
        (500, "oops", None, ErrorBody(message="oops", type="upstream_error"), True),
        (503, None, None, ErrorBody(message="The provider answered with status 503.", type="upstream_error", code="503"), True),
        (None, None, "timed out", ErrorBody(message="timed out", type="upstream_error"), True),
        (None, None, {"message": "no", "raw_status_code": 400}, ErrorBody(message="no", type="upstream_error"), False),
        (200, answer(), "but", ErrorBody(message="but", type="upstream_error"), True),
        ("400", {"error": {"message": "in"}}, None, ErrorBody(message="in", type="upstream_error"), False),
    ],
)  # fmt: skip
def test_rows_that_failed(status: object, body: object, error: object, expected: ErrorBody, retriable: bool) -> None:
    """Both forms of a failed validation, plain errors and bare texts; a 4xx is final, all else is tried again."""
    result = decode_row(row(body, status, error))

    assert (result.line_id, result.body, result.error, result.retriable) == ("m-0", None, expected, retriable)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"custom_id":7,"response":{"status_code":200,"body":{}}}',
        b'{"custom_id":"m-0"}',
        b'{"custom_id":"m-0","response":null,"error":null}',
        row({}),
        row({"choices": []}),
        row({"choices": None}),
        row(answer(), status=0),
        row(answer(), status=True),
        b'{"custom_id":"m-0","response":{"status_code":500,"body":' + b'{"error":' * 1015 + b"1" + b"}" * 1015 + b"}}",
    ],
)
def test_rows_that_say_nothing_are_tried_again(raw: bytes) -> None:
    """Broken, empty or odd rows have no answer and no verdict."""
    result = decode_row(raw)

    assert (result.body, result.retriable) == (None, True)


@given(JSON, JSON, JSON)
def test_no_row_is_a_bug(body: object, error: object, status: object) -> None:
    """Whatever JSON stands in a row, it decodes; a success is a chat completion."""
    for content in (
        {"custom_id": "m-0", "response": {"status_code": status, "body": body}, "error": error},
        {
            "custom_id": "m-0",
            "response": {"status_code": 200, "body": {"choices": [{"message": body}], "usage": error}},
        },
        {"custom_id": body, "response": error},
        body,
    ):
        result = decode_row(orjson.dumps(content))
        assert (result.body is None) == (result.error is not None)
        if result.body is not None:
            orjson.dumps(result.body)


@given(st.binary(max_size=40))
def test_no_bytes_are_a_bug(raw: bytes) -> None:
    """Rows that are no JSON decode as well."""
    assert decode_row(raw).body is None


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.text("0123456789abcdefghijk", min_size=9, max_size=9),
)
def test_a_tool_call_comes_back_as_it_went(arguments: str, name: str) -> None:
    """What a caller sends back of an answer is what the provider said, ids and arguments included."""
    call = {"id": name, "type": "function", "function": {"name": "f", "arguments": arguments}}
    message = message_of(said("tool_calls", content="text", tool_calls=[call]))
    result = {"role": "tool", "tool_call_id": name, "content": "x"}
    dropped: list[str] = []
    [returned, _] = translated_messages([message, result], dropped)

    assert returned == {"role": "assistant", "content": "text", "tool_calls": [call]}
    assert dropped == []


@given(st.dictionaries(st.sampled_from(["status", "created_at", "total_requests", "completed_requests", "errors", "output_file",
    "error_file", "input_files", "metadata", "succeeded_requests", "failed_requests"]), JSON))  # fmt: skip
def test_no_job_is_a_bug(job: dict[str, object]) -> None:
    """Whatever a job object holds, it can be read as long as it has an id."""
    remote = remote_batch({"id": "x", **job})

    assert remote.remote_id == "x"
    assert refusal(job.get("errors")).reason


def test_arguments_of_any_depth_are_told() -> None:
    """Arguments that are nested as deep as a row can be read are told: the answer is paid for, whatever a model has written."""
    deep = "[" * 500 + "]" * 500
    call = {"id": "a", "function": {"name": "f", "arguments": {"a": "DEEP"}}}
    result = decode_row(row(said("tool_calls", tool_calls=[call])).replace(b'"DEEP"', deep.encode()))

    assert result.body is not None
    assert f'"arguments":"{{\\"a\\":{deep}}}"' in orjson.dumps(result.body).decode()
