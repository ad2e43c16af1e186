"""Functions in Anthropic's words: definitions, choices, calls and their ids."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic_lab import SCHEMA, called, chat, refused, result, sent, tool, user


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
