"""The conversation in Anthropic's words. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from gateway import Unsupported
from gateway.chat import (
    AssistantTurn,
    ChatRequest,
    Link,
    Media,
    Part,
    SystemTurn,
    Text,
    ToolCall,
    ToolResult,
    ToolTurn,
    Turn,
    UserTurn,
)
from gateway_anthropic.layout import KEY, Block, arranged, is_thought

#: Images that the provider reads.
_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_TOOL_ID = re.compile(r"[a-zA-Z0-9_-]+")
#: Names of functions, offered or called.
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")

LateSystem = Literal["refuse", "send", "hoist"]


@dataclass(slots=True, kw_only=True)
class Conversation:
    """`system` and `messages`; turns of one role that follow each other share a message."""

    system: list[Block] = field(default_factory=list)
    messages: list[dict[str, object]] = field(default_factory=list)
    #: Whether the last turn with calls begins with a thought; None: there is no such turn.
    thoughtful: bool | None = None
    #: Ids of calls as they are sent, with how often each was asked for; and by the caller's ids, those of the last turn.
    taken: dict[str, int] = field(default_factory=dict)
    called: dict[str, str] = field(default_factory=dict)

    def call(self, ids: Sequence[str]) -> None:
        """Name the calls of a turn: the provider refuses a conversation in which two have one id, as other models give."""
        self.called = {}
        for id_ in ids:
            name = wanted = tool_id(id_)
            while name in self.taken:
                self.taken[wanted] += 1
                name = tool_id(f"{id_} {self.taken[wanted]}")
            self.taken[name] = 1
            self.called[id_] = name

    def say(self, role: str, blocks: Sequence[Block]) -> None:
        """Add what `role` says next."""
        last = self.messages[-1] if self.messages else {}
        content = last.get("content")
        if last.get("role") == role and isinstance(content, list):
            content.extend(blocks)
        elif blocks:
            self.messages.append({"role": role, "content": list(blocks)})


def write_messages(request: ChatRequest, *, late_system: LateSystem, prefill: bool) -> Conversation:
    """The whole conversation. Raises `Unsupported`, naming the message, for what has no words or no place."""
    conversation = Conversation(system=_texts(request.system))
    for turn in request.turns:
        _write(turn, conversation, late_system)
    first, last = request.turns[0], request.turns[-1]
    if not conversation.messages or conversation.messages[0]["role"] != "user":
        raise Unsupported(first.field or "messages", "the provider wants a conversation that begins with the user")
    if conversation.messages[-1]["role"] == "assistant" and not prefill:
        reason = "the model does not go on from words that are put into its mouth; end with a message of the user"
        raise Unsupported(last.field or "messages", reason)
    if conversation.messages[-1]["role"] == "assistant" and _trails(last):
        raise Unsupported(last.field or "messages", "the last message of the assistant must not end in white space")
    return conversation


def tool_id(id: str) -> str:  # noqa: A002 - OpenAI's word
    """The id of a call in letters that the provider takes; always the same."""
    if _TOOL_ID.fullmatch(id):
        return id
    return "toolu_" + hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _write(turn: Turn, conversation: Conversation, late_system: LateSystem) -> None:
    match turn:
        case UserTurn():
            blocks = [block for part in turn.parts for block in _part(part)]
            if not blocks:
                raise Unsupported(turn.field, "says nothing but white space, which the provider refuses")
            conversation.say("user", blocks)
        case AssistantTurn():
            _assistant(turn, conversation)
        case ToolTurn():
            conversation.say("user", [_result(result, conversation.called[result.id]) for result in turn.results])
        case SystemTurn():
            _system(turn, conversation, late_system)


def _assistant(turn: AssistantTurn, conversation: Conversation) -> None:
    conversation.call([call.id for call in turn.tool_calls])
    calls = [_call(call, conversation.called[call.id]) for call in turn.tool_calls]
    notes = next((_notes(call.carried) for call in turn.tool_calls if _notes(call.carried) is not None), None)
    blocks = arranged(notes, "".join(text.text for text in turn.texts), calls)
    if calls:
        conversation.thoughtful = is_thought(blocks[0])
    conversation.say("assistant", blocks)


def _system(turn: SystemTurn, conversation: Conversation, late_system: LateSystem) -> None:
    if late_system == "refuse":
        reason = "stands inside the conversation; put instructions first, or have late_system configured"
        raise Unsupported(turn.field, reason)
    if late_system == "hoist":
        conversation.system.extend(_texts(turn.texts))
    else:
        conversation.say("system", _texts(turn.texts))


def _notes(carried: Mapping[str, object] | None) -> object:
    return None if carried is None else carried.get(KEY)


def _call(call: ToolCall, id_: str) -> Block:
    if not TOOL_NAME.fullmatch(call.name):
        raise Unsupported(f"{call.field}.function.name", "has to be 1 to 128 of letters, digits, _ and -")
    return {"type": "tool_use", "id": id_, "name": call.name, "input": dict(call.arguments)}


def _result(result: ToolResult, id_: str) -> Block:
    block: Block = {"type": "tool_result", "tool_use_id": id_}
    content = _texts(result.parts)
    return block | {"content": content} if content else block


def _texts(texts: Sequence[Text]) -> list[Block]:
    return [{"type": "text", "text": text.text} for text in texts if text.text.strip()]


def _part(part: Part) -> list[Block]:
    match part:
        case Text():
            return _texts((part,))
        case Link():
            return [{"type": "image", "source": {"type": "url", "url": part.url}}]
        case Media():
            return [_media(part)]


def _media(media: Media) -> Block:
    if media.media_type in _IMAGES:
        return {"type": "image", "source": _base64(media)}
    if media.media_type == "application/pdf":
        return _document(media, _base64(media))
    if media.media_type == "text/plain":
        return _document(media, {"type": "text", "media_type": "text/plain", "data": _plain(media)})
    allowed = ", ".join(sorted(_IMAGES | {"application/pdf", "text/plain"}))
    raise Unsupported(media.field, f"the provider does not read {media.media_type[:40]}; it reads {allowed}")


def _base64(media: Media) -> Block:
    return {"type": "base64", "media_type": media.media_type, "data": media.content}


def _document(media: Media, source: Block) -> Block:
    block: Block = {"type": "document", "source": source}
    return block | {"title": media.filename} if media.filename else block


def _plain(media: Media) -> str:
    try:
        return base64.b64decode(media.content, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise Unsupported(media.field, "a text document has to be UTF-8") from None


def _trails(turn: Turn) -> bool:
    """Whether the words of an assistant's turn end in white space."""
    text = "".join(text.text for text in turn.texts) if isinstance(turn, AssistantTurn) else ""
    return text != text.rstrip()
