"""What is sent for a caller's body, what is left out of it, and what is refused before anything is paid."""

from __future__ import annotations

import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mistral_lab import CHAT, MODEL, call, chat, sent

from gateway import Call, Unsupported
from gateway.chat import carry
from gateway_mistral import MistralProvider
from gateway_mistral.dialect import translate
from gateway_mistral.encode import encode_line
from gateway_mistral.messages import short_id

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def user(*parts: object) -> list[object]:
    """A conversation of one user message with these parts."""
    return [{"role": "user", "content": list(parts)}]


def test_a_line_is_a_name_and_a_body(anyone: MistralProvider) -> None:
    """The stored payload gets its name at sealing; there is neither method nor address."""
    line = anyone.frame("m-0", anyone.encode(call(chat("hi \u2028\n there", temperature=0.5))))

    assert orjson.loads(line) == {
        "custom_id": "m-0",
        "body": {
            "model": MODEL,
            "messages": [{"role": "user", "content": "hi \u2028\n there"}],
            "temperature": 0.5,
        },
    }
    assert b"\n" not in line


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"max_completion_tokens": 7, "max_tokens": 9}, {"max_tokens": 7}),
        ({"max_completion_tokens": None, "max_tokens": 9}, {"max_tokens": 9}),
        ({"seed": 4}, {"random_seed": 4}),
        ({"stream": False, "stream_options": {"include_usage": True}}, {}),
        ({"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}, {}),
        ({"stop": []}, {}),
        ({"stop": ["a"]}, {"stop": ["a"]}),
        ({"service_tier": "auto"}, {}),
        ({"service_tier": "flex"}, {}),
        ({"logprobs": False, "top_logprobs": 0, "logit_bias": {}, "functions": []}, {}),
        ({"modalities": ["text"], "audio": None, "web_search_options": None}, {}),
        ({"response_format": {"type": "json_object"}}, {"response_format": {"type": "json_object"}}),
        ({"prediction": {"type": "content", "content": [{"type": "text", "text": "x"}]}},
         {"prediction": {"type": "content", "content": "x"}}),
        ({"reasoning_effort": "high", "safe_prompt": True}, {"reasoning_effort": "high", "safe_prompt": True}),
        ({"n": 2, "presence_penalty": -2, "frequency_penalty": 2}, {"n": 2, "presence_penalty": -2, "frequency_penalty": 2}),
    ],
)  # fmt: skip
def test_fields_of_the_body(given: dict[str, object], expected: dict[str, object]) -> None:
    """Renamed, kept, or silently gone because they say what a batch is anyway."""
    body = chat("x", **given)

    assert sent(body) == chat("x") | expected
    assert translate(body).dropped == ()


def test_hints_are_left_out_and_named(anyone: MistralProvider) -> None:
    """What does not change the answer is dropped, and the caller is told."""
    body = chat("x", user="u", metadata={"a": "b"}, store=True, verbosity="low", safety_identifier="s")
    body["messages"] = [
        {"role": "system", "content": "be brief", "name": "boss"},
        {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]},
    ]

    assert sent(body).keys() == {"model", "messages"}
    assert sorted(anyone.dropped(call(body))) == [
        "messages[0].name",
        "messages[1].content[0].cache_control",
        "metadata",
        "safety_identifier",
        "store",
        "user",
        "verbosity",
    ]


@pytest.mark.parametrize(
    ("field", "content"),
    [
        ("temperature", 1.6),
        ("temperature", "hot"),
        ("temperature", float("nan")),
        ("temperature", True),
        ("max_tokens", 0),
        ("max_completion_tokens", 1.5),
        ("seed", -1),
        ("n", 0),
        ("top_p", 1.1),
        ("presence_penalty", 3),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("logit_bias", {"1": 2}),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "x"}),
        ("web_search_options", {}),
        ("functions", [{"name": "f"}]),
        ("function_call", {"name": "f"}),
        ("service_tier", "priority"),
        ("reasoning_effort", "utmost"),
        ("stop", [1]),
        ("tools", [{"type": "custom", "custom": {"name": "x"}}]),
        ("tool_choice", "required"),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "x"}}),
        ("response_format", {"type": "json_schema", "json_schema": {"schema": {}}}),
        ("prediction", {"type": "guess"}),
        ("parallel_tool_calls", "no"),
        ("frobnicate", 1),
        ("top_k", 5),
        ("messages", []),
        ("messages", None),
        ("messages", [{"role": "function", "name": "f", "content": "x"}]),
        ("messages", [{"role": "user", "content": None}]),
        ("messages", [{"role": "user", "content": []}]),
        ("messages", [{"role": "user", "content": "x", "weight": 1}]),
        ("messages", [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]),
        ("messages", [{"role": "user", "content": "x"}, {"role": "assistant", "content": ""}]),
        ("messages", [{"role": "tool", "content": "x"}]),
        ("messages", [{"role": "tool", "tool_call_id": "a", "content": "x"}, {"role": "user", "content": "y"}]),
        ("messages", user({"type": "file", "file": {"file_id": "file-abc"}})),
        ("messages", user({"type": "file", "file": {"file_data": "not a data URL"}})),
        ("messages", user({"type": "video_url", "video_url": "x"})),
        ("messages", [{"role": "system", "content": [{"type": "image_url", "image_url": "x"}]}]),
    ],
)
def test_what_the_provider_cannot_do_is_refused(field: str, content: object) -> None:
    """A 400 at admission names the field, so that nobody waits hours for the same answer."""
    with pytest.raises(Unsupported) as caught:
        encode_line(call(chat("x") | {field: content}))

    assert caught.value.field.startswith(field)
    assert caught.value.reason


