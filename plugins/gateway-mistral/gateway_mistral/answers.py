"""From Mistral's chat completion to OpenAI's. Pure and liberal: anything may be missing, null or odd."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from gateway.rows import write_json

_FINISHES: Mapping[str, str] = MappingProxyType(
    {"stop": "stop", "length": "length", "model_length": "length", "tool_calls": "tool_calls"}
)
#: The reason of a choice that went wrong: there is no answer in it.
BROKEN = "error"
_TEXT = "text"


def completion(answer: Mapping[str, object]) -> dict[str, object] | None:
    """OpenAI's `chat.completion`; None when `answer` holds no answer, or a choice that went wrong."""
    listed = answer.get("choices")
    choices = [choice for choice in listed if isinstance(choice, dict)] if isinstance(listed, list) else []
    if not choices or any(choice.get("finish_reason") == BROKEN for choice in choices):
        return None
    shown = {key: answer[key] for key in ("id", "created", "model") if answer.get(key)}
    shown |= {"object": "chat.completion", "choices": [_choice(choice, n) for n, choice in enumerate(choices)]}
    usage = answer.get("usage")
    if isinstance(usage, dict):
        shown["usage"] = _usage(usage)
    return shown


def _choice(choice: Mapping[str, object], place: int) -> dict[str, object]:
    message = _said(choice)
    calls = message.get("tool_calls")
    called = (
        [_call(call, n) for n, call in enumerate(calls) if isinstance(call, dict)] if isinstance(calls, list) else []
    )
    text, thoughts = _texts(message.get("content"))
    shown: dict[str, object] = {"role": "assistant", "content": text if text or not called else None, "refusal": None}
    if thoughts:
        shown["reasoning_content"] = thoughts
    if called:
        shown["tool_calls"] = called
    finish = choice.get("finish_reason")
    index = choice.get("index")
    return {
        "index": index if isinstance(index, int) else place,
        "message": shown,
        "logprobs": choice.get("logprobs") or None,
        "finish_reason": _FINISHES.get(finish if isinstance(finish, str) else "", "tool_calls" if called else "stop"),
    }


def _said(choice: Mapping[str, object]) -> Mapping[str, object]:
    """The choice's message, or the last of its messages."""
    message = choice.get("message")
    if isinstance(message, dict):
        return message
    several = choice.get("messages")
    messages = [each for each in several if isinstance(each, dict)] if isinstance(several, list) else []
    return messages[-1] if messages else {}


def _texts(content: object) -> tuple[str, str]:
    """What is said, and what is thought, in a message's content: text, or a list of chunks."""
    if isinstance(content, str):
        return content, ""
    said: list[str] = []
    thought: list[str] = []
    for chunk in content if isinstance(content, list) else ():
        if isinstance(chunk, str):
            said.append(chunk)
        elif isinstance(chunk, dict) and chunk.get("type") == "thinking":
            thought.append(_thoughts(chunk.get("thinking")))
        elif isinstance(chunk, dict) and isinstance(text := chunk.get(_TEXT), str):
            said.append(text)
    return "".join(said), "".join(thought)


def _thoughts(content: object) -> str:
    if isinstance(content, str):
        return content
    chunks: Sequence[object] = content if isinstance(content, list) else ()
    texts = [chunk.get(_TEXT) if isinstance(chunk, dict) else chunk for chunk in chunks]
    return "".join(text for text in texts if isinstance(text, str))


def _call(call: Mapping[str, object], place: int) -> dict[str, object]:
    """A tool call with its arguments as text; one without an id gets one, which depends on the call alone."""
    inner = call.get("function")
    function: Mapping[str, object] = inner if isinstance(inner, dict) else {}
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        arguments = write_json(arguments if arguments is not None else {}).decode()
    name = call.get("id")
    if not isinstance(name, str) or name in ("", "null"):
        name = hashlib.blake2b(f"{place} {function.get('name')} {arguments}".encode(), digest_size=8).hexdigest()[:9]
    return {
        "id": name,
        "type": "function",
        "function": {"name": str(function.get("name") or ""), "arguments": arguments},
    }


def _usage(usage: Mapping[str, object]) -> dict[str, object]:
    asked, answered = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    prompt, generated = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    cached = _count(prompt.get("cached_tokens")) if isinstance(prompt, dict) else 0
    thought = _count(generated.get("reasoning_tokens")) if isinstance(generated, dict) else 0
    return {
        "prompt_tokens": asked,
        "completion_tokens": answered,
        "total_tokens": _count(usage.get("total_tokens")) or asked + answered,
        "prompt_tokens_details": {"cached_tokens": cached or _count(usage.get("num_cached_tokens"))},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }


def _count(content: object) -> int:
    """A number of tokens, also one that was sent as text: what does not count costs nothing."""
    if isinstance(content, str) and content.isascii() and content.isdecimal() and len(content) < 16:
        return int(content)
    return content if isinstance(content, int) and not isinstance(content, bool) and content >= 0 else 0
