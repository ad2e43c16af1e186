"""From OpenAI's messages to Mistral's, which forbid every key they do not know. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

from gateway import Unsupported
from gateway.chat import plain_ids
from gateway.rows import write_json
from gateway_mistral.parts import as_object, as_text, chunks, only

#: Roles as OpenAI has them -> as Mistral has them.
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
#: Keys that say nothing to the model, or that it has said itself in a form it does not take back.
_LEFT_OUT = frozenset(
    {
        *("name", "refusal", "audio", "annotations", "parsed"),
        *("reasoning_content", "reasoning", "reasoning_details", "thinking_blocks", "provider_specific_fields"),
    }
)
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ID_LENGTH = 9
_SHORT_ID = re.compile(r"[0-9a-zA-Z]{9}")


def translated_messages(content: object, dropped: list[str]) -> list[dict[str, object]]:
    """The messages; what is left out is named in `dropped`. Raises `Unsupported`."""
    plain = plain_ids(content)
    if not isinstance(plain, list) or not plain:
        raise Unsupported("messages", "messages must be a list with at least one message")
    messages = [_message(message, f"messages[{n}]", dropped) for n, message in enumerate(plain)]
    _check_order(messages)
    return messages


def short_id(name: str) -> str:
    """`name` as the id of a tool call: the provider refuses ids that are not 9 letters or digits (code 3280).

    The same for the same `name`, so that calls and their results stay together; ids of its own are kept.
    """
    if _SHORT_ID.fullmatch(name):
        return name
    number = int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest())
    letters = []
    for _ in range(_ID_LENGTH):
        number, rest = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[rest])
    return "".join(letters)


def _check_order(messages: Sequence[Mapping[str, object]]) -> None:
    """Refuse now what the provider refuses when the job runs (code 3230)."""
    for n, message in enumerate(messages[1:], start=1):
        if message["role"] == "user" and messages[n - 1]["role"] == "tool":
            raise Unsupported(f"messages[{n}].role", "this provider wants an assistant message after a tool's result")
    last = messages[-1]
    if last["role"] == "assistant" and not last.get("prefix"):
        where = f"messages[{len(messages) - 1}]"
        raise Unsupported(
            f"{where}.role",
            f"this provider answers no conversation that ends with the assistant, unless {where}.prefix",
        )


def _message(content: object, field: str, dropped: list[str]) -> dict[str, object]:
    message = {key: inner for key, inner in as_object(content, field).items() if inner is not None}
    role = _ROLES.get(str(message.get("role")))
    if role is None:
        raise Unsupported(f"{field}.role", f"{field}.role is none that this provider has")
    if role == "assistant":
        return _assistant(message, field, dropped)
    if role == "tool":
        return _tool(message, field, dropped)
    _leave_out(message, field, dropped)
    only(message, frozenset({"role", "content"}), field)
    return {"role": role, "content": _content(message.get("content"), f"{field}.content", role, dropped)}


def _assistant(message: dict[str, object], field: str, dropped: list[str]) -> dict[str, object]:
    refusal = message.get("refusal")
    if isinstance(refusal, str) and not message.get("content"):
        message["content"] = message.pop("refusal")
    _leave_out(message, field, dropped)
    only(message, frozenset({"role", "content", "tool_calls", "prefix"}), field)
    shown: dict[str, object] = {"role": "assistant"}
    if message.get("content"):
        shown["content"] = _content(message["content"], f"{field}.content", "assistant", dropped)
    calls = message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        raise Unsupported(f"{field}.tool_calls", f"{field}.tool_calls must be a list")
    if calls:
        shown["tool_calls"] = [_call(call, f"{field}.tool_calls[{n}]") for n, call in enumerate(calls)]
        shown.setdefault("content", "")
    if "content" not in shown:
        raise Unsupported(f"{field}.content", "an assistant message without text or tool calls means nothing here")
    if message.get("prefix") is True:
        shown["prefix"] = True
    return shown


def _tool(message: dict[str, object], field: str, dropped: list[str]) -> dict[str, object]:
    only(message, frozenset({"role", "content", "tool_call_id", "name"}), field)
    shown: dict[str, object] = {
        "role": "tool",
        "content": _content(message.get("content"), f"{field}.content", "tool", dropped),
        "tool_call_id": short_id(as_text(message.get("tool_call_id"), f"{field}.tool_call_id")),
    }
    if "name" in message:
        shown["name"] = as_text(message["name"], f"{field}.name")
    return shown


def _call(content: object, field: str) -> dict[str, object]:
    """A call that the model made in an earlier turn."""
    call = as_object(content, field)
    only(call, frozenset({"id", "type", "function", "index"}), field)
    if call.get("type", "function") != "function":
        raise Unsupported(f"{field}.type", "this provider knows calls of functions only")
    function = as_object(call.get("function"), f"{field}.function")
    only(function, frozenset({"name", "arguments", "parsed_arguments"}), f"{field}.function")
    arguments = function.get("arguments")
    if isinstance(arguments, dict):
        arguments = write_json(arguments).decode()
    return {
        "id": short_id(as_text(call.get("id"), f"{field}.id")),
        "type": "function",
        "function": {
            "name": as_text(function.get("name"), f"{field}.function.name"),
            "arguments": as_text(arguments, f"{field}.function.arguments"),
        },
    }


def _content(content: object, field: str, role: str, dropped: list[str]) -> str | list[dict[str, object]]:
    if isinstance(content, list):
        return chunks(content, field, role=role, dropped=dropped)
    return as_text(content, field)


def _leave_out(message: dict[str, object], field: str, dropped: list[str]) -> None:
    dropped.extend(
        f"{field}.{key}" for key in sorted(_LEFT_OUT & message.keys()) if message.pop(key) not in ("", [], {})
    )