def test_other_endpoints_are_refused() -> None:
    """Only chat completions are translated."""
    with pytest.raises(Unsupported, match=CHAT):
        encode_line(Call(endpoint="/v1/embeddings", model="m", body={"model": "m", "input": "x"}))


def test_an_operator_can_let_fields_through() -> None:
    """Fields in `pass_fields` go as they are, whatever this plugin thinks of them."""
    body = chat("x", logprobs=True, top_k=5)
    line = encode_line(call(body), frozenset({"logprobs", "top_k"}))

    assert orjson.loads(line) == {"body": body}


def test_roles_and_names() -> None:
    """`developer` is Mistral's `system`; an old refusal is what the assistant said."""
    body = chat("x")
    body["messages"] = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None, "refusal": "no", "annotations": [], "audio": None, "tool_calls": None},
        {"role": "user", "content": "why"},
        {"role": "assistant", "content": "because", "prefix": True},
    ]

    assert sent(body)["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "no"},
        {"role": "user", "content": "why"},
        {"role": "assistant", "content": "because", "prefix": True},
    ]


def test_tool_calls_keep_together() -> None:
    """Ids that Mistral refuses become nine letters and digits, the same for a call and its result; its own are kept."""
    body = chat("x", tools=[{"type": "function", "function": {"name": "now"}}], tool_choice="required")
    function = {"name": "now", "arguments": "{}"}
    body["messages"] = [
        {"role": "user", "content": "x"},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "hm",
            "tool_calls": [
                {"id": "call_PTLP8xhu3uwZk4l3nlnrrJha", "type": "function", "function": function},
                {"id": "aB3dE6gH9", "type": "function", "function": function},
            ],
        },
        {"role": "tool", "tool_call_id": "call_PTLP8xhu3uwZk4l3nlnrrJha", "content": "1"},
        {"role": "tool", "tool_call_id": "aB3dE6gH9", "content": [{"type": "text", "text": "2"}]},
    ]
    _, assistant, first, second = sent(body)["messages"]  # type: ignore[misc]
    ids = [each["id"] for each in assistant["tool_calls"]]

    assert re.fullmatch("[0-9A-Za-z]{9}", ids[0])
    assert ids == [first["tool_call_id"], "aB3dE6gH9"]
    assert second == {"role": "tool", "content": [{"type": "text", "text": "2"}], "tool_call_id": "aB3dE6gH9"}
    assert sent(body)["tools"] == [
        {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
    ]
    assert translate(body).dropped == ("messages[1].reasoning_content",)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "high"}}, None),
        ({"type": "image_url", "image_url": "data:image/png;base64,AA=="}, None),
        (
            {"type": "image_url", "image_url": {"url": "u", "detail": "original"}},
            {"type": "image_url", "image_url": {"url": "u"}},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
            {"type": "input_audio", "input_audio": "AA=="},
        ),
        (
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA==", "filename": "a.pdf"}},
            {
                "type": "document_url",
                "document_url": "data:application/pdf;base64,AA==",
                "document_name": "a.pdf",
            },
        ),
        (
            {"type": "file", "file": {"file_id": "0f0e0d0c-0b0a-0908-0706-050403020100"}},
            {"type": "file", "file_id": "0f0e0d0c-0b0a-0908-0706-050403020100"},
        ),
        ({"type": "document_url", "document_url": "https://x/y.pdf"}, None),
    ],
)
def test_parts_of_a_message(part: dict[str, object], expected: dict[str, object] | None) -> None:
    """Images, sounds and documents in Mistral's words; None: as they are."""
    body = chat("x") | {"messages": user(part, {"type": "text", "text": "what is this?"})}

    assert sent(body)["messages"] == user(expected or part, {"type": "text", "text": "what is this?"})


def test_json_schema_keeps_what_mistral_knows() -> None:
    """Name, schema, strictness and description of a format reach the provider."""
    wanted = {"name": "x", "schema": {"type": "object"}, "strict": True, "description": "d"}
    body = chat("x", response_format={"type": "json_schema", "json_schema": wanted})

    assert sent(body)["response_format"] == {"type": "json_schema", "json_schema": wanted}


def test_ids_are_those_of_the_provider_that_gave_them() -> None:
    """What the gateway packed into an id makes no other id of it, so a call fits its result when a client kept one whole."""
    packed = carry("toolu_1", {"anthropic": ["a thought"]})
    call_ = {"id": packed, "type": "function", "function": {"name": "f", "arguments": "{}", "parsed_arguments": {}}}
    said = {"role": "assistant", "content": None, "tool_calls": [call_], "parsed": {"a": 1}, "reasoning_details": []}
    asked = {"role": "user", "content": "x"}
    body = {"model": MODEL, "messages": [asked, said, {"role": "tool", "tool_call_id": "toolu_1", "content": "y"}]}
    messages = sent(body)["messages"]

    assert isinstance(messages, list)
    assert messages[1]["tool_calls"][0]["id"] == messages[2]["tool_call_id"] == short_id("toolu_1")
    assert translate(body).dropped == ("messages[1].parsed",)


@given(st.text(), st.text())
def test_short_ids(first: str, second: str) -> None:
    """Any two ids get two short ones, each the same every time."""
    assert re.fullmatch("[0-9A-Za-z]{9}", short_id(first))
    assert short_id(first) == short_id(first)
    assert (short_id(first) == short_id(second)) == (first == second)
