"""What a caller's body becomes: goldens, refusals by field, and agreement with the SDK's own types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from gemini_lab import ASKED, CALL, MODEL, PIXEL, TIME, TOOL, call, chat, request_in

from gateway import Call, Unsupported
from gateway_gemini.dialect import PLACEHOLDER, Dialect
from gateway_gemini.encode import EMBEDDINGS, dropped, encode_line, frame_line, inline_row
from gateway_gemini.settings import GeminiSettings
from gateway_gemini.simulated.generate import request_problem

_WHOLE: list[dict[str, object]] = [
    {"role": "system", "content": "be brief"},
    {"role": "developer", "content": [{"type": "text", "text": "be kind"}]},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "look"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
            {"type": "input_audio", "input_audio": {"data": PIXEL, "format": "mp3"}},
            {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PIXEL}", "filename": "a.pdf"}},
        ],
    },
    {"role": "user", "content": "and tell"},
    {
        "role": "assistant",
        "content": "I look.",
        "tool_calls": [CALL, {**CALL, "id": "c2", "function": {"name": "time", "arguments": ""}}],
    },
    {"role": "tool", "tool_call_id": "c2", "content": '{"now": 1}'},
    {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    {"role": "user", "content": "so?"},
]


def config_in(body: Mapping[str, object]) -> dict[str, Any]:
    """The `generationConfig` that `encode` writes."""
    config: dict[str, Any] = request_in(body).get("generationConfig", {})
    return config


def test_a_conversation_is_written_in_geminis_words() -> None:
    """System, user, image, document, sound, calls in parallel and their results each have their part."""
    request = request_in({"model": "gemini-2.5-flash", "messages": _WHOLE, "tools": [TOOL, TIME]})

    assert request["systemInstruction"] == {"parts": [{"text": "be brief"}, {"text": "be kind"}]}
    assert request["contents"] == [
        {
            "role": "user",
            "parts": [
                {"text": "look"},
                {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
                {"inlineData": {"mimeType": "audio/mpeg", "data": PIXEL}},
                {"inlineData": {"mimeType": "application/pdf", "data": PIXEL}},
                {"text": "and tell"},
            ],
        },
        {
            "role": "model",
            "parts": [
                {"text": "I look."},
                {"functionCall": {"id": "c1", "name": "weather", "args": {"city": "Oslo"}}},
                {"functionCall": {"id": "c2", "name": "time", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "c1", "name": "weather", "response": {"output": "rain"}}},
                {"functionResponse": {"id": "c2", "name": "time", "response": {"now": 1}}},
            ],
        },
        {"role": "user", "parts": [{"text": "so?"}]},
    ]
    assert request["tools"] == [
        {
            "functionDeclarations": [
                {
                    "name": "weather",
                    "description": "Tells the weather.",
                    "parametersJsonSchema": TOOL["function"]["parameters"],  # type: ignore[index]
                },
                {"name": "time", "parametersJsonSchema": {"type": "object", "properties": {}}},
            ]
        }
    ]


def test_sampling_and_limits_are_in_the_generation_config() -> None:
    """Each number goes to the field of its meaning; zero penalties say nothing."""
    fields = {
        "temperature": 1.5,
        "top_p": 0.5,
        "top_k": 7,
        "max_tokens": 1,
        "max_completion_tokens": 99,
        "stop": ["a", "b"],
        "seed": 3,
        "presence_penalty": 0.5,
        "frequency_penalty": 0,
        "logprobs": True,
        "top_logprobs": 4,
        "n": 1,
    }

    assert config_in(chat(**fields)) == {
        "temperature": 1.5,
        "topP": 0.5,
        "topK": 7,
        "maxOutputTokens": 99,
        "stopSequences": ["a", "b"],
        "seed": 3,
        "presencePenalty": 0.5,
        "responseLogprobs": True,
        "logprobs": 4,
    }
    assert "generationConfig" not in request_in(chat())


@pytest.mark.parametrize(
    ("model", "effort", "thinking"),
    [
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-flash-lite", "low", {"thinkingBudget": 1024}),
        ("models/gemini-2.5-pro", "high", {"thinkingBudget": 24576}),
        ("gemini-2.5-pro", "max", {"thinkingBudget": 32768}),
        ("gemini-3-flash-preview", "minimal", {"thinkingLevel": "MINIMAL"}),
        ("gemini-3-pro-preview", "medium", {"thinkingLevel": "HIGH"}),
        ("gemini-3.1-pro", "medium", {"thinkingLevel": "MEDIUM"}),
        ("gemini-flash-latest", "xhigh", {"thinkingLevel": "HIGH"}),
    ],
)
def test_effort_goes_by_family(model: str, effort: str, thinking: dict[str, object]) -> None:
    """A generation that thinks by budget gets a budget, one that thinks by level a level, never both."""
    assert config_in(chat(reasoning_effort=effort) | {"model": model})["thinkingConfig"] == thinking


@pytest.mark.parametrize(
    ("model", "effort"), [("gemini-2.5-pro", "none"), ("gemini-3-flash", "none"), ("gemini-2.0-flash", "low")]
)
def test_an_effort_that_a_family_lacks_is_refused(model: str, effort: str) -> None:
    """Thinking that cannot be turned off, or on, is refused at admission."""
    with pytest.raises(Unsupported) as caught:
        request_in(chat(reasoning_effort=effort) | {"model": model})

    assert caught.value.field == "reasoning_effort"
    assert model in caught.value.reason


def test_families_come_from_the_configuration() -> None:
    """A configured family goes before those that are built in, and decides everything that families decide."""
    own = {"models": ["gemini-9*"], "efforts": {"none": 5, "high": "XHIGH"}, "max_candidates": 4}
    settings_ = GeminiSettings.model_validate({"families": [own], "late_system": "hoist", "include_thoughts": True})
    messages = [*ASKED, {"role": "system", "content": "late"}, {"role": "user", "content": "go on"}]
    body = {"model": "gemini-9-x", "messages": messages, "n": 3, "reasoning_effort": "high"}
    request = request_in(body, settings_.dialect())

    assert request["generationConfig"] == {
        "candidateCount": 3,
        "thinkingConfig": {"thinkingLevel": "XHIGH", "includeThoughts": True},
    }
    assert request["systemInstruction"] == {"parts": [{"text": "late"}]}
    assert "thoughtSignature" not in request["contents"][1]["parts"][0]
    assert request_in(chat(reasoning_effort="low"), settings_.dialect())["generationConfig"]


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        ("none", {"mode": "NONE"}),
        ("auto", {"mode": "AUTO"}),
        ("required", {"mode": "ANY"}),
        ({"type": "function", "function": {"name": "time"}}, {"mode": "ANY", "allowedFunctionNames": ["time"]}),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "time"}}]},
            },
            {"mode": "VALIDATED", "allowedFunctionNames": ["time"]},
        ),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "time"}}]},
            },
            {"mode": "ANY", "allowedFunctionNames": ["time"]},
        ),
    ],
)
def test_tool_choices(choice: object, config: dict[str, object]) -> None:
    """Every choice of tools has its mode."""
    request = request_in(chat(tools=[TOOL, TIME], tool_choice=choice))

    assert request["toolConfig"] == {"functionCallingConfig": config}
    assert request_problem(request, MODEL) is None


def test_structured_output() -> None:
    """JSON is asked for by type, and by the caller's schema where there is one."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}

    assert config_in(chat(response_format={"type": "json_object"})) == {"responseMimeType": "application/json"}
    assert config_in(chat(response_format=wanted)) == {
        "responseMimeType": "application/json",
        "responseJsonSchema": schema,
    }
    assert "generationConfig" not in request_in(chat(response_format={"type": "text"}))


