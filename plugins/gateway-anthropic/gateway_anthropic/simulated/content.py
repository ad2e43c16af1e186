"""Which conversations are refused, as strictly as the provider refuses them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from gateway_anthropic.models import Traits

_TOOL_ID = re.compile(r"[a-zA-Z0-9_-]+")
_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_BLOCKS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "user": frozenset({"text", "image", "document", "tool_result"}),
        "assistant": frozenset({"text", "thinking", "redacted_thinking", "tool_use"}),
        "system": frozenset({"text"}),
    }
)

Message = Mapping[str, object]


def message_problems(params: Mapping[str, object], traits: Traits) -> Iterator[str]:
    """What is wrong with `messages` and `system`."""
    messages = params.get("messages")
    if not isinstance(messages, list) or not messages:
        yield "messages: at least one message is required"
        return
    for n, message in enumerate(messages):
        yield from _message(message, f"messages.{n}")
    if _role(messages[0]) != "user":
        yield 'messages: first message must use the "user" role'
    if _role(messages[-1]) == "assistant":
        if not traits.prefill:
            yield "This model does not support assistant message prefill. The conversation must end with a user message."
        if _trails(messages[-1]):
            yield "messages: final assistant content cannot end with trailing whitespace"
    yield from _pairs(messages)
    if any(_kinds(message) & {"tool_use", "tool_result"} for message in messages) and not params.get("tools"):
        yield "Requests which have `tool_use` or `tool_result` blocks in messages must define tools."
    yield from _system(params.get("system"))
    yield from _thoughtless(params, messages)


def _message(message: object, where: str) -> Iterator[str]:
    if not isinstance(message, dict) or message.keys() != {"role", "content"}:
        yield f"{where}: Input should be an object with role and content"
        return
    known = _BLOCKS.get(str(message["role"]))
    if known is None:
        yield f"{where}.role: Input should be 'user', 'assistant' or 'system'"
        return
    content = message["content"]
    if isinstance(content, str) and content.strip():
        return
    if not isinstance(content, list) or not content:
        yield f"{where}.content: must be non-empty"
        return
    for n, block in enumerate(content):
        kind = block.get("type") if isinstance(block, dict) else None
        if kind not in known:
            yield f"{where}.content.{n}: Input tag '{kind}' is not one of the expected tags"
        else:
            yield from _block(block, f"{where}.content.{n}")


def _block(block: Message, where: str) -> Iterator[str]:
    """One block of a kind that its role may hold."""
    check = _CHECKS.get(str(block.get("type")))
    if check is not None:
        yield from check(block, where)


def _text(block: Message, where: str) -> Iterator[str]:
    text = block.get("text")
    if not isinstance(text, str) or not text.strip():
        yield f"{where}: text content blocks must contain non-whitespace text"


def _document(block: Message, where: str) -> Iterator[str]:
    source = block.get("source")
    known = {"application/pdf": "base64", "text/plain": "text"}
    if not isinstance(source, dict) or known.get(str(source.get("media_type"))) != source.get("type"):
        yield f"{where}.document.source: Input should be a PDF in base64 or plain text"


def _use(block: Message, where: str) -> Iterator[str]:
    if not _TOOL_ID.fullmatch(str(block.get("id"))):
        yield f"{where}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
    if not isinstance(block.get("input"), dict):
        yield f"{where}.tool_use.input: Input should be a valid dictionary"


def _result(block: Message, where: str) -> Iterator[str]:
    if not _TOOL_ID.fullmatch(str(block.get("tool_use_id"))):
        yield f"{where}.tool_result.tool_use_id: String should match pattern '^[a-zA-Z0-9_-]+$'"
    inner = block.get("content")
    for n, part in enumerate(inner if isinstance(inner, list) else ()):
        yield from _block(part, f"{where}.tool_result.content.{n}")


def _image(block: Message, where: str) -> Iterator[str]:
    source = block.get("source")
    kind = source.get("type") if isinstance(source, dict) else None
    if not isinstance(source, dict) or kind not in ("base64", "url"):
        yield f"{where}.image.source: Input tag is not one of the expected tags: 'base64', 'url'"
    elif kind == "base64" and source.get("media_type") not in _IMAGES:
        yield f"{where}.image.source.base64.media_type: Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'"
    elif kind == "url" and not str(source.get("url")).startswith(("http://", "https://")):
        yield f"{where}.image.source.url: Only HTTP and HTTPS URLs are supported."


def _pairs(messages: list[object]) -> Iterator[str]:
    """Every call has its result in the next message, and every result its call in the one before."""
    called: set[str] = set()
    ids: list[str] = []
    for n, message in enumerate(messages):
        answered = _named(message, "tool_result", "tool_use_id")
        if missing := called - answered:
            yield f"messages.{n - 1}: `tool_use` ids were found without `tool_result` blocks immediately after: {min(missing)}"
        if strange := answered - called:
            yield f"messages.{n}.content.0: unexpected `tool_use_id` found in `tool_result` blocks: {min(strange)}"
        called = _named(message, "tool_use", "id")
        ids.extend(called)
        if len(set(ids)) < len(ids):
            yield f"messages.{n}.content.0: `tool_use` ids must be unique"
            return
    if called:
        yield f"messages.{len(messages) - 1}: `tool_use` ids were found without `tool_result` blocks: {min(called)}"


def _thoughtless(params: Mapping[str, object], messages: list[object]) -> Iterator[str]:
    """A model that thinks by budget wants the thoughts of the last turn that called functions."""
    config = params.get("thinking")
    if not isinstance(config, dict) or config.get("type") != "enabled":
        return
    turns = [(n, message) for n, message in enumerate(messages) if "tool_use" in _kinds(message)]
    if not turns:
        return
    n, last = turns[-1]
    first = _blocks(last)[0].get("type")
    if first not in ("thinking", "redacted_thinking"):
        yield f"messages.{n}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{first}`."


def _system(system: object) -> Iterator[str]:
    for n, block in enumerate(system if isinstance(system, list) else ()):
        if not isinstance(block, dict) or block.get("type") != "text":
            yield f"system.{n}: Input should be a text block"
        else:
            yield from _block(block, f"system.{n}")


def _named(message: object, kind: str, field: str) -> set[str]:
    return {str(block.get(field)) for block in _blocks(message) if block.get("type") == kind}


def _kinds(message: object) -> set[object]:
    return {block.get("type") for block in _blocks(message)}


def _blocks(message: object) -> list[Message]:
    content = message.get("content") if isinstance(message, dict) else None
    return [block for block in (content if isinstance(content, list) else ()) if isinstance(block, dict)]


def _role(message: object) -> object:
    return message.get("role") if isinstance(message, dict) else None


def _trails(message: object) -> bool:
    content = message.get("content") if isinstance(message, dict) else None
    text = content if isinstance(content, str) else next((b.get("text") for b in reversed(_blocks(message))), "")
    return isinstance(text, str) and text != text.rstrip()


_CHECKS: Mapping[str, Callable[[Message, str], Iterator[str]]] = MappingProxyType(
    {"text": _text, "image": _image, "document": _document, "tool_use": _use, "tool_result": _result}
)
