"""Functions that the model may call, and how free it is to. Pure."""

from __future__ import annotations

import re

from gateway import Unsupported
from gateway.chat import ChatRequest, Tool, ToolChoice, ToolMode

#: From `FunctionDeclaration.name` in google-genai's types: a letter or underscore first, at most 128 characters.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}")
_MODES = {ToolMode.NONE: "NONE", ToolMode.AUTO: "AUTO", ToolMode.REQUIRED: "ANY"}


def tool_fields(request: ChatRequest) -> dict[str, object]:
    """`tools` and `toolConfig`; empty where no functions are declared.

    Raises `Unsupported` for a name that Gemini does not take, and for `parallel_tool_calls: false`, which it cannot promise.
    """
    if not request.tools:
        return {}
    choice = request.tool_choice
    silent = choice is not None and choice.mode is ToolMode.NONE
    if request.parallel_tool_calls is False and not silent:
        raise Unsupported("parallel_tool_calls", "Gemini has no way to forbid calls in parallel")
    fields: dict[str, object] = {"tools": [{"functionDeclarations": [_declaration(tool) for tool in request.tools]}]}
    if choice is not None:
        fields["toolConfig"] = {"functionCallingConfig": _calling(choice)}
    return fields


def check_name(name: str, field: str) -> str:
    """`name`, if Gemini takes it for a function. Raises `Unsupported`."""
    if not _NAME.fullmatch(name):
        shown = name[:40]
        raise Unsupported(
            field, f"a function's name begins with a letter or underscore on Gemini; {shown!r} does not fit"
        )
    return name


def _declaration(tool: Tool) -> dict[str, object]:
    declared: dict[str, object] = {"name": check_name(tool.name, f"{tool.field}.name")}
    if tool.description is not None:
        declared["description"] = tool.description
    declared["parametersJsonSchema"] = {"type": "object", **tool.parameters}
    return declared


def _calling(choice: ToolChoice) -> dict[str, object]:
    """Names can only be given where calls are forced or checked, so `auto` with names is `VALIDATED`."""
    if not choice.names or choice.mode is ToolMode.NONE:
        return {"mode": _MODES[choice.mode]}
    mode = "ANY" if choice.mode is ToolMode.REQUIRED else "VALIDATED"
    return {"mode": mode, "allowedFunctionNames": list(choice.names)}
