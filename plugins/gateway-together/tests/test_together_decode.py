"""What the rows of Together's result files say."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from gateway import Result
from gateway_together.decode import decode_response, decode_row

ANSWER: dict[str, object] = {
    "id": "oNPWKm8",
    "object": "chat.completion",
    "created": 1_750_000_000,
    "model": "m",
    "prompt": [],
    "choices": [
        {
            "finish_reason": "eos",
            "seed": 7,
            "logprobs": None,
            "index": 0,
            "message": {"role": "assistant", "content": "hi", "tool_calls": []},
        }
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "cached_tokens": 4},
}


def decoded(**row: object) -> Result:
    """What a row with these fields says."""
    return decode_row(orjson.dumps({"custom_id": "m-0", **row}))


def answered(**changes: object) -> dict[str, Any]:
    """The body of a line that was answered, with these changes."""
    result = decoded(response={"status_code": 200, "body": ANSWER | changes})
    assert (result.status, result.error, result.retriable) == (200, None, False)
    return dict(result.body or {})


def choice(**changes: object) -> dict[str, Any]:
    """The first choice of an answer, with these changes."""
    first: dict[str, object] = ANSWER["choices"][0]  # type: ignore[index]
    return answered(choices=[first | changes])["choices"][0]  # type: ignore[no-any-return]


def test_an_answer_in_openais_words() -> None:
    """A row of the documented shape becomes a completion that OpenAI's own types take."""
    body = answered()
    read = ChatCompletion.model_validate(body, strict=True)

    assert read.choices[0].finish_reason == "stop"
    assert read.choices[0].message.tool_calls is None
    assert read.choices[0].message.content == "hi"
    assert read.usage is not None
    assert (read.usage.prompt_tokens, read.usage.completion_tokens, read.usage.total_tokens) == (9, 3, 12)
    assert read.usage.prompt_tokens_details is not None
    assert read.usage.prompt_tokens_details.cached_tokens == 4
    assert "prompt" not in body


@pytest.mark.parametrize(
    ("told", "read"),
    [("eos", "stop"), (None, "stop"), ("stop", "stop"), ("length", "length"), ("tool_calls", "tool_calls")],
)
def test_reasons_to_finish(told: object, read: str) -> None:
    """`eos` is Together's own word for an ordinary end; the others are OpenAI's."""
    assert choice(finish_reason=told)["finish_reason"] == read


