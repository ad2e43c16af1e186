"""Chat completions in Anthropic's words: what is sent, what is left out and said so, what is refused."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from anthropic_lab import MODEL, OLDER, SCHEMA, called, chat, refused, result, sent, text, tool, user, written

from gateway import Call, Unsupported
from gateway_anthropic.encode import encode_line
from gateway_anthropic.settings import AnthropicSettings

PNG = base64.b64encode(b"picture").decode()


def test_a_line_is_an_object_of_params() -> None:
    """The stored bytes are what the provider gets, but for the name of the line."""
    call = Call(endpoint="/v1/chat/completions", model=MODEL, body=chat(user("Hello\u2028there")))
    line = encode_line(call, AnthropicSettings())

    assert line == (
        b'{"params":{"model":"claude-opus-4-8","max_tokens":16384,"messages":[{"role":"user","content":'
        b'[{"type":"text","text":"Hello\xe2\x80\xa8there"}]}]}}'
    )


def test_other_endpoints_are_refused() -> None:
    """There is nothing but chat here."""
    with pytest.raises(Unsupported, match="chat/completions only"):
        encode_line(Call(endpoint="/v1/embeddings", model=MODEL, body=chat()), AnthropicSettings())


def test_a_conversation_is_written_in_turns() -> None:
    """Instructions go to `system`, calls and results to blocks, results right behind their calls and before words."""
    body = chat(
        {"role": "system", "content": "one"},
        {"role": "developer", "content": [{"type": "text", "text": "two"}]},
        user("Weather?"),
        called("toolu_a", "toolu_b", content="Let me see."),
        result("toolu_a", "sunny"),
        result("toolu_b", ""),
        user("Thanks"),
        user([{"type": "text", "text": "And now?"}]),
        tools=[tool()],
    )
    params = sent(body)

    assert params["system"] == [text("one"), text("two")]
    assert [message["role"] for message in params["messages"]] == ["user", "assistant", "user"]
    assert params["messages"][1]["content"] == [
        text("Let me see."),
        {"type": "tool_use", "id": "toolu_a", "name": "weather", "input": {"city": "Rome"}},
        {"type": "tool_use", "id": "toolu_b", "name": "weather", "input": {"city": "Rome"}},
    ]
    assert params["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "toolu_a", "content": [text("sunny")]},
        {"type": "tool_result", "tool_use_id": "toolu_b"},
        text("Thanks"),
        text("And now?"),
    ]


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "high"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        ),
        (
            {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PNG}", "filename": "a.pdf"}},
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": PNG},
                "title": "a.pdf",
            },
        ),
        (
            {"type": "file", "file": {"file_data": f"data:text/plain;base64,{PNG}"}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "picture"}},
        ),
    ],
)
def test_media_become_blocks(part: dict[str, object], block: dict[str, object]) -> None:
    """Images by content or address, PDF and plain text go as the provider reads them."""
    assert sent(chat(user([part, {"type": "text", "text": "?"}])))["messages"][0]["content"] == [block, text("?")]


@pytest.mark.parametrize(
    ("part", "field"),
    [
        (
            {"type": "image_url", "image_url": {"url": f"data:image/tiff;base64,{PNG}"}},
            "messages[0].content[0].image_url",
        ),
        ({"type": "input_audio", "input_audio": {"data": PNG, "format": "wav"}}, "messages[0].content[0].input_audio"),
        ({"type": "file", "file": {"file_data": f"data:text/csv;base64,{PNG}"}}, "messages[0].content[0].file"),
        ({"type": "file", "file": {"file_data": "data:text/plain;base64,/w=="}}, "messages[0].content[0].file"),
    ],
)
def test_media_that_are_not_read_are_refused(part: dict[str, object], field: str) -> None:
    """A kind of medium that the provider has no block for is named."""
    assert refused(chat(user([part]))) == field


def test_an_output_schema_is_closed() -> None:
    """`json_schema` becomes a format; its description is lost and that is said."""
    wanted = {"name": "place", "schema": SCHEMA, "description": "A place."}
    body = chat(response_format={"type": "json_schema", "json_schema": wanted}, reasoning_effort="low")

    assert sent(body)["output_config"] == {
        "effort": "low",
        "format": {"type": "json_schema", "schema": {**SCHEMA, "additionalProperties": False}},
    }
    assert written(body).dropped == ("response_format.json_schema.description",)


def test_any_json_object_is_refused_or_asked_for() -> None:
    """There is no such mode; with `json_object = "instruct"`, the model is told what to do."""
    body = chat({"role": "system", "content": "Be brief."}, user("x"), response_format={"type": "json_object"})

    assert refused(body) == "response_format"
    first, last = sent(body, json_object="instruct")["system"]
    assert first == text("Be brief.")
    assert "JSON object" in last["text"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"frequency_penalty": -0.5}, "frequency_penalty"),
        ({"logprobs": True}, "logprobs"),
        ({"n": 2}, "n"),
        ({"stop": ["\n\n"]}, "stop"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [tool("a b")]}, "tools[0].function.name"),
        ({"tools": [tool(parameters={"type": "array"})]}, "tools[0].function.parameters"),
        ({"tools": [tool(parameters={**SCHEMA, "anyOf": [SCHEMA]})]}, "tools[0].function.parameters"),
        ({"unheard_of": 1}, "unheard_of"),
    ],
)
def test_what_has_no_word_is_refused(fields: dict[str, Any], field: str) -> None:
    """The caller is told which field is in the way before anything is queued."""
    assert refused(chat(**fields)) == field


def test_hints_are_left_out_and_reported() -> None:
    """What changes no meaning is left out, and the caller can see it."""
    body = chat(seed=7, verbosity="low", presence_penalty=0, logprobs=False, n=1, user="u" * 300)

    assert set(written(body).dropped) == {"seed", "verbosity", "user"}
    assert sent(body).keys() == {"model", "max_tokens", "messages"}


def test_the_user_goes_to_metadata() -> None:
    """`safety_identifier`, else `user`, is the provider's `user_id`."""
    assert sent(chat(user="team-7"))["metadata"] == {"user_id": "team-7"}
    assert sent(chat(user="a", safety_identifier="b"))["metadata"] == {"user_id": "b"}


