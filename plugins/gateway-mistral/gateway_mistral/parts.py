"""Parts of a message's content, in Mistral's words. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from gateway import Unsupported

#: Marks for the provider's cache, which it sets itself.
_CACHE_MARKS = frozenset({"cache_control", "prompt_cache_breakpoint"})
_DETAILS = frozenset({"low", "auto", "high"})
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def as_object(content: object, field: str) -> Mapping[str, object]:
    """`content` if it is a JSON object. Raises `Unsupported`."""
    if not isinstance(content, dict):
        raise Unsupported(field, f"{field} must be an object")
    return content


def as_text(content: object, field: str) -> str:
    """`content` if it is a string. Raises `Unsupported`."""
    if not isinstance(content, str):
        raise Unsupported(field, f"{field} must be a string")
    return content


def only(content: Mapping[str, object], known: frozenset[str], field: str) -> None:
    """Raises `Unsupported` for a key that is set and not known: the provider forbids extra ones."""
    for key, inner in content.items():
        if key not in known and inner is not None:
            raise Unsupported(f"{field}.{key}", f"this provider does not know {field}.{key}")


def chunks(content: list[object], field: str, *, role: str, dropped: list[str]) -> list[dict[str, object]]:
    """The parts of a message of `role`; what is left out is named in `dropped`. Raises `Unsupported`."""
    if not content:
        raise Unsupported(field, f"{field} must not be empty")
    return [_chunk(part, f"{field}[{n}]", role, dropped) for n, part in enumerate(content)]


def _chunk(content: object, field: str, role: str, dropped: list[str]) -> dict[str, object]:
    part = dict(as_object(content, field))
    dropped.extend(f"{field}.{mark}" for mark in sorted(_CACHE_MARKS & part.keys()) if part.pop(mark) is not None)
    kind = part.get("type")
    write = _WRITERS.get((role, kind)) if isinstance(kind, str) else None
    if write is None:
        raise Unsupported(f"{field}.type", f"this provider takes no such part in a message of role {role}")
    return write(part, field, dropped)


def _text(part: Mapping[str, object], field: str, _dropped: list[str]) -> dict[str, object]:
    only(part, frozenset({"type", "text"}), field)
    return {"type": "text", "text": as_text(part.get("text"), f"{field}.text")}


def _refusal(part: Mapping[str, object], field: str, _dropped: list[str]) -> dict[str, object]:
    """What a model did not want to say is text to Mistral."""
    only(part, frozenset({"type", "refusal"}), field)
    return {"type": "text", "text": as_text(part.get("refusal"), f"{field}.refusal")}


def _image(part: Mapping[str, object], field: str, dropped: list[str]) -> dict[str, object]:
    """An image by address or as a data URL; Mistral takes both, bare or in an object."""
    only(part, frozenset({"type", "image_url"}), field)
    field = f"{field}.image_url"
    image = part.get("image_url")
    if isinstance(image, str):
        return {"type": "image_url", "image_url": image}
    image = as_object(image, field)
    only(image, frozenset({"url", "detail"}), field)
    shown: dict[str, object] = {"url": as_text(image.get("url"), f"{field}.url")}
    detail = image.get("detail")
    if isinstance(detail, str) and detail in _DETAILS:
        shown["detail"] = detail
    elif detail is not None:
        dropped.append(f"{field}.detail")
    return {"type": "image_url", "image_url": shown}


def _sound(part: Mapping[str, object], field: str, dropped: list[str]) -> dict[str, object]:
    """Base64 alone, or Mistral's bare string; the format is for the provider to see."""
    only(part, frozenset({"type", "input_audio"}), field)
    field = f"{field}.input_audio"
    sound = part.get("input_audio")
    if isinstance(sound, str):
        return {"type": "input_audio", "input_audio": sound}
    sound = as_object(sound, field)
    only(sound, frozenset({"data", "format"}), field)
    if sound.get("format") is not None:
        dropped.append(f"{field}.format")
    return {"type": "input_audio", "input_audio": as_text(sound.get("data"), f"{field}.data")}


def _file(part: Mapping[str, object], field: str, _dropped: list[str]) -> dict[str, object]:
    """A document inside the request, or one of Mistral's own files by its UUID."""
    only(part, frozenset({"type", "file", "file_id"}), field)
    if isinstance(part.get("file_id"), str):
        return {"type": "file", "file_id": _uuid(part["file_id"], f"{field}.file_id")}
    field = f"{field}.file"
    file = as_object(part.get("file"), field)
    only(file, frozenset({"file_data", "filename", "file_id"}), field)
    if file.get("file_data") is None:
        return {"type": "file", "file_id": _uuid(file.get("file_id"), f"{field}.file_id")}
    content = as_text(file["file_data"], f"{field}.file_data")
    if not content.startswith("data:"):
        raise Unsupported(f"{field}.file_data", f"{field}.file_data must be a data URL")
    name = file.get("filename")
    document = {"type": "document_url", "document_url": content}
    return {**document, "document_name": name} if isinstance(name, str) else {**document}


def _uuid(content: object, field: str) -> str:
    if not isinstance(content, str) or not _UUID.fullmatch(content):
        raise Unsupported(field, f"{field} must be the UUID of a file that this provider has")
    return content


def _document(part: Mapping[str, object], field: str, _dropped: list[str]) -> dict[str, object]:
    """Mistral's own part."""
    only(part, frozenset({"type", "document_url", "document_name"}), field)
    shown: dict[str, object] = {
        "type": "document_url",
        "document_url": as_text(part.get("document_url"), f"{field}.document_url"),
    }
    if part.get("document_name") is not None:
        shown["document_name"] = as_text(part["document_name"], f"{field}.document_name")
    return shown


def _thinking(part: Mapping[str, object], field: str, _dropped: list[str]) -> dict[str, object]:
    """Mistral's own part: what a model thought in an earlier turn."""
    only(part, frozenset({"type", "thinking", "signature", "closed"}), field)
    thoughts = part.get("thinking")
    if not isinstance(thoughts, list):
        raise Unsupported(f"{field}.thinking", f"{field}.thinking must be a list of text parts")
    texts = chunks(thoughts, f"{field}.thinking", role="system", dropped=[]) if thoughts else []
    shown: dict[str, object] = {"type": "thinking", "thinking": texts}
    if part.get("signature") is not None:
        shown["signature"] = as_text(part["signature"], f"{field}.signature")
    if isinstance(part.get("closed"), bool):
        shown["closed"] = part["closed"]
    return shown


_Writer = Callable[[Mapping[str, object], str, list[str]], dict[str, object]]

#: Which parts a message of each role may hold, and what becomes of them.
_WRITERS: Mapping[tuple[str, str], _Writer] = MappingProxyType(
    {
        **{(role, "text"): _text for role in ("system", "user", "assistant", "tool")},
        **{(role, "image_url"): _image for role in ("user", "tool")},
        **{(role, "input_audio"): _sound for role in ("user", "tool")},
        **{(role, "file"): _file for role in ("user", "tool")},
        **{(role, "document_url"): _document for role in ("user", "tool")},
        ("assistant", "refusal"): _refusal,
        ("assistant", "thinking"): _thinking,
    }
)