@pytest.mark.parametrize("told", ["eos", None])
def test_calls_are_a_reason_to_finish(told: object) -> None:
    """A model that ends its turn with calls wants their results, whichever word the server has for it."""
    calls = [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    message = {"role": "assistant", "content": None, "tool_calls": calls}

    assert choice(finish_reason=told, message=message)["finish_reason"] == "tool_calls"


def test_calls_of_tools_come_through() -> None:
    """Calls stay as they are, and null stands for none."""
    calls = [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]

    assert choice(message={"role": "assistant", "content": None, "tool_calls": calls})["message"]["tool_calls"] == calls
    assert "tool_calls" not in choice(message={"role": "assistant", "content": "x", "tool_calls": None})["message"]


def test_thoughts_and_an_asked_echo_stay() -> None:
    """What OpenAI has no field for and somebody may want is not thrown away."""
    message = {"role": "assistant", "content": "x", "reasoning": "because"}

    assert choice(message=message)["message"]["reasoning"] == "because"
    assert answered(prompt=[{"text": "x"}])["prompt"] == [{"text": "x"}]


def test_log_probabilities_are_told_by_token() -> None:
    """Lists side by side become OpenAI's list of tokens, with their rivals; what cannot be read is null."""
    ranks = [{"a": -0.5, "b": -1.5}, None]
    told = {"tokens": ["a", "c"], "token_logprobs": [-0.5, None], "token_ids": None, "top_logprobs": ranks}
    plain = choice(logprobs=told | {"top_logprobs": None})["logprobs"]["content"]

    assert choice(logprobs=told)["logprobs"]["content"] == [
        {
            "token": "a",
            "logprob": -0.5,
            "bytes": None,
            "top_logprobs": [
                {"token": "a", "logprob": -0.5, "bytes": None},
                {"token": "b", "logprob": -1.5, "bytes": None},
            ],
        },
        {"token": "c", "logprob": 0.0, "bytes": None, "top_logprobs": []},
    ]
    assert [entry["top_logprobs"] for entry in plain] == [[], []]
    assert choice(logprobs=told | {"tokens": ["a"]})["logprobs"] is None
    assert choice(logprobs={"content": []})["logprobs"] == {"content": []}


@pytest.mark.parametrize(
    ("code", "status", "retriable"),
    [
        ("invalid_model", 404, False),
        ("timeout", 504, True),
        ("invalid_request", 400, False),
        ("Rate-Limit-Exceeded", 429, True),
        ("server_error", 500, True),
        ("internal_validation_error", 500, True),
        ("invalid_api_key", 401, False),
        ("model_not_found", 404, False),
        ("insufficient_credits", 402, False),
        ("expired", 504, True),
        ("cancelled", 499, True),
        ("422", 422, False),
        (429, 429, True),
        ("200", 0, True),
        ("something_new", 0, True),
        (None, 0, True),
    ],
)
def test_error_rows_by_code(code: object, status: int, retriable: bool) -> None:
    """The code of an error row stands for a status; one that nobody knows is asked again."""
    result = decoded(error={"message": "oh", "code": code})

    assert (result.line_id, result.status, result.retriable, result.body) == ("m-0", status, retriable, None)
    assert result.error is not None
    assert result.error.message == "oh"


@pytest.mark.parametrize(
    "row",
    [
        {"response": {"status_code": 400, "body": {"error": {"message": "oh", "code": "c"}}}},
        {"response": {"status_code": "400", "body": {"error": "oh"}}},
        {"response": {"status_code": 400, "body": '{"error": {"message": "oh"}}'}},
        {"response": {"status_code": 400, "body": {"message": "oh"}}},
        {"response": {"status_code": 400, "body": "oh"}},
        {"response": {"status_code": 400, "body": {"error": {"message": "oh"}}}, "error": {"message": "else"}},
        {"response": None, "error": {"message": "oh", "code": "400"}},
        {"error": '{"message": "oh", "code": "bad_request"}'},
    ],
)
def test_failed_responses_in_other_shapes(row: dict[str, object]) -> None:
    """A failure is understood as a failed response, as a string, and as JSON inside a string."""
    result = decoded(**row)

    assert (result.status, result.retriable) == (400, False)
    assert result.error is not None
    assert result.error.message == "oh"


def test_an_answer_in_other_shapes() -> None:
    """A body that is JSON in a string, a status in a string and no status at all are understood."""
    text = orjson.dumps(ANSWER).decode()
    for response in ({"status_code": 200, "body": text}, {"status_code": "200", "body": ANSWER}, {"body": ANSWER}):
        assert decoded(response=response, id="x", request_id=None).status == 200


@pytest.mark.parametrize(
    "row",
    [
        b"",
        b"[]",
        b"nonsense",
        b'{"custom_id": "m-0"}',
        b'{"custom_id": "m-0", "response": {"status_code": 200, "body": {"choices": []}}}',
        b'{"custom_id": "m-0", "response": {"status_code": 200, "body": null}}',
        b'{"custom_id": "m-0", "response": {"status_code": 0, "body": null}}',
        b'{"custom_id": "m-0", "response": {"status_code": 302, "body": {}}}',
        b'{"custom_id": "m-0", "response": {"status_code": 200, "body": "{broken"}}',
        b'{"custom_id": "m-0", "error": "unheard of"}',
        b'{"custom_id": "\xff\xfe"}',
    ],
)
def test_what_cannot_be_read_is_asked_again(row: bytes) -> None:
    """A row without a usable answer and without a known error is retriable, and never taken for an answer."""
    result = decode_row(row)

    assert (result.body, result.retriable) == (None, True)
    assert result.error is not None


def test_a_success_with_an_error_is_none() -> None:
    """An answer beside an error is not believed."""
    assert decoded(response={"status_code": 200, "body": ANSWER}, error={"message": "but"}).body is None
    assert decode_response(None, 200, ANSWER | {"error": {"message": "but"}}).body is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects that have some of these fields, each as it should be or not."""
    return st.fixed_dictionaries({}, optional={name: field | JSON for name, field in fields.items()})


LOGPROBS = some(
    tokens=st.lists(st.text(), max_size=2),
    token_logprobs=st.lists(st.floats(allow_nan=False) | st.none(), max_size=2),
    top_logprobs=st.lists(st.dictionaries(st.text(), st.floats(allow_nan=False)), max_size=2),
)
CHOICES = st.lists(some(message=some(content=st.text(), tool_calls=st.lists(JSON)), logprobs=LOGPROBS), max_size=2)
BODY = some(choices=CHOICES, usage=some(cached_tokens=st.integers(0, 9)), error=some(message=st.text(), code=st.text()))
ROW = some(
    custom_id=st.text(),
    response=some(status_code=st.integers(0, 999), body=BODY),
    error=some(message=st.text(), code=st.text()),
)


@given(ROW)
@example({"custom_id": "\ud800"})
@example(
    {"response": {"status_code": 200, "body": {"choices": [{"logprobs": {"tokens": [{}], "token_logprobs": [{}]}}]}}}
)
def test_any_row_is_understood_somehow(row: dict[str, Any]) -> None:
    """Whatever a row holds, decoding never raises, and says either an answer or an error."""
    try:
        raw = orjson.dumps(row)
    except orjson.JSONEncodeError:
        raw = str(row).encode("utf-8", "surrogatepass")
    result = decode_row(raw)

    assert (result.body is None) != (result.error is None)
    if result.body is not None:
        orjson.dumps(result.body)


@given(st.binary())
def test_any_bytes_are_understood_somehow(raw: bytes) -> None:
    """Bytes that are no row at all are an error without a line."""
    assert decode_row(raw).error is not None
