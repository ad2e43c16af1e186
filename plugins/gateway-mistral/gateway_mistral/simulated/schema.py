"""The schema of a chat completion at Mistral: what is wrong with a body, in the words of its validation.

After the published API description; every object forbids the keys it does not name. What is checked beyond the
schema (ids of tool calls, the order of roles) is known from the errors that callers reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gateway_mistral.simulated.objects import error_object

_NUMBER = (int, float)
_FIELDS: Mapping[str, tuple[type, ...]] = MappingProxyType(
    {
        "model": (str,),
        "messages": (list,),
        "temperature": _NUMBER,
        "top_p": _NUMBER,
        "max_tokens": (int,),
        "stream": (bool,),
        "stop": (str, list),
        "random_seed": (int,),
        "metadata": (dict,),
        "response_format": (dict,),
        "tools": (list,),
        "tool_choice": (str, dict),
        "presence_penalty": _NUMBER,
        "frequency_penalty": _NUMBER,
        "n": (int,),
        "prediction": (dict,),
        "parallel_tool_calls": (bool,),
        "reasoning_effort": (str,),
        "prompt_mode": (str,),
        "guardrails": (list,),
        "prompt_cache_key": (str,),
        "service_tier": (str,),
        "safe_prompt": (bool,),
    }
)
_RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "temperature": (0, 1.5),
        "top_p": (0, 1),
        "max_tokens": (0, 2**53),
        "random_seed": (0, 2**63),
        "presence_penalty": (-2, 2),
        "frequency_penalty": (-2, 2),
        "n": (1, 2**31),
    }
)
_MESSAGES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "system": frozenset({"role", "content"}),
        "user": frozenset({"role", "content"}),
        "assistant": frozenset({"role", "content", "tool_calls", "prefix"}),
        "tool": frozenset({"role", "content", "tool_call_id", "name"}),
    }
)
_PARTS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "text": frozenset({"type", "text"}),
        "image_url": frozenset({"type", "image_url"}),
        "document_url": frozenset({"type", "document_url", "document_name"}),
        "input_audio": frozenset({"type", "input_audio"}),
        "file": frozenset({"type", "file_id"}),
        "thinking": frozenset({"type", "thinking", "signature", "closed"}),
        "reference": frozenset({"type", "reference_ids"}),
    }
)
_CALL = frozenset({"id", "type", "index", "function"})
_ID = re.compile(r"[0-9a-zA-Z]{9}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyProblem:
    """What the answer to a body is instead of a completion."""

    status: int
    body: Mapping[str, object]


def chat_problem(body: Mapping[str, object]) -> BodyProblem | None:
    """What is wrong with the body of a chat completion."""
    details = list(_schema(body))
    if details:
        return BodyProblem(status=422, body=error_object({"detail": details}))
    messages = body["messages"]
    return _sense(messages) if isinstance(messages, list) else None


def detail(kind: str, where: list[str | int], message: str, content: object = None) -> dict[str, object]:
    """One entry of a failed validation."""
    return {"type": kind, "loc": ["body", *where], "msg": message, "input": content}


def extra(content: Mapping[str, object], known: frozenset[str], where: list[str | int]) -> Iterator[dict[str, object]]:
    """An entry for each key that is not known, null or not."""
    for key in content:
        if key not in known:
            yield detail("extra_forbidden", [*where, key], "Extra inputs are not permitted", content[key])


def _schema(body: Mapping[str, object]) -> Iterator[dict[str, object]]:
    yield from extra(body, frozenset(_FIELDS), [])
    for field in ("model", "messages"):
        if body.get(field) is None:
            yield detail("missing", [field], "Field required", body)
    for field, kinds in _FIELDS.items():
        content = body.get(field)
        if content is None:
            continue
        if not isinstance(content, kinds) or (isinstance(content, bool) and bool not in kinds):
            yield detail("type_error", [field], "Input has the wrong type", content)
        elif isinstance(content, int | float) and field in _RANGES:
            least, most = _RANGES[field]
            if not least <= content <= most:
                yield detail("out_of_range", [field], f"Input should be from {least:g} to {most:g}", content)
    yield from _messages(body.get("messages"))
    yield from _tools(body.get("tools"))
    yield from _format(body.get("response_format"))
    if body.get("service_tier") not in (None, "auto", "standard_only"):
        yield detail("enum", ["service_tier"], "Input should be 'auto' or 'standard_only'", body["service_tier"])


def _messages(messages: object) -> Iterator[dict[str, object]]:
    if messages == []:
        yield detail("too_short", ["messages"], "List should have at least 1 item", messages)
    for n, message in enumerate(messages if isinstance(messages, list) else ()):
        where: list[str | int] = ["messages", n]
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str) or role not in _MESSAGES:
            yield detail(
                "union_tag_invalid", where, "Input tag found using 'role' does not match any of the expected", role
            )
            continue
        yield from extra(message, _MESSAGES[role], [*where, role])
        yield from _content(message.get("content"), [*where, role, "content"], optional=role == "assistant")
        calls = message.get("tool_calls")
        for m, call in enumerate(calls if isinstance(calls, list) else ()):
            place: list[str | int] = [*where, role, "tool_calls", m]
            if isinstance(call, dict):
                yield from extra(call, _CALL, place)
            else:
                yield detail("type_error", place, "Input should be an object", call)


def _content(content: object, where: list[str | int], *, optional: bool) -> Iterator[dict[str, object]]:
    if isinstance(content, str) or (content is None and optional):
        return
    if not isinstance(content, list) or not content:
        yield detail("type_error", where, "Input should be a valid string or list of chunks", content)
        return
    for n, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(kind, str) or kind not in _PARTS:
            yield detail("union_tag_invalid", [*where, n], "Input tag found using 'type' does not match", kind)
        else:
            yield from extra(part, _PARTS[kind], [*where, n, kind])
            if kind == "input_audio" and not isinstance(part.get("input_audio"), str):
                yield detail("string_type", [*where, n, kind], "Input should be a valid string", None)


def _tools(tools: object) -> Iterator[dict[str, object]]:
    if tools == []:
        yield detail("too_short", ["tools"], "List should have at least 1 item", tools)
    for n, tool in enumerate(tools if isinstance(tools, list) else ()):
        function = tool.get("function") if isinstance(tool, dict) else None
        where: list[str | int] = ["tools", n, "function"]
        if not isinstance(function, dict):
            yield detail("missing", where, "Field required", tool)
            continue
        yield from extra(function, frozenset({"name", "description", "parameters", "strict"}), where)
        for field, kind in (("name", str), ("parameters", dict)):
            if not isinstance(function.get(field), kind):
                yield detail("missing", [*where, field], "Field required", function)


def _format(wanted: object) -> Iterator[dict[str, object]]:
    if not isinstance(wanted, dict):
        return
    where: list[str | int] = ["response_format"]
    yield from extra(wanted, frozenset({"type", "json_schema"}), where)
    schema = wanted.get("json_schema")
    if wanted.get("type") != "json_schema":
        return
    where = [*where, "json_schema"]
    if not isinstance(schema, dict):
        yield detail("missing", where, "Field required", wanted)
        return
    yield from extra(schema, frozenset({"name", "schema", "strict", "description"}), where)
    for field in ("name", "schema"):
        if schema.get(field) is None:
            yield detail("missing", [*where, field], "Field required", schema)


def _sense(messages: list[Mapping[str, object]]) -> BodyProblem | None:
    """What the schema lets pass and the model does not."""
    for before, message in zip([{}, *messages], messages, strict=False):
        if message["role"] == "user" and before.get("role") == "tool":
            return _order("Unexpected role 'user' after role 'tool'")
        if message["role"] == "assistant" and not message.get("content") and not message.get("tool_calls"):
            return _order("Assistant message must have either content or tool_calls, but not none.")
        for name in _ids(message):
            if not isinstance(name, str) or not _ID.fullmatch(name):
                text = f"Tool call id was {str(name)[:40]} but must be a-z, A-Z, 0-9, with a length of 9."
                return BodyProblem(status=400, body=error_object(text, kind="invalid_function_call", code="3280"))
    last = messages[-1]
    if last["role"] == "assistant" and not last.get("prefix"):
        return _order("Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant")
    return None


def _ids(message: Mapping[str, object]) -> Iterator[object]:
    if message["role"] == "tool":
        yield message.get("tool_call_id")
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        yield call.get("id")


def _order(text: str) -> BodyProblem:
    return BodyProblem(status=400, body=error_object(text, kind="invalid_request_message_order", code="3230"))
