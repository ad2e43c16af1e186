"""Chat completions in Anthropic's words: what is sent, what is left out and said so, what is refused."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from anthropic_lab import MODEL, NEWEST, OLDER, SCHEMA, called, chat, refused, result, sent, text, tool, user, written

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


def test_foreign_ids_are_renamed_the_same_way_everywhere() -> None:
    """An id that the provider does not take gets another one, always the same, for the call and its result."""
    body = chat(user("x"), called("call:1/ä", "call:1/b"), result("call:1/ä"), result("call:1/b"), tools=[tool()])
    first, again = sent(body), sent(body)
    ids = [block["id"] for block in first["messages"][1]["content"]]

    assert first == again
    assert ids == [block["tool_use_id"] for block in first["messages"][2]["content"]]
    assert len(set(ids)) == 2
    assert all(name.replace("_", "").isalnum() and name.isascii() for name in ids)


def test_a_function_of_the_past_needs_a_name_that_fits() -> None:
    """Gemini's functions may have dots in their names; the provider would refuse such a history hours later."""
    said: Any = called("c1")
    said["tool_calls"][0]["function"]["name"] = "weather.now"
    body = chat(user("go"), said, result("c1"), tools=[tool()])

    assert refused(body) == "messages[1].tool_calls[0].function.name"


def test_an_id_that_is_used_again_gets_a_name_of_its_own() -> None:
    """The provider refuses a conversation in which two calls have one id; other models count theirs anew in every turn."""
    turns = [called("c1", "c2"), result("c2", "b"), result("c1", "a"), called("c1"), result("c1", "c")]
    messages = sent(chat(user("go"), *turns, tools=[tool()]))["messages"]
    first, again = ([block["id"] for block in messages[place]["content"]] for place in (1, 3))

    assert first == ["c1", "c2"]
    assert [block["tool_use_id"] for block in messages[2]["content"]] == ["c2", "c1"]
    assert [block["tool_use_id"] for block in messages[4]["content"]] == again
    assert not set(first) & set(again)
    assert sent(chat(user("go"), *turns, tools=[tool()]))["messages"] == messages


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


def test_all_functions_and_choices_are_said() -> None:
    """Functions keep name, description and schema; each way of choosing has its word."""
    described = tool(description="Tells the weather.")
    assert sent(chat(tools=[described]))["tools"] == [
        {"name": "weather", "description": "Tells the weather.", "input_schema": SCHEMA}
    ]
    named = {"type": "function", "function": {"name": "weather"}}
    for choice, word in [
        ("none", {"type": "none"}),
        ("auto", {"type": "auto"}),
        ("required", {"type": "any"}),
        (named, {"type": "tool", "name": "weather"}),
    ]:
        assert sent(chat(tools=[tool(), tool("other")], tool_choice=choice))["tool_choice"] == word
    assert "tool_choice" not in sent(chat(tools=[tool()]))


def test_allowed_tools_are_the_only_ones_sent() -> None:
    """A choice among some functions sends those only; one that is demanded is demanded by its name."""
    some = {"type": "function", "function": {"name": "a"}}, {"type": "function", "function": {"name": "b"}}
    tools = [tool("a"), tool("b"), tool("c")]
    auto = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": list(some)}}
    one = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [some[0]]}}

    allowed = sent(chat(tools=tools, tool_choice=auto))
    demanded = sent(chat(tools=tools, tool_choice=one))
    assert [each["name"] for each in allowed["tools"]] == ["a", "b"]
    assert allowed["tool_choice"] == {"type": "auto"}
    assert demanded["tool_choice"] == {"type": "tool", "name": "a"}
    assert len(demanded["tools"]) == 3


@pytest.mark.parametrize(("choice", "kind"), [(None, "auto"), ("auto", "auto"), ("required", "any")])
def test_one_call_at_a_time(choice: str | None, kind: str) -> None:
    """`parallel_tool_calls: false` is said beside the choice, which is automatic if there was none."""
    body = chat(tools=[tool()], parallel_tool_calls=False, tool_choice=choice)

    assert sent(body)["tool_choice"] == {"type": kind, "disable_parallel_tool_use": True}


