"""A caller's messages in the words of Together's schema. Pure.

The schema knows four roles, plain text for all but the user, and five kinds of parts in what the user says.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gateway import Unsupported

#: The caller's roles -> the schema's.
_ROLES: Mapping[str, str] = MappingProxyType(
    {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
)
_USER_PARTS = frozenset({"text", "image_url", "video_url", "audio_url", "input_audio"})
#: Fields of an assistant's message that a client may send back as it got them, and that mean nothing here.
_ANSWER_FIELDS = frozenset({"refusal", "annotations"})
_UNSPEAKABLE = ("audio", "function_call")


def sent_messages(messages: object) -> list[dict[str, object]]:
    """The messages as they are sent. Raises `Unsupported` with the dotted name of what the schema has no place for."""
    if not isinstance(messages, list):
        raise Unsupported("messages", "messages must be an array")
    return [_sent(message, f"messages[{n}]") for n, message in enumerate(messages)]


def _sent(message: object, where: str) -> dict[str, object]:
    if not isinstance(message, dict):
        raise Unsupported(where, f"{where} must be an object")
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise Unsupported(f"{where}.role", f"Together knows no messages of the role {str(role)[:40]!r}")
    sent = {key: field for key, field in message.items() if field is not None or key == "content"}
    sent["role"] = _ROLES[role]
    if role == "assistant":
        return _assistant(sent, where)
    if role == "user":
        sent["content"] = _user_content(sent.get("content"), f"{where}.content")
    else:
        sent["content"] = _text(sent.get("content"), f"{where}.content") or ""
    return sent


def _assistant(message: dict[str, object], where: str) -> dict[str, object]:
    """An earlier answer of the model; a refusal counts as what it said."""
    for field in _UNSPEAKABLE:
        if field in message:
            raise Unsupported(f"{where}.{field}", f"Together's messages have no {field}")
    refusal = message.get("refusal")
    sent = {key: field for key, field in message.items() if key not in _ANSWER_FIELDS}
    content = _text(sent.get("content"), f"{where}.content")
    sent["content"] = refusal if not content and isinstance(refusal, str) else content
    calls = sent.pop("tool_calls", None)
    if calls:
        sent["tool_calls"] = _tool_calls(calls, f"{where}.tool_calls")
    return sent


def _tool_calls(calls: object, where: str) -> list[dict[str, object]]:
    """Calls with the place among their like that the schema asks for."""
    if not isinstance(calls, list):
        raise Unsupported(where, f"{where} must be an array")
    sent = []
    for n, call in enumerate(calls):
        if not isinstance(call, dict) or call.get("type", "function") != "function":
            raise Unsupported(f"{where}[{n}].type", "Together knows no tools but functions")
        sent.append({"type": "function", "index": n, **call})
    return sent


def _text(content: object, where: str) -> str | None:
    """Content that the schema wants as one string; text parts are joined as they are."""
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise Unsupported(where, f"{where} must be text or an array of parts")
    texts = []
    for n, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        text = part.get(kind) if isinstance(part, dict) and kind in ("text", "refusal") else None
        if not isinstance(text, str):
            raise Unsupported(f"{where}[{n}].type", "Together takes nothing but text here")
        texts.append(text)
    return "".join(texts)


def _user_content(content: object, where: str) -> str | list[object]:
    """Text, or parts of kinds that the schema has."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise Unsupported(where, f"{where} must be text or an array of parts")
    for n, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(kind, str) or kind not in _USER_PARTS:
            raise Unsupported(f"{where}[{n}].type", f"Together takes no part of the type {str(kind)[:40]!r}")
        sound = part.get("input_audio") if kind == "input_audio" else None
        if isinstance(sound, dict) and sound.get("format") != "wav":
            raise Unsupported(f"{where}[{n}].input_audio.format", "Together takes sound as wav only")
    return content
