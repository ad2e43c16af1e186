"""Functions and the freedom to call them, in Anthropic's words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway import Unsupported
from gateway.chat import AssistantTurn, ChatRequest, Tool, ToolMode
from gateway_anthropic.layout import Block
from gateway_anthropic.messages import TOOL_NAME
from gateway_anthropic.schemas import closed_schema

_UNIONS = ("anyOf", "oneOf", "allOf")


def write_tools(request: ChatRequest, *, forced: bool, thinking_by_budget: bool) -> dict[str, object]:
    """`tools` and `tool_choice`, as far as there is something to say; `forced`: the model takes a demanded call."""
    if not request.tools:
        return _remembered(request)
    mode, names = ToolMode.AUTO, tuple[str, ...]()
    if request.tool_choice is not None:
        mode, names = request.tool_choice.mode, request.tool_choice.names
    if mode is ToolMode.REQUIRED:
        _check_demand(forced=forced, thinking_by_budget=thinking_by_budget)
    one = mode is ToolMode.REQUIRED and len(names) == 1
    offered = [tool for tool in request.tools if one or not names or tool.name in names]
    written: dict[str, object] = {"tools": [_tool(tool) for tool in offered]}
    choice = _choice(mode, names[0] if one else None)
    if request.parallel_tool_calls is False and mode is not ToolMode.NONE:
        choice["disable_parallel_tool_use"] = True
    if request.tool_choice is not None or len(choice) > 1:
        written["tool_choice"] = choice
    return written


def _check_demand(*, forced: bool, thinking_by_budget: bool) -> None:
    if not forced:
        raise Unsupported("tool_choice", "this model cannot be made to call a function; use 'auto'")
    if thinking_by_budget:
        reason = "a model that thinks by budget cannot be made to call a function; use 'auto', or no reasoning_effort"
        raise Unsupported("tool_choice", reason)


def _choice(mode: ToolMode, name: str | None) -> dict[str, object]:
    if name is not None:
        return {"type": "tool", "name": name}
    return {"type": {ToolMode.NONE: "none", ToolMode.AUTO: "auto", ToolMode.REQUIRED: "any"}[mode]}


def _tool(tool: Tool) -> Block:
    if not TOOL_NAME.fullmatch(tool.name):
        raise Unsupported(f"{tool.field}.name", "has to be 1 to 128 of letters, digits, _ and -")
    field = f"{tool.field}.parameters"
    schema: Block = {"type": "object", **tool.parameters}
    if schema["type"] != "object":
        raise Unsupported(field, "has to be the schema of an object")
    if any(union in schema for union in _UNIONS):
        raise Unsupported(field, f"the provider does not take {', '.join(_UNIONS)} at the top of a function's schema")
    if tool.strict and "$ref" in schema:
        raise Unsupported(field, "is strict and begins with a $ref; the provider wants the object itself at the top")
    if tool.strict and not schema.get("properties"):
        schema["additionalProperties"] = False
    written: Block = {"name": tool.name, "input_schema": closed_schema(schema, field) if tool.strict else schema}
    if tool.description:
        written["description"] = tool.description
    if tool.strict:
        written["strict"] = True
    return written


def _remembered(request: ChatRequest) -> dict[str, object]:
    """Functions that only the history calls: the provider wants them defined all the same. None may be called."""
    names: Sequence[str] = list(
        dict.fromkeys(
            call.name for turn in request.turns if isinstance(turn, AssistantTurn) for call in turn.tool_calls
        )
    )
    schema: Mapping[str, object] = {"type": "object", "properties": {}}
    if not names:
        return {}
    tools = [_tool(Tool(name=name, parameters=schema, field="messages.tool_calls.function")) for name in names]
    return {"tools": tools, "tool_choice": {"type": "none"}}
