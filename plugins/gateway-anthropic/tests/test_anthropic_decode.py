"""Rows of results in OpenAI's words: every kind of row, every kind of stop, every kind of error."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic_lab import MODEL, message, row, succeeded, text

from gateway import Result
from gateway_anthropic.decode import decode_error, decode_message, decode_row


def choice_of(result: Result) -> dict[str, Any]:
    """The one choice of an answer."""
    body: Any = result.body
    [choice] = body["choices"]
    found: dict[str, Any] = choice
    return found


def errored(kind: str, words: str = "no") -> bytes:
    """A row with an error, wrapped twice as the provider does it."""
    return row(
        {"type": "errored", "error": {"type": "error", "error": {"type": kind, "message": words}, "request_id": None}}
    )


def test_an_answer_is_a_chat_completion() -> None:
    """Text blocks are joined as they are, thoughts are told apart, tokens are counted as OpenAI counts them."""
    usage = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 3,
        "cache_read_input_tokens": 20,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 4},
        "service_tier": "batch",
    }
    thought = {"type": "thinking", "thinking": "Hmm.", "signature": "s"}
    result = decode_row(succeeded(thought, text("One, "), text("two"), usage=usage))

    assert (result.line_id, result.status, result.error, result.retriable) == ("m-1", 200, None, False)
    assert result.body == {
        "id": "msg_1",
        "object": "chat.completion",
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "One, two",
                    "refusal": None,
                    "reasoning_content": "Hmm.",
                },
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": 33,
            "completion_tokens": 9,
            "total_tokens": 42,
            "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 3},
            "completion_tokens_details": {"reasoning_tokens": 4},
        },
    }


def test_calls_come_in_order() -> None:
    """Each call keeps id, name and arguments; there is no text beside them if there was none."""
    calls = [{"type": "tool_use", "id": f"toolu_{n}", "name": "f", "input": {"n": n}} for n in range(2)]
    choice = choice_of(decode_row(succeeded(*calls, stop_reason="tool_use")))

    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"] == [
        {"id": f"toolu_{n}", "type": "function", "function": {"name": "f", "arguments": f'{{"n":{n}}}'}}
        for n in range(2)
    ]


@pytest.mark.parametrize(
    ("stop", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
        (None, "stop"),
    ],
)
def test_every_stop_has_its_word(stop: object, finish: str) -> None:
    """Known reasons are translated; unknown ones are ends."""
    assert choice_of(decode_row(succeeded(text("x"), stop_reason=stop)))["finish_reason"] == finish


@pytest.mark.parametrize("stop", ["end_turn", "stop_sequence", "something_new", None])
def test_a_call_is_the_reason_to_stop_whatever_the_provider_says(stop: object) -> None:
    """Clients go on with calls where the reason says so, and drop them where it does not."""
    call = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}

    assert choice_of(decode_row(succeeded(call, stop_reason=stop)))["finish_reason"] == "tool_calls"


def test_tokens_are_counted_when_they_come_as_text() -> None:
    """A count that is not read would make an answer look free."""
    body: Any = decode_row(succeeded(text("x"), usage={"input_tokens": "12", "output_tokens": 3})).body

    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (12, 3)


def test_a_refusal_says_so() -> None:
    """The model's explanation is the refusal; without one there is a text all the same."""
    details = {"type": "refusal", "category": "cyber", "explanation": "Not this."}
    explained = choice_of(decode_row(succeeded(stop_reason="refusal", stop_details=details)))
    silent = choice_of(decode_row(succeeded(stop_reason="refusal", stop_details=None)))

    assert (explained["message"]["refusal"], explained["message"]["content"]) == ("Not this.", None)
    assert silent["message"]["refusal"]


def test_an_answer_of_nothing_is_an_answer() -> None:
    """A message without blocks, or with thoughts only, has empty content."""
    assert choice_of(decode_row(succeeded()))["message"]["content"] == ""
    thought = {"type": "redacted_thinking", "data": "x"}
    assert choice_of(decode_row(succeeded(thought, stop_reason="max_tokens")))["message"]["content"] == ""


def test_blocks_of_foreign_tools_are_passed_over() -> None:
    """What cannot be said in a chat completion does not spoil the rest."""
    foreign = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}

    assert choice_of(decode_row(succeeded(foreign, text("x"), {"type": "novelty"})))["message"]["content"] == "x"


