"""From one row of a result file to a `Result`. Pure, and never raises on anything a job can write.

A row repeats its request, and has a `response`, or a `status` that says what went wrong. What that text looks like is not
documented: an error object as JSON, the name of a canonical code, or plain words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import orjson

from gateway import Result
from gateway.reading import items, mapping, text
from gateway.rows import json_row, parsed_object, unreadable
from gateway_gemini.answer import chat_answer, failed

#: Canonical codes as they are written out in texts.
_CODES = re.compile(
    r"\b(CANCELLED|UNKNOWN|INVALID_ARGUMENT|DEADLINE_EXCEEDED|NOT_FOUND|ALREADY_EXISTS|PERMISSION_DENIED|RESOURCE_EXHAUSTED"
    r"|FAILED_PRECONDITION|ABORTED|OUT_OF_RANGE|UNIMPLEMENTED|INTERNAL|UNAVAILABLE|DATA_LOSS|UNAUTHENTICATED)\b"
)
#: `code = InvalidArgument`, as servers written in Go say it; the same with a number.
_SPELT_CODE = re.compile(r"\bcode\s*[=:]\s*([A-Za-z]+|\d{1,3})\b")
#: A status of HTTP near the beginning.
_HTTP_STATUS = re.compile(r"\D{0,24}\b([45]\d\d)\b")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


def decode_row(row: bytes, label_key: str) -> Result:
    """What `row` says; one that cannot be understood is retriable, and without a line id if it names none."""
    content = json_row(row)
    if isinstance(content, Result):
        return content
    request = parsed_object(content.get("request")) or parsed_object(content.get("instance")) or {}
    line_id = _line_id(content, request, label_key)
    response = parsed_object(content.get("response")) or parsed_object(content.get("prediction")) or {}
    trouble = content.get("error") or content.get("status")
    if response.get("candidates") or response.get("promptFeedback") or (response and not trouble):
        return chat_answer(response, line_id=line_id)
    if trouble:
        return failed(error_in(trouble), line_id=line_id)
    return unreadable(line_id, "a result row has neither response nor status")


def error_in(trouble: object) -> object:
    """What `trouble` tells as a `google.rpc.Status` or an HTTP error's object; plain text where it is neither."""
    if isinstance(trouble, list) and trouble:
        trouble = trouble[0]
    if isinstance(trouble, dict):
        return _innermost(trouble)
    if not isinstance(trouble, str):
        return None
    inside = _json_in(trouble)
    if inside is not None:
        return inside
    if named := _CODES.search(trouble):
        return {"status": named.group(1), "message": trouble}
    if spelt := _SPELT_CODE.search(trouble):
        code = spelt.group(1)
        told = {"code": int(code)} if code.isdecimal() else {"status": _HUMP.sub("_", code).upper()}
        return {**told, "message": trouble}
    if status := _HTTP_STATUS.match(trouble):
        return {"code": int(status.group(1)), "message": trouble}
    return trouble


def _line_id(row: Mapping[str, object], request: Mapping[str, object], label_key: str) -> str | None:
    """Where a line's name has been seen: in the labels that went in, then beside the request."""
    for labels in (request.get("labels"), row.get("labels")):
        name = text(mapping(labels).get(label_key)) if label_key else None
        if name is not None:
            return name
    for field in ("key", "custom_id", label_key):
        name = text(row.get(field)) or text(request.get(field))
        if name is not None:
            return name
    return None


def _json_in(message: str) -> object:
    """The error object that stands in a text, alone or behind some words; None when there is none."""
    start, end = message.find("{"), message.rfind("}")
    if not 0 <= start < end:
        return None
    try:
        content = orjson.loads(message[start : end + 1])
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return None
    inner = _innermost(mapping(content))
    return inner if inner.keys() & {"code", "status", "message"} else None


def _innermost(content: Mapping[str, object]) -> Mapping[str, object]:
    """The object under `error`, if that is one; a `status` that is an object is one too."""
    for field in ("error", "status"):
        inner = content.get(field)
        if isinstance(inner, list):
            inner = next(iter(items(inner)), None)
        if isinstance(inner, dict):
            return inner
    return content
