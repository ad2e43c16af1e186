"""The conversation: from messages to turns. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec
import orjson

from gateway.chat.carrying import carried
from gateway.chat.fields import Fields, shown
from gateway.chat.parts import CACHE_MARKS, read_parts, read_texts
from gateway.chat.records import (
    AssistantTurn,
    SystemTurn,
    Text,
    ToolCall,
    ToolResult,
    ToolTurn,
    Turn,
    UserTurn,
)
from gateway.errors import Unsupported

#: What clients send back of an answer, beside what OpenAI takes: words for thoughts of several services and libraries.
_ECHOED = (
    *("annotations", "parsed", "provider_specific_fields"),
    *("reasoning", "reasoning_content", "reasoning_details", "thinking_blocks"),
)


@dataclass(slots=True, kw_only=True)
class _Conversation:
    """The turns so far, and what is still owed to the last one."""

    system: list[Text] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    #: Calls of the last assistant's turn that have no result yet, by id.
    owed: dict[str, ToolCall] = field(default_factory=dict)

    def say(self, turn: Turn) -> None:
        """Add a turn that is no result of a call; calls that have a message of their own join the words before them."""
        for call in self.owed.values():
            raise Unsupported(
                call.field, f"has no result before {turn.field}; every call needs a tool message with its tool_call_id"
            )
        last = self.turns[-1] if self.turns else None
        if isinstance(turn, AssistantTurn) and not turn.texts and isinstance(last, AssistantTurn):
            self.turns[-1] = AssistantTurn(texts=last.texts, tool_calls=turn.tool_calls, field=turn.field)
        else:
            self.turns.append(turn)

    def answer(self, result: ToolResult) -> None:
        """Add the result of a call; results that follow each other share a turn."""
        del self.owed[result.id]
        last = self.turns[-1]
        if isinstance(last, ToolTurn):
            self.turns[-1] = ToolTurn(results=(*last.results, result), field=last.field)
        else:
            self.turns.append(ToolTurn(results=(result,), field=result.field))


def read_messages(body: Fields) -> tuple[tuple[Text, ...], tuple[Turn, ...]]:
    """The leading instructions, and the turns; messages that say nothing are left out."""
    conversation = _Conversation()
    for message in body.each("messages"):
        role = message.text("role")
        read = _ROLES.get(role or "")
        if read is None:
            said = "is missing" if role is None else f"{shown(role)} is unknown"
            raise message.unsupported("role", f"{said}; use one of {', '.join(repr(known) for known in _ROLES)}")
        read(message, conversation)
    if not conversation.turns:
        raise body.unsupported("messages", "must hold a message of the user that is not empty")
    last = conversation.turns[-1]
    if isinstance(last, ToolTurn):
        for call in conversation.owed.values():
            raise Unsupported(call.field, "has no result; every call needs a tool message with its tool_call_id")
    return tuple(conversation.system), tuple(conversation.turns)


def _system(message: Fields, conversation: _Conversation) -> None:
    message.only({"role", "content", "name", *CACHE_MARKS})
    message.hint("name", *CACHE_MARKS)
    _needs_content(message)
    texts = read_texts(message)
    if not conversation.turns:
        conversation.system.extend(texts)
    elif texts:
        conversation.say(SystemTurn(texts=texts, field=message.place))


def _user(message: Fields, conversation: _Conversation) -> None:
    message.only({"role", "content", "name", *CACHE_MARKS})
    message.hint("name", *CACHE_MARKS)
    _needs_content(message)
    parts = read_parts(message)
    if parts:
        conversation.say(UserTurn(parts=parts, field=message.place))


def _assistant(message: Fields, conversation: _Conversation) -> None:
    message.only({"role", "content", "name", "refusal", "audio", "tool_calls", "function_call", *_ECHOED, *CACHE_MARKS})
    message.hint("name", *_ECHOED, *CACHE_MARKS)
    if message.has("audio"):
        raise message.unsupported("audio", "names a sound that only OpenAI has; send what was said as text in content")
    refusal = message.text("refusal")
    texts = read_texts(message, refusals=True) + ((Text(text=refusal),) if refusal else ())
    calls = _calls(message)
    if texts or calls:
        conversation.say(AssistantTurn(texts=texts, tool_calls=tuple(calls.values()), field=message.place))
        conversation.owed = calls


def _calls(message: Fields) -> dict[str, ToolCall]:
    calls: dict[str, ToolCall] = {}
    for entry in message.each("tool_calls"):
        call = _call(entry)
        if call.id in calls:
            raise entry.unsupported("id", "is the id of another call of this message; give each its own")
        calls[call.id] = call
    old = message.fields("function_call")
    if old is not None:
        if calls:
            raise message.unsupported("function_call", "cannot stand beside tool_calls; use tool_calls alone")
        old.only({"name", "arguments"})
        # The old form has no ids; a name of its own ties the result to it.
        id_ = "call_" + message.place.removeprefix("messages[").removesuffix("]")
        calls[id_] = ToolCall(id=id_, name=old.name("name"), arguments=_arguments(old), field=old.place)
    return calls


def _call(entry: Fields) -> ToolCall:
    if entry.text("type") == "custom" or entry.has("custom"):
        raise entry.unsupported("type", "'custom' tools cannot be translated; use tools of type 'function'")
    entry.only({"id", "type", "function", "index"})
    entry.word("type", ("function",))
    function = entry.needed("function")
    function.only({"name", "arguments", "parsed_arguments"})
    id_, content = carried(entry.name("id"))
    return ToolCall(
        id=id_, name=function.name("name"), arguments=_arguments(function), carried=content, field=entry.place
    )


def _arguments(function: Fields) -> Mapping[str, object]:
    """The arguments as an object; no text at all is how some clients say that there are none."""
    text = function.text("arguments")
    if text is None:
        raise function.unsupported("arguments", "must be a string of JSON")
    if not text.strip():
        return {}
    try:
        arguments: object = msgspec.json.decode(text)
        # What cannot be written again, as numbers beyond 64 bits, would not arrive as it was.
        orjson.dumps(arguments)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
        raise function.unsupported(
            "arguments", "is not JSON that can be sent on; send the arguments as the model wrote them"
        ) from None
    if not isinstance(arguments, dict):
        raise function.unsupported("arguments", "must be a JSON object; wrap other arguments in one")
    return arguments


def _tool(message: Fields, conversation: _Conversation) -> None:
    message.only({"role", "content", "tool_call_id", "name", *CACHE_MARKS})
    message.hint(*CACHE_MARKS)
    _needs_content(message)
    id_, _ = carried(message.name("tool_call_id"))
    call = conversation.owed.get(id_)
    if call is None:
        raise message.unsupported(
            "tool_call_id",
            "answers no open call of the assistant's message before it; send that message too, unchanged",
        )
    conversation.answer(ToolResult(id=id_, name=call.name, parts=read_texts(message), field=message.place))


def _function(message: Fields, conversation: _Conversation) -> None:
    """The old form of a result: it goes to the open call of that name."""
    message.only({"role", "content", "name"})
    name = message.name("name")
    call = next((call for call in conversation.owed.values() if call.name == name), None)
    if call is None:
        raise message.unsupported(
            "name", "answers no open call of the assistant's message before it; send that message too"
        )
    parts = read_texts(message) if message.has("content") else ()
    conversation.answer(ToolResult(id=call.id, name=name, parts=parts, field=message.place))


def _needs_content(message: Fields) -> None:
    if not message.has("content"):
        raise message.unsupported("content", "must be a string or a list of parts")


_ROLES: Mapping[str, Callable[[Fields, _Conversation], None]] = MappingProxyType(
    {
        "system": _system,
        "developer": _system,
        "user": _user,
        "assistant": _assistant,
        "tool": _tool,
        "function": _function,
    }
)
