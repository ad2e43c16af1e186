"""Which functions the model may call, and how free it is to."""

from __future__ import annotations

import pytest

from gateway.chat import Tool, ToolChoice, ToolMode, read_chat
from tests.unit.chat.bodies import body, refused, tool

_SCHEMA = {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]}


def chosen(name: object) -> dict[str, object]:
    """The choice of one function."""
    return {"type": "function", "function": {"name": name}}


def allowed(mode: object, *names: str) -> dict[str, object]:
    """The choice of some functions."""
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [chosen(name) for name in names]}}


def test_a_function_arrives_whole() -> None:
    """Name, description, schema and strictness are as the caller wrote them."""
    request = read_chat(body(tools=[tool(description="looks", parameters=_SCHEMA, strict=True)]))
    assert request.tools == (
        Tool(name="look", description="looks", parameters=_SCHEMA, strict=True, field="tools[0].function"),
    )


@pytest.mark.parametrize("nothing", [{}, {"parameters": {}}, {"parameters": None, "description": "", "strict": None}])
def test_a_function_without_arguments_takes_an_object(nothing: dict[str, object]) -> None:
    """Providers want a schema; none said is an object without fields."""
    [found] = read_chat(body(tools=[tool(**nothing)])).tools
    assert found == Tool(name="look", parameters={"type": "object", "properties": {}}, field="tools[0].function")


def test_the_old_form_of_tools_becomes_the_new() -> None:
    """`functions` and `function_call` are tools and the choice of one."""
    old = read_chat(body(functions=[{"name": "look", "parameters": _SCHEMA}], function_call={"name": "look"}))
    assert old.tools == (Tool(name="look", parameters=_SCHEMA, field="functions[0]"),)
    assert old.tool_choice == ToolChoice(mode=ToolMode.REQUIRED, names=("look",))
    for word in ("none", "auto"):
        choice = read_chat(body(functions=[{"name": "look"}], function_call=word)).tool_choice
        assert choice == ToolChoice(mode=ToolMode(word))


@pytest.mark.parametrize(
    ("choice", "found"),
    [
        ("none", ToolChoice(mode=ToolMode.NONE)),
        ("auto", ToolChoice(mode=ToolMode.AUTO)),
        ("required", ToolChoice(mode=ToolMode.REQUIRED)),
        (chosen("go"), ToolChoice(mode=ToolMode.REQUIRED, names=("go",))),
        (allowed("auto", "go", "look", "go"), ToolChoice(mode=ToolMode.AUTO, names=("go", "look"))),
        (allowed("required", "go"), ToolChoice(mode=ToolMode.REQUIRED, names=("go",))),
        (None, None),
    ],
)
def test_each_way_to_choose(choice: object, found: ToolChoice | None) -> None:
    """A word, one function, or some of them."""
    request = read_chat(body(tools=[tool(), tool("go")], tool_choice=choice, parallel_tool_calls=False))
    assert request.tool_choice == found
    assert request.parallel_tool_calls is False


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"tools": {}}, "tools"),
        ({"tools": [1]}, "tools[0]"),
        ({"tools": [{}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [tool("")]}, "tools[0].function.name"),
        ({"tools": [tool(), tool()]}, "tools[1].function"),
        ({"tools": [tool(parameters=[])]}, "tools[0].function.parameters"),
        ({"tools": [tool(strict=1)]}, "tools[0].function.strict"),
        ({"tools": [tool(strange=1)]}, "tools[0].function.strange"),
        ({"tools": [tool() | {"strange": 1}]}, "tools[0].strange"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"functions": [{}]}, "functions[0].name"),
        ({"functions": [{"name": "x"}], "tools": [tool()]}, "functions"),
        ({"function_call": "auto", "tool_choice": "auto"}, "function_call"),
        ({"function_call": "required"}, "function_call"),
        ({"function_call": {"name": "x"}}, "function_call"),
        ({"tool_choice": 1}, "tool_choice"),
        ({"tool_choice": []}, "tool_choice"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": chosen("look")}, "tool_choice"),
        ({"tool_choice": chosen("gone"), "tools": [tool()]}, "tool_choice"),
        ({"tool_choice": allowed("auto", "gone"), "tools": [tool()]}, "tool_choice"),
        ({"tool_choice": chosen(1), "tools": [tool()]}, "tool_choice.function.name"),
        ({"tool_choice": {}, "tools": [tool()]}, "tool_choice.type"),
        ({"tool_choice": {"type": "custom", "custom": {"name": "x"}}, "tools": [tool()]}, "tool_choice.type"),
        ({"tool_choice": allowed("auto"), "tools": [tool()]}, "tool_choice.allowed_tools.tools"),
        ({"tool_choice": allowed("none", "look"), "tools": [tool()]}, "tool_choice.allowed_tools.mode"),
        ({"tool_choice": allowed(None, "look"), "tools": [tool()]}, "tool_choice.allowed_tools.mode"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ],
)
def test_tools_that_cannot_be_offered_are_refused(fields: dict[str, object], place: str) -> None:
    """Custom tools, doubled names, choices of what is not there: each by its place."""
    assert refused(body(**fields)) == place
