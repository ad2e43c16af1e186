"""The messages that go to a service, and what of them does not. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway import Call, Unsupported

#: Of an answer that is sent back: nothing in them is news to the model.
_ECHOED = frozenset({"refusal", "audio", "annotations", "parsed", "reasoning_content", "reasoning_details"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Strict:
    """The messages for a service that refuses fields of a message that it does not know."""

    messages: Sequence[object]
    #: Dotted names of the fields that said something and were left out.
    dropped: tuple[str, ...] = ()


def refuse_names(call: Call) -> None:
    """Raise `Unsupported` for a message with a `name`."""
    for place, message in enumerate(_listed(call.body.get("messages"))):
        if isinstance(message, Mapping) and message.get("name") is not None and message.get("role") != "tool":
            raise Unsupported(f"messages[{place}].name", "this provider refuses messages with a name; leave it out")


def strict_messages(messages: object) -> Strict:
    """`messages` without nulls, empty lists of calls, and what clients send back of an answer; a refusal counts as what was said.

    Raises `Unsupported` for an answer that was spoken: only OpenAI has it.
    """
    kept: list[object] = []
    dropped: list[str] = []
    for place, message in enumerate(_listed(messages)):
        if isinstance(message, Mapping):
            kept.append(_without_echoes(message, f"messages[{place}]", dropped))
        else:
            kept.append(message)
    return Strict(messages=kept, dropped=tuple(dropped))


def _without_echoes(message: Mapping[str, object], place: str, dropped: list[str]) -> dict[str, object]:
    said = {key: content for key, content in message.items() if content is not None or key == "content"}
    if said.get("tool_calls") == []:
        del said["tool_calls"]
    if said.get("role") != "assistant":
        return said
    if said.get("audio"):
        raise Unsupported(f"{place}.audio", "names a sound that only OpenAI has; send what was said as text in content")
    if said.get("refusal") and not said.get("content"):
        said["content"] = said.pop("refusal")
    dropped.extend(f"{place}.{key}" for key in said if key in _ECHOED and said[key])
    return {key: content for key, content in said.items() if key not in _ECHOED}


def _listed(messages: object) -> Sequence[object]:
    return messages if isinstance(messages, list) else ()
