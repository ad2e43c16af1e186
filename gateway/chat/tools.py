"""The functions that the model may call, and how free it is to. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.chat.fields import Fields, shown
from gateway.chat.parts import CACHE_MARKS
from gateway.chat.records import Tool, ToolChoice, ToolMode
from gateway.errors import Unsupported

_MODES = tuple(ToolMode)


def read_tools(body: Fields) -> tuple[Tool, ...]:
    """`tools`, or what stands in the old `functions`; names are unique."""
    if body.items("tools") and body.items("functions"):
        raise body.unsupported("functions", "cannot stand beside tools; use tools alone")
    tools = [_tool(entry) for entry in body.each("tools")] + [_function(entry) for entry in body.each("functions")]
    names: set[str] = set()
    for tool in tools:
        if tool.name in names:
            raise body.unsupported(tool.field, f"has the name {shown(tool.name)} of another tool; give each its own")
        names.add(tool.name)
    return tuple(tools)


def _tool(entry: Fields) -> Tool:
    if entry.text("type") == "custom" or entry.has("custom"):
        raise entry.unsupported(
            "type", "'custom' tools and grammars cannot be translated; use tools of type 'function'"
        )
    if entry.word("type", ("function",)) is None:
        raise entry.unsupported("type", "must be 'function'")
    entry.only({"type", "function", *CACHE_MARKS})
    entry.hint(*CACHE_MARKS)
    return _function(entry.needed("function"))


def _function(function: Fields) -> Tool:
    function.only({"name", "description", "parameters", "strict", *CACHE_MARKS})
    function.hint(*CACHE_MARKS)
    name = function.name("name")
    description = function.text("description") or None
    strict = function.flag("strict")
    parameters = function.mapping("parameters")
    if not parameters:
        return Tool(name=name, description=description, strict=strict, field=function.place)
    return Tool(name=name, description=description, parameters=parameters, strict=strict, field=function.place)


def read_tool_choice(body: Fields, tools: tuple[Tool, ...]) -> ToolChoice | None:
    """`tool_choice`, or what the old `function_call` says; None also when there is nothing to choose from."""
    if body.has("tool_choice") and body.has("function_call"):
        raise body.unsupported("function_call", "cannot stand beside tool_choice; use tool_choice alone")
    name = "tool_choice" if body.has("tool_choice") else "function_call"
    if not body.has(name):
        return None
    choice = _old_choice(body) if name == "function_call" else _choice(body)
    if not tools:
        if choice.mode is ToolMode.REQUIRED or choice.names:
            raise body.unsupported(name, "demands a tool, and there are none; say which in tools")
        return None
    offered = {tool.name for tool in tools}
    for chosen in choice.names:
        if chosen not in offered:
            raise body.unsupported(name, f"names {shown(chosen)}, which is not among the tools; add it there")
    return choice


def _choice(body: Fields) -> ToolChoice:
    if not isinstance(body.content["tool_choice"], Mapping):
        if not isinstance(body.content["tool_choice"], str):
            raise _bad_choice(body, "tool_choice")
        return ToolChoice(mode=ToolMode(body.word("tool_choice", _MODES) or ToolMode.AUTO))
    choice = body.needed("tool_choice")
    kind = choice.text("type")
    if kind == "function":
        choice.only({"type", "function"})
        return ToolChoice(mode=ToolMode.REQUIRED, names=(_named(choice),))
    if kind == "allowed_tools":
        choice.only({"type", "allowed_tools"})
        return _allowed(choice.needed("allowed_tools"))
    if kind == "custom":
        raise choice.unsupported("type", "'custom' tools cannot be translated; use tools of type 'function'")
    raise choice.unsupported("type", f"must be 'function' or 'allowed_tools', not {shown(kind)}")


def _allowed(allowed: Fields) -> ToolChoice:
    allowed.only({"mode", "tools"})
    mode = allowed.word("mode", (ToolMode.AUTO, ToolMode.REQUIRED))
    if mode is None:
        raise allowed.unsupported("mode", "must be 'auto' or 'required'")
    names = []
    for entry in allowed.each("tools"):
        if entry.text("type") == "custom":
            raise entry.unsupported("type", "'custom' tools cannot be translated; use tools of type 'function'")
        entry.only({"type", "function"})
        entry.word("type", ("function",))
        names.append(_named(entry))
    if not names:
        raise allowed.unsupported("tools", "must name at least one tool; use tool_choice 'none' to allow none")
    return ToolChoice(mode=ToolMode(mode), names=tuple(dict.fromkeys(names)))


def _named(holder: Fields) -> str:
    function = holder.needed("function")
    function.only({"name"})
    return function.name("name")


def _old_choice(body: Fields) -> ToolChoice:
    content = body.content.get("function_call")
    if isinstance(content, Mapping):
        function = body.needed("function_call")
        function.only({"name"})
        return ToolChoice(mode=ToolMode.REQUIRED, names=(function.name("name"),))
    if content not in ("none", "auto"):
        raise _bad_choice(body, "function_call")
    return ToolChoice(mode=ToolMode.NONE if content == "none" else ToolMode.AUTO)


def _bad_choice(body: Fields, name: str) -> Unsupported:
    return body.unsupported(
        name, f"must be a word such as 'auto', or an object that names a function, not {shown(body.content[name])}"
    )
