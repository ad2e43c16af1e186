"""What is sent fits the SDK's own types, whatever a caller writes that is taken."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from together.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from together_lab import call

from gateway import Unsupported
from gateway_together.encode import encode_line
from gateway_together.simulated.lines import chat_problem

TEXT = st.text(max_size=20)
TEXTS = TEXT | st.lists(st.builds(lambda text: {"type": "text", "text": text}, TEXT), min_size=1, max_size=3)
CALL = st.builds(
    lambda name, arguments: {
        "id": name,
        "type": "function",
        "function": {"name": name, "arguments": orjson.dumps(arguments).decode()},
    },
    TEXT,
    st.dictionaries(TEXT, TEXT, max_size=2),
)
PART = st.builds(lambda text: {"type": "text", "text": text}, TEXT) | st.sampled_from(
    [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
        {"type": "input_audio", "input_audio": {"data": "", "format": "mp3"}},
        {"type": "file", "file": {"file_id": "file-1"}},
    ]
)
MESSAGE = (
    st.fixed_dictionaries({"role": st.sampled_from(["system", "developer"]), "content": TEXTS})
    | st.fixed_dictionaries(
        {"role": st.just("user"), "content": TEXT | st.lists(PART, min_size=1, max_size=3)}, optional={"name": TEXT}
    )
    | st.fixed_dictionaries(
        {"role": st.just("assistant")},
        optional={
            "content": st.none() | TEXTS,
            "tool_calls": st.none() | st.lists(CALL, max_size=2),
            "refusal": st.none() | TEXT,
            "audio": st.none(),
            "annotations": st.just([]),
        },
    )
    | st.fixed_dictionaries({"role": st.just("tool"), "tool_call_id": TEXT, "content": TEXTS})
)
TOOL = st.sampled_from(
    [
        {"type": "function", "function": {"name": "f", "description": "d", "strict": True}},
        {"type": "function", "function": {"name": "g", "parameters": {"type": "object"}}},
        {"type": "custom", "custom": {"name": "c"}},
    ]
)
# A choice of one function is not among these: Together's pages show OpenAI's form, and the SDK's type asks for a whole call.
BODY = st.fixed_dictionaries(
    {"model": st.just("m"), "messages": st.lists(MESSAGE, min_size=1, max_size=4)},
    optional={
        "max_completion_tokens": st.none() | st.integers(1, 99),
        "max_tokens": st.none() | st.integers(1, 99),
        "stop": st.none() | TEXT | st.lists(TEXT, max_size=4),
        "logprobs": st.none() | st.booleans(),
        "top_logprobs": st.none() | st.integers(0, 25),
        "reasoning_effort": st.none() | st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh", "max"]),
        "temperature": st.none() | st.floats(0, 2),
        "n": st.none() | st.integers(1, 4),
        "seed": st.none() | st.integers(0, 2**40),
        "logit_bias": st.none() | st.dictionaries(TEXT, st.floats(-100, 100), max_size=2),
        "tools": st.lists(TOOL, max_size=2),
        "tool_choice": st.none() | st.sampled_from(["none", "auto", "required"]),
        "parallel_tool_calls": st.booleans(),
        "response_format": st.sampled_from(
            [
                {"type": "text"},
                {"type": "json_object"},
                {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}, "strict": None}},
            ]
        ),
        "modalities": st.none() | st.sampled_from([["text"], ["text", "audio"]]),
        "user": st.none() | TEXT,
        "store": st.booleans(),
        "metadata": st.none() | st.dictionaries(TEXT, TEXT, max_size=2),
        "service_tier": st.none() | st.sampled_from(["auto", "flex", "priority"]),
        "stream": st.booleans(),
        "verbosity": st.sampled_from(["low", "high"]),
        "prediction": st.just({"type": "content", "content": "x"}),
    },
)


PARAMS: TypeAdapter[Any] = TypeAdapter(CompletionCreateParamsNonStreaming)


def consume(read: object) -> None:
    """Go to the bottom of it: pydantic checks what is declared as iterable when somebody iterates."""
    if isinstance(read, dict):
        for field in read.values():
            consume(field)
    elif not isinstance(read, str) and hasattr(read, "__iter__"):
        for entry in read:
            consume(entry)


def test_the_sdks_types_are_asked_to_the_bottom() -> None:
    """A part that the types do not have is found, however deep: the test below would notice."""
    wrong = {"model": "m", "messages": [{"role": "assistant", "tool_calls": [{"id": "c", "type": "function"}]}]}
    with pytest.raises(ValidationError):
        consume(PARAMS.validate_python(wrong))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(BODY)
def test_what_is_sent_fits_the_sdks_types(body: dict[str, Any]) -> None:
    """Every body that is taken is, as it is sent, one that the SDK's types and the simulator have nothing against."""
    try:
        payload = encode_line(call(body))
    except Unsupported:
        return
    sent = orjson.loads(payload)["body"]

    consume(PARAMS.validate_python(sent))
    assert chat_problem(sent) is None
    assert sent.keys() & {"max_completion_tokens", "top_logprobs", "stream", "metadata", "user"} == set()


@given(st.lists(MESSAGE, min_size=1, max_size=4))
def test_texts_and_calls_go_out_as_they_came(messages: list[dict[str, Any]]) -> None:
    """No text and no argument of a call is lost or changed on the way out."""
    try:
        payload = encode_line(call({"model": "m", "messages": messages}))
    except Unsupported:
        return
    sent = orjson.loads(payload)["body"]["messages"]

    assert [said(message) for message in sent] == [said(message) for message in messages]


def said(message: dict[str, Any]) -> tuple[str, list[tuple[str, str, str]]]:
    """All text of a message, and its calls."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
    text = "".join(str(part.get("text", "")) for part in parts) or message.get("refusal") or ""
    calls = message.get("tool_calls") or []
    return text, [(entry["id"], entry["function"]["name"], entry["function"]["arguments"]) for entry in calls]