def test_a_call_without_a_signature_gets_the_placeholder() -> None:
    """The first call of a replayed turn has a signature at every model that insists on one, and nowhere else."""
    two = [CALL, {**CALL, "id": "c2"}]
    results = [ASKED[2], {"role": "tool", "tool_call_id": "c2", "content": "sun"}]
    messages = [ASKED[0], {"role": "assistant", "tool_calls": two}, *results]
    parts = request_in({"model": MODEL, "messages": messages})["contents"][1]["parts"]
    older = request_in({"model": "gemini-2.5-pro", "messages": messages})["contents"][1]["parts"]

    assert [part.get("thoughtSignature") for part in parts] == [PLACEHOLDER, None]
    assert [part.get("thoughtSignature") for part in older] == [None, None]


def test_a_file_of_geminis_own_goes_by_its_address() -> None:
    """The address of an uploaded file is passed on; any other address is refused."""
    uri = "https://generativelanguage.googleapis.com/v1beta/files/abc"
    part = {"type": "image_url", "image_url": {"url": uri}}
    messages = [{"role": "user", "content": [part]}]

    assert request_in({"model": MODEL, "messages": messages})["contents"][0]["parts"] == [
        {"fileData": {"fileUri": uri}}
    ]


def test_arguments_are_an_object_even_where_the_caller_does_not_say() -> None:
    """A schema without a type means an object, and is sent as one."""
    function = {"name": "f", "parameters": {"properties": {"a": {"type": "string"}}}}
    [declared] = request_in(chat(tools=[{"type": "function", "function": function}]))["tools"][0][
        "functionDeclarations"
    ]

    assert declared["parametersJsonSchema"] == {"type": "object", "properties": {"a": {"type": "string"}}}


def test_lines_carry_their_key_first() -> None:
    """A line of a file has the line id as key; the same line inside a create call has it as metadata."""
    payload = encode_line(call(chat("x")), Dialect())
    line = frame_line("marker-7", payload)

    assert orjson.loads(line) == {"key": "marker-7"} | orjson.loads(payload)
    assert orjson.loads(inline_row(line + b"\n")) == {"metadata": {"key": "marker-7"}} | orjson.loads(payload)


def test_embeddings_have_one_text_each() -> None:
    """One text becomes the content of a row; token arrays and several texts are refused."""
    body = {"model": "gemini-embedding-001", "input": ["hello"], "dimensions": 64, "encoding_format": "base64"}
    line = encode_line(call(body, EMBEDDINGS), Dialect())

    assert orjson.loads(line) == {"request": {"content": {"parts": [{"text": "hello"}]}, "outputDimensionality": 64}}
    assert dropped(call(body, EMBEDDINGS)) == ["encoding_format"]
    for wrong in ({"input": [1, 2]}, {"input": ["a", "b"]}, {"input": ""}, {"dimensions": 0}, {"strange": 1}):
        with pytest.raises(Unsupported):
            encode_line(call(body | wrong, EMBEDDINGS), Dialect())
    with pytest.raises(Unsupported):
        encode_line(Call(endpoint="/v1/moderations", model="x", body={"model": "x"}), Dialect())