def test_the_length_is_always_said() -> None:
    """The caller's limit, else the configured one of the model, else of all; more than the model writes is refused."""
    models = {"claude-opus-*": {"max_tokens": 900}, "claude-*": {"max_tokens": 100, "max_output_tokens": 2000}}

    assert sent(chat())["max_tokens"] == 16_384
    assert sent(chat(max_tokens=7))["max_tokens"] == 7
    assert sent(chat(max_completion_tokens=8, max_tokens=7))["max_tokens"] == 8
    assert sent(chat(), max_tokens=50)["max_tokens"] == 50
    assert sent(chat(), models=models)["max_tokens"] == 900
    assert sent(chat(model=OLDER), models=models)["max_tokens"] == 100
    assert sent(chat(model="claude-3-haiku-20240307"))["max_tokens"] == 4_096
    assert refused(chat(max_tokens=2_001), models=models) == "max_tokens"


def test_stops_are_sequences() -> None:
    """`stop` goes over as it is."""
    assert sent(chat(stop="END"))["stop_sequences"] == ["END"]


def test_a_conversation_begins_with_the_user() -> None:
    """One that begins with the assistant is refused, and the message is named."""
    assert refused(chat({"role": "assistant", "content": "Hi"}, user("x"))) == "messages[0]"


def test_words_put_into_the_model_s_mouth() -> None:
    """A conversation that ends with the assistant is for older models only, and must not end in white space."""
    body = chat(user("x"), {"role": "assistant", "content": "The answer is"})

    assert refused(body) == "messages[1]"
    assert sent({**body, "model": OLDER})["messages"][-1]["role"] == "assistant"
    assert refused({**body, "model": OLDER, "reasoning_effort": "low"}) == "reasoning_effort"
    trailing = chat(user("x"), {"role": "assistant", "content": "The answer is "}, model=OLDER)
    assert refused(trailing) == "messages[1]"


def test_late_instructions_go_where_they_are_told_to() -> None:
    """Instructions inside a conversation are refused, sent where they stand, or moved to the front."""
    body = chat(user("x"), {"role": "assistant", "content": "y"}, {"role": "system", "content": "now"}, user("z"))

    assert refused(body) == "messages[2]"
    assert [each["role"] for each in sent(body, late_system="send")["messages"]] == [
        "user",
        "assistant",
        "system",
        "user",
    ]
    assert sent(body, late_system="hoist")["system"] == [text("now")]


def test_white_space_is_nothing() -> None:
    """The provider refuses blocks of white space: they are left out, and a message of nothing else is refused."""
    body = chat(
        {"role": "system", "content": " "}, user([{"type": "text", "text": "\n"}, {"type": "text", "text": "x"}])
    )

    assert sent(body)["messages"] == [{"role": "user", "content": [text("x")]}]
    assert "system" not in sent(body)
    assert refused(chat(user(" \n"))) == "messages[0]"