def test_functions_of_the_past_are_defined() -> None:
    """A history with calls, and no functions any more: the provider wants definitions, and none may be called."""
    params = sent(chat(user("x"), called("a"), result("a")))

    assert [each["name"] for each in params["tools"]] == ["weather"]
    assert params["tool_choice"] == {"type": "none"}


def test_strict_functions_have_closed_schemas() -> None:
    """`strict` is kept, with a schema that the provider can hold the model to."""
    [strict] = sent(chat(tools=[tool(strict=True)]))["tools"]
    [bare] = sent(chat(tools=[{"type": "function", "function": {"name": "now", "strict": True}}]))["tools"]

    assert strict["strict"] is True
    assert strict["input_schema"]["additionalProperties"] is False
    assert bare["input_schema"] == {"type": "object", "properties": {}, "additionalProperties": False}


def test_a_strict_function_s_object_stands_at_the_top() -> None:
    """A reference there would leave the schema without the type that the provider insists on."""
    schema = {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "properties": {"b": {"type": "string"}}}}}
    assert refused(chat(tools=[tool(parameters=schema, strict=True)])) == "tools[0].function.parameters"


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


@pytest.mark.parametrize(("field", "number"), [("temperature", 0.5), ("temperature", 0), ("top_p", 0.9), ("top_k", 5)])
def test_sampling_goes_by_version_and_policy(field: str, number: float) -> None:
    """Now refused or left out and reported; forwarded under the older version, to models that take it."""
    body = chat(model=OLDER, **{field: number})

    assert refused(body) == field
    assert field not in sent(body, sampling="drop")
    assert written(body, sampling="drop").dropped == (field,)
    assert sent(body, api_version="2023-06-01")[field] == number
    assert written(body, api_version="2023-06-01").dropped == ()
    assert refused(chat(model=NEWEST, **{field: number}), api_version="2023-06-01") == field


def test_the_provider_s_own_sampling_is_as_good_as_not_said() -> None:
    """1 is the default on both sides: leaving it out changes nothing."""
    body = chat(temperature=1, top_p=1)

    assert {"temperature", "top_p"} & sent(body).keys() == set()
    assert written(body).dropped == ()


@pytest.mark.parametrize(
    ("model", "fields", "field"),
    [
        ("claude-sonnet-4-6", {"reasoning_effort": "low", "temperature": 0.5}, "temperature"),
        ("claude-sonnet-4-6", {"reasoning_effort": "low", "top_k": 5}, "top_k"),
        (OLDER, {"reasoning_effort": "low", "top_p": 0.9}, "top_p"),
        (OLDER, {"temperature": 0.5, "top_p": 0.97}, "top_p"),
    ],
)
def test_sampling_that_goes_with_nothing_else_here(model: str, fields: dict[str, Any], field: str) -> None:
    """Sampling beside thoughts, and a pair of both, is what the provider refuses hours later; or it goes by policy."""
    body = chat(model=model, **fields)

    assert refused(body, api_version="2023-06-01") == field
    assert written(body, api_version="2023-06-01", sampling="drop").dropped == (field,)
    assert field not in sent(body, api_version="2023-06-01", sampling="drop")


def test_sampling_that_goes_together() -> None:
    """A model before that rule takes both; one that thinks takes a top_p near 1."""
    pair = sent(chat(model="claude-sonnet-4-20250514", temperature=0.5, top_p=0.9), api_version="2023-06-01")
    thinking = sent(chat(model=OLDER, reasoning_effort="low", top_p=0.95), api_version="2023-06-01")

    assert (pair["temperature"], pair["top_p"], thinking["top_p"]) == (0.5, 0.9, 0.95)


def test_hot_sampling_is_refused() -> None:
    """The provider's scale ends at 1; a higher temperature is not quietly made another."""
    assert refused(chat(model=OLDER, temperature=1.5), api_version="2023-06-01") == "temperature"


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