def test_a_pause_is_no_answer() -> None:
    """A turn that was paused cannot be gone on with: it is asked again."""
    result = decode_row(succeeded(text("x"), stop_reason="pause_turn"))

    assert (result.body, result.status, result.retriable) == (None, 502, True)


@pytest.mark.parametrize(
    ("kind", "status", "retriable"),
    [
        ("invalid_request_error", 400, False),
        ("authentication_error", 401, False),
        ("billing_error", 402, False),
        ("permission_error", 403, False),
        ("not_found_error", 404, False),
        ("request_too_large", 413, False),
        ("rate_limit_error", 429, True),
        ("api_error", 500, True),
        ("timeout_error", 504, True),
        ("overloaded_error", 529, True),
        ("some_new_error", 500, True),
    ],
)
def test_every_error_has_its_status(kind: str, status: int, *, retriable: bool) -> None:
    """Errors are told by their type; what may do better next time is retriable."""
    result = decode_row(errored(kind, "not like this"))

    assert (result.line_id, result.status, result.retriable, result.body) == ("m-1", status, retriable, None)
    assert result.error is not None
    assert (result.error.message, result.error.type) == ("not like this", kind)


def test_an_empty_purse_is_not_the_caller_s_fault() -> None:
    """The 400 that says so counts as 402."""
    words = "Your credit balance is too low to access the Anthropic API."

    assert decode_row(errored("invalid_request_error", words)).status == 402


@pytest.mark.parametrize(("kind", "status"), [("expired", 504), ("canceled", 499), ("cancelled", 499)])
def test_lines_that_were_not_run_are_asked_again(kind: str, status: int) -> None:
    """Expired and cancelled requests were not billed and are retriable."""
    result = decode_row(row({"type": kind}))

    assert (result.line_id, result.status, result.retriable, result.body) == ("m-1", status, True, None)


@pytest.mark.parametrize(
    ("content", "line_id"),
    [
        (b"", None),
        (b"{", None),
        (b"\xff\xfe", None),
        (b"[]", None),
        (b"null", None),
        (b"{}", None),
        (b'{"custom_id":"m-1"}', "m-1"),
        (b'{"custom_id":7,"result":{"type":"expired"}}', None),
        (row(None), "m-1"),
        (row({"type": "mislaid"}), "m-1"),
        (row({"type": ["succeeded"]}), "m-1"),
        (row({"type": "succeeded"}), "m-1"),
        (row({"type": "succeeded", "message": {"content": "text"}}), "m-1"),
        (row({"type": "errored"}), "m-1"),
        (row({"type": "errored", "error": "no"}), "m-1"),
    ],
)
def test_rows_that_cannot_be_read_are_retriable(content: bytes, line_id: str | None) -> None:
    """A row of any other kind names its line if it can, and is no answer."""
    result = decode_row(content)

    assert (result.line_id, result.retriable, result.body) == (line_id, True, None)
    assert result.error is not None


def test_odd_insides_are_lived_with() -> None:
    """Blocks, tokens and names of the wrong kind are passed over."""
    odd = decode_message(None, message(7, {"type": "tool_use"}, {"type": "text"}, usage={"input_tokens": "7"}, model=1))

    assert choice_of(odd)["message"]["tool_calls"][0]["function"] == {"name": "", "arguments": "{}"}
    assert odd.body is not None
    assert odd.body["usage"] is not None
    assert "usage" not in (decode_message(None, message(usage=None)).body or {})


def test_an_http_error_keeps_its_status() -> None:
    """At the synchronous endpoint, what HTTP says counts."""
    content = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}

    assert decode_error(None, content, 529).status == 529
    assert decode_error(None, b"<html>", 502).error is not None


def test_arguments_of_any_depth_are_told() -> None:
    """Arguments that are nested as deep as a row can be read are told: the answer is paid for, whatever a model has written."""
    deep = "[" * 500 + "]" * 500
    call = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": "DEEP"}}
    choice = choice_of(decode_row(succeeded(call, stop_reason="tool_use").replace(b'"DEEP"', deep.encode())))

    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == f'{{"a":{deep}}}'
