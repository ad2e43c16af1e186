"""What a create call asks for, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import orjson

from gateway_mistral.settings import MOST_INLINE
from gateway_mistral.simulated.schema import detail, extra

_FIELDS = frozenset({"endpoint", "input_files", "requests", "model", "agent_id", "metadata", "timeout_hours"})
_MAX_HOURS = 168
_MAX_KEY, _MAX_TEXT = 32, 512
#: Endpoints of the real API; the simulator runs the first.
ENDPOINTS = (
    "/v1/chat/completions",
    *("/v1/embeddings", "/v1/fim/completions", "/v1/moderations", "/v1/chat/moderations", "/v1/ocr"),
    *("/v1/classifications", "/v1/chat/classifications", "/v1/conversations", "/v1/audio/transcriptions"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A create call's body, checked."""

    endpoint: str
    files: Sequence[str]
    #: Lines of the requests that came with the call; each has a name.
    lines: Sequence[bytes]
    #: None: what the first line says.
    model: str | None
    metadata: dict[str, str] | None
    timeout_hours: int


def read_asked(content: bytes) -> Asked | list[dict[str, object]]:
    """The create call in `content`, or the entries of its failed validation."""
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        return [detail("json_invalid", [], "JSON decode error")]
    if not isinstance(body, dict):
        return [detail("model_attributes_type", [], "Input should be an object")]
    problems = list(_problems(body))
    if problems:
        return problems
    requests = body.get("requests") or []
    return Asked(
        endpoint=body["endpoint"],
        files=body.get("input_files") or [],
        lines=[orjson.dumps({"custom_id": str(n)} | _named(request)) for n, request in enumerate(requests)],
        model=body.get("model"),
        metadata=body.get("metadata"),
        timeout_hours=body.get("timeout_hours", 24),
    )


def _named(request: Mapping[str, object]) -> dict[str, object]:
    """The request, without a name that is null."""
    return {key: content for key, content in request.items() if key != "custom_id" or content is not None}


def _problems(body: Mapping[str, object]) -> Iterator[dict[str, object]]:
    yield from extra(body, _FIELDS, [])
    if body.get("endpoint") not in ENDPOINTS:
        yield detail("enum", ["endpoint"], f"Input should be one of {list(ENDPOINTS)}", body.get("endpoint"))
    files, requests = body.get("input_files"), body.get("requests")
    if bool(files) == bool(requests):
        yield detail("value_error", [], "One of input_files and requests is required")
    if files is not None and not (isinstance(files, list) and all(isinstance(file, str) for file in files)):
        yield detail("list_type", ["input_files"], "Input should be a list of UUIDs", files)
    yield from _requests(requests)
    hours = body.get("timeout_hours", 24)
    if not isinstance(hours, int) or isinstance(hours, bool) or not 1 <= hours <= _MAX_HOURS:
        yield detail("less_than_equal", ["timeout_hours"], "Input should be from 1 to 168", hours)
    for field in ("model", "agent_id"):
        if not isinstance(body.get(field), str | None):
            yield detail("string_type", [field], "Input should be a valid string", body[field])
    yield from _metadata(body.get("metadata"))


def _requests(requests: object) -> Iterator[dict[str, object]]:
    if requests is None:
        return
    if not isinstance(requests, list):
        yield detail("list_type", ["requests"], "Input should be a valid list", requests)
        return
    if len(requests) > MOST_INLINE:
        yield detail("too_long", ["requests"], f"List should have at most {MOST_INLINE} items", len(requests))
    for n, request in enumerate(requests):
        if not isinstance(request, dict) or not isinstance(request.get("body"), dict):
            yield detail("missing", ["requests", n, "body"], "Field required")
            continue
        yield from extra(request, frozenset({"custom_id", "body"}), ["requests", n])
        if not isinstance(request.get("custom_id"), str | None):
            yield detail("string_type", ["requests", n, "custom_id"], "Input should be a valid string")


def _metadata(metadata: object) -> Iterator[dict[str, object]]:
    if metadata is None:
        return
    if not isinstance(metadata, dict):
        yield detail("dict_type", ["metadata"], "Input should be a valid dictionary", metadata)
        return
    for key, text in metadata.items():
        if not 1 <= len(key) <= _MAX_KEY or not isinstance(text, str) or not 1 <= len(text) <= _MAX_TEXT:
            yield detail("string_too_long", ["metadata", key], "Keys have 1 to 32 characters, values 1 to 512", text)
