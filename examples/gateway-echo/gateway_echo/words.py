"""Between OpenAI's words and Echo's. Pure.

A line: {"ref": ID, "model": M, "talk": [{"who": "system" | "user" | "model", "says": TEXT}], "most": N}. A row of its
results: {"ref": ID, "reply": TEXT, "read": N, "written": N}, or {"ref": ID, "failed": STATUS, "why": TEXT}.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import orjson

from gateway import Call, ErrorBody, Result, Unsupported
from gateway.chat import (
    AssistantTurn,
    ChatRequest,
    ChatUsage,
    Choice,
    Finish,
    SystemTurn,
    Text,
    UserTurn,
    completion,
    read_chat,
)

#: Fields that are said in Echo's words, or are the gateway's own business.
_SAID = frozenset({"model", "messages", "max_tokens", "max_completion_tokens"})
_GATEWAYS_OWN = frozenset({"stream", "stream_options", "metadata", "store", "service_tier"})


def encode_call(call: Call) -> bytes:
    """One line without its name. Raises `Unsupported`."""
    request = _read(call)
    line: dict[str, object] = {"model": request.model, "talk": list(_talk(request))}
    if request.max_tokens is not None:
        line["most"] = request.max_tokens
    return orjson.dumps(line)


def dropped_fields(call: Call) -> Sequence[str]:
    """Hints that Echo has no word for."""
    return _read(call).hints


def decode_row(row: bytes) -> Result:
    """What one row says; never raises."""
    try:
        content = orjson.loads(row)
    except orjson.JSONDecodeError:
        content = None
    fields: Mapping[str, object] = content if isinstance(content, dict) else {}
    name, reply, failed = fields.get("ref"), fields.get("reply"), fields.get("failed")
    line_id = name if isinstance(name, str) and name else None
    if isinstance(reply, str):
        usage = ChatUsage(prompt=_count(fields.get("read")), completion=_count(fields.get("written")))
        body = completion([Choice(finish=Finish.STOP, content=reply)], usage, model="echo")
        return Result(line_id=line_id, status=200, body=body)
    status = failed if type(failed) is int and 400 <= failed <= 599 else 0
    error = ErrorBody(message=str(fields.get("why") or "no reply")[:500], type="upstream_error")
    return Result(line_id=line_id, status=status, error=error, retriable=status in (0, 408, 429) or status >= 500)


def _read(call: Call) -> ChatRequest:
    for field, value in call.body.items():
        if value is not None and field not in _SAID | _GATEWAYS_OWN:
            raise Unsupported(field, f"Echo has no {field}")
    return read_chat(call.body)


def _talk(request: ChatRequest) -> Iterator[dict[str, str]]:
    """The conversation, one entry for each piece of text."""
    for text in request.system:
        yield {"who": "system", "says": text.text}
    for turn in request.turns:
        if isinstance(turn, UserTurn):
            who, parts = "user", turn.parts
        elif isinstance(turn, SystemTurn):
            who, parts = "system", turn.texts
        elif isinstance(turn, AssistantTurn) and not turn.tool_calls:
            who, parts = "model", turn.texts
        else:
            raise Unsupported(turn.field or "messages", "Echo calls no functions")
        for part in parts:
            if not isinstance(part, Text):
                raise Unsupported(part.field or "messages", "Echo reads only text")
            yield {"who": who, "says": part.text}


def _count(number: object) -> int:
    return number if type(number) is int and number >= 0 else 0
