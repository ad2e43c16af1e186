"""Tools, the choice among them, and the format of the answer, in Mistral's words. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from gateway import Unsupported
from gateway_mistral.parts import as_object, as_text, only

_MODES = frozenset({"auto", "none", "any", "required"})


def translated_tools(content: object) -> list[dict[str, object]]:
    """The functions; each gets the `parameters` that the provider insists on. Raises `Unsupported`."""
    if not isinstance(content, list):
        raise Unsupported("tools", "tools must be a list")
    return [_tool(tool, f"tools[{n}]") for n, tool in enumerate(content)]


def translated_choice(content: object) -> str | dict[str, object]:
    """Which tool is to be called. Raises `Unsupported`."""
    if isinstance(content, str):
        if content not in _MODES:
            raise Unsupported("tool_choice", f"tool_choice must be one of {', '.join(sorted(_MODES))}, or a function")
        return content
    choice = as_object(content, "tool_choice")
    if choice.get("type", "function") != "function":
        raise Unsupported("tool_choice.type", "this provider can be told one function, or a mode")
    only(choice, frozenset({"type", "function"}), "tool_choice")
    function = as_object(choice.get("function"), "tool_choice.function")
    only(function, frozenset({"name"}), "tool_choice.function")
    return {"type": "function", "function": {"name": as_text(function.get("name"), "tool_choice.function.name")}}


def translated_format(content: object) -> dict[str, object]:
    """The response format. Raises `Unsupported`."""
    wanted = as_object(content, "response_format")
    only(wanted, frozenset({"type", "json_schema"}), "response_format")
    kind = wanted.get("type")
    if kind in ("text", "json_object"):
        return {"type": kind}
    if kind != "json_schema":
        raise Unsupported("response_format.type", "response_format.type must be text, json_object or json_schema")
    field = "response_format.json_schema"
    schema = as_object(wanted.get("json_schema"), field)
    only(schema, frozenset({"name", "schema", "strict", "description"}), field)
    shown: dict[str, object] = {
        "name": as_text(schema.get("name"), f"{field}.name"),
        "schema": as_object(schema.get("schema"), f"{field}.schema"),
    }
    _optional(schema, shown, field)
    return {"type": "json_schema", "json_schema": shown}


def _tool(content: object, field: str) -> dict[str, object]:
    tool = as_object(content, field)
    if tool.get("type", "function") != "function":
        raise Unsupported(f"{field}.type", "this provider's batches know tools of type function only")
    only(tool, frozenset({"type", "function"}), field)
    field = f"{field}.function"
    function = as_object(tool.get("function"), field)
    only(function, frozenset({"name", "description", "parameters", "strict"}), field)
    parameters = function.get("parameters")
    shown: dict[str, object] = {
        "name": as_text(function.get("name"), f"{field}.name"),
        "parameters": {"type": "object", "properties": {}}
        if parameters is None
        else as_object(parameters, f"{field}.parameters"),
    }
    _optional(function, shown, field)
    return {"type": "function", "function": shown}


def _optional(content: Mapping[str, object], shown: dict[str, object], field: str) -> None:
    """`description` and `strict`, where they are set."""
    if content.get("description") is not None:
        shown["description"] = as_text(content["description"], f"{field}.description")
    strict = content.get("strict")
    if strict is not None:
        if not isinstance(strict, bool):
            raise Unsupported(f"{field}.strict", f"{field}.strict must be true or false")
        shown["strict"] = strict
