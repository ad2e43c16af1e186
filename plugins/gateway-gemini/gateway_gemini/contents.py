"""The conversation, turn by turn. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import orjson

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
from gateway_gemini.dialect import Dialect, Family
from gateway_gemini.signatures import provider_id, signature_of_call, signature_of_text
from gateway_gemini.tooling import check_name

#: By the end of a file's address, where a type has to be named.
_TYPES_BY_SUFFIX = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "heic": "image/heic",
    "heif": "image/heif",
    "pdf": "application/pdf",
}

#: Beyond 64 bits numbers are rounded when they are read; what holds one stays the text that it is.
_LONG_NUMBER = re.compile(r"[0-9]{19}")


def system_of(request: ChatRequest, dialect: Dialect) -> list[Text]:
    """Leading instructions; later ones behind them if the dialect moves them. Raises `Unsupported` if it does not."""
    system = list(request.system)
    for turn in request.turns:
        if isinstance(turn, SystemTurn):
            if not dialect.hoist_system:
                raise Unsupported(turn.field or "messages", "Gemini takes system messages only before the conversation")
            system += turn.texts
    return system


def contents_of(request: ChatRequest, dialect: Dialect, family: Family) -> list[dict[str, object]]:
    """`contents`: turns of one role that follow each other are one, but results of functions stay by themselves."""
    turns = [turn for turn in request.turns if not isinstance(turn, SystemTurn)]
    if not turns:
        raise Unsupported("messages", "Gemini needs at least one message that is no system message")
    if isinstance(turns[-1], AssistantTurn):
        raise Unsupported(
            turns[-1].field or "messages", "on Gemini the last message is the user's or a function's result"
        )
    contents: list[tuple[type[Turn], list[dict[str, object]]]] = []
    places: dict[str, int] = {}
    for turn in turns:
        if isinstance(turn, AssistantTurn):
            places = {call.id: place for place, call in enumerate(turn.tool_calls)}
        parts = list(_parts(turn, dialect, family, places))
        if contents and contents[-1][0] is type(turn) and not isinstance(turn, ToolTurn):
            contents[-1][1].extend(parts)
        else:
            contents.append((type(turn), parts))
    return [{"role": "model" if kind is AssistantTurn else "user", "parts": parts} for kind, parts in contents]


def _parts(turn: Turn, dialect: Dialect, family: Family, places: Mapping[str, int]) -> Iterator[dict[str, object]]:
    """One turn's parts; results stand as their calls did: without ids, nothing else tells those of one function apart."""
    match turn:
        case UserTurn():
            yield from (_part(part, dialect) for part in turn.parts)
        case AssistantTurn():
            yield from _model_parts(turn, family)
        case ToolTurn():
            yield from (_response(result) for result in sorted(turn.results, key=lambda result: places[result.id]))
        case SystemTurn():
            return


def _part(part: Part, dialect: Dialect) -> dict[str, object]:
    match part:
        case Text():
            return {"text": part.text}
        case Media():
            if part.media_type not in dialect.media_types:
                raise Unsupported(part.field or "messages", f"Gemini does not take {part.media_type[:60]}")
            return {"inlineData": {"mimeType": part.media_type, "data": part.content}}
        case Link():
            return {"fileData": _file(part, dialect)}


def _file(link: Link, dialect: Dialect) -> dict[str, object]:
    if not link.url.startswith(dialect.file_prefixes):
        message = "Gemini does not fetch addresses; send the image itself as a data: URL"
        raise Unsupported(link.field or "messages", message)
    media_type = _TYPES_BY_SUFFIX.get(link.url.rpartition(".")[2].lower())
    file: dict[str, object] = {"fileUri": link.url}
    return file | {"mimeType": media_type} if media_type else file


def _model_parts(turn: AssistantTurn, family: Family) -> Iterator[dict[str, object]]:
    """Texts, then calls, each with the signature it came with; the first call has to have one."""
    signed_text = next((found for call in turn.tool_calls if (found := signature_of_text(call.carried))), None)
    for place, text in enumerate(turn.texts):
        sign = signed_text is not None and place == len(turn.texts) - 1
        yield {"text": text.text, "thoughtSignature": signed_text} if sign else {"text": text.text}
    for place, call in enumerate(turn.tool_calls):
        part: dict[str, object] = {"functionCall": _call(call)}
        unsigned = place == 0 and not (signed_text and turn.texts)
        signature = signature_of_call(call.carried) or (family.placeholder if unsigned else "")
        yield part | ({"thoughtSignature": signature} if signature else {})


def _call(call: ToolCall) -> dict[str, object]:
    known = provider_id(call.id)
    name = check_name(call.name, f"{call.field or 'messages'}.function.name")
    return ({"id": known} if known else {}) | {"name": name, "args": dict(call.arguments)}


def _response(result: ToolResult) -> dict[str, object]:
    """A result that is a JSON object goes as it is; every other is its `output`, as the API expects."""
    known = provider_id(result.id)
    text = "\n".join(part.text for part in result.parts)
    response = ({"id": known} if known else {}) | {"name": result.name, "response": _object(text) or {"output": text}}
    return {"functionResponse": response}


def _object(text: str) -> Mapping[str, object] | None:
    if not text.lstrip().startswith("{") or _LONG_NUMBER.search(text):
        return None
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return parsed if isinstance(parsed, dict) else None
