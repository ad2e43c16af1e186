"""From an HTTP request to a call: read, parse, check, before anything is recorded."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping

import orjson
from aiohttp import web

from gateway.endpoints.keys import CALLER
from gateway.errors import Refusal
from gateway.fingerprint import IGNORED_FIELDS, IGNORED_PREFIX, parse
from gateway.pipeline.intake import Incoming
from gateway.store.rows import Ask

NAME_AT_MOST = 256
#: Of a model: each name makes a lane of its own, which stays in lists and logs.
MODEL_AT_MOST = 256
#: Tiers that promise what a batch cannot.
_SYNCHRONOUS_TIERS = frozenset({"priority", "scale", "fast"})


async def read_body(request: web.Request, at_most_seconds: float) -> bytes:
    """The whole body. Raises `Refusal` (408) when it comes too slowly; aiohttp raises 413 when it is too large."""
    if request.content.is_eof():
        return await request.read()
    try:
        async with asyncio.timeout(at_most_seconds):
            return await request.read()
    except TimeoutError:
        raise Refusal("request_timeout", "The request body came too slowly (server.body_seconds).") from None


def incoming(request: web.Request, raw: bytes, endpoint: str) -> Incoming:
    """The call in a chat-completions request. Raises `Refusal` (400) naming the field that cannot be used."""
    body = parse(raw)
    _check(body)
    _check_unhashed(body)
    metadata = body.get("metadata")
    ask = _ask(request, body)
    # A wish to us (LiteLLM's); providers refuse the field.
    body.pop("cache", None)
    return Incoming(
        client=request[CALLER].client,
        endpoint=endpoint,
        model=str(body["model"]),
        body=body,
        ask=ask,
        custom_id=_custom_id(request, metadata),
        metadata=orjson.dumps(metadata) if metadata else None,
    )


def _check(body: Mapping[str, object]) -> None:
    """Refuse now what every provider would refuse later, at a price."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise _bad("model", "must be a string that names a model")
    if len(model) > MODEL_AT_MOST or not model.isprintable():
        raise _bad("model", f"must have {MODEL_AT_MOST} characters at most, and no control characters")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _bad("messages", "must be a list of at least one message")
    if not all(isinstance(message, dict) and isinstance(message.get("role"), str) for message in messages):
        raise _bad("messages", "must hold objects with a role")
    if not isinstance(body.get("stream", False), bool) and body["stream"] is not None:
        raise _bad("stream", "must be true or false")
    if not isinstance(body.get("metadata", {}), dict) and body["metadata"] is not None:
        raise _bad("metadata", "must be an object")
    if not isinstance(body.get("cache", {}), dict) and body["cache"] is not None:
        raise _bad("cache", "must be an object")
    tier = body.get("service_tier")
    if tier is not None and not isinstance(tier, str):
        raise _bad("service_tier", "must be a string")
    if tier in _SYNCHRONOUS_TIERS:
        raise _bad("service_tier", f"{tier!r} cannot be had in a batch; leave it out, or say 'flex'")


def _check_unhashed(body: Mapping[str, object]) -> None:
    """What `canonical_body` leaves out must be writable too: it is kept, or sent on."""
    for name, value in body.items():
        if name in IGNORED_FIELDS or name.startswith(IGNORED_PREFIX):
            try:
                orjson.dumps(value)
            except TypeError as error:
                raise _bad(name, f"cannot be sent on: {error}") from None


def _ask(request: web.Request, body: Mapping[str, object]) -> Ask:
    headers = request.headers
    mode = headers.get("x-batchway-mode", "batch")
    if mode != "batch":
        raise Refusal("unsupported_field", f"x-batchway-mode {mode!r} is not offered; only 'batch' is.")
    if "x-batchway-max-wait" in headers:
        raise Refusal("unsupported_field", "x-batchway-max-wait is not offered: every request goes into a batch.")
    control = _directives(request, "Cache-Control")
    wishes = body.get("cache")
    wishes = wishes if isinstance(wishes, dict) else {}
    return Ask(
        retry=retry_count(request) >= 1,
        detached="respond-async" in prefer(request),
        no_cache="no-cache" in control or wishes.get("no-cache") is True,
        no_store="no-store" in control or wishes.get("no-store") is True,
        only_if_cached="only-if-cached" in control,
        max_age=_seconds(control.get("max-age")),
        run=_run(request),
    )


def _custom_id(request: web.Request, metadata: object) -> str | None:
    """The caller's name for the request; all the places that give one must agree."""
    given: list[tuple[str, object]] = [
        (header, name)
        for header in ("x-batchway-custom-id", "Idempotency-Key")
        for name in request.headers.getall(header, [])
    ]
    if isinstance(metadata, dict) and metadata.get("custom_id") is not None:
        given.append(("metadata.custom_id", metadata["custom_id"]))
    for place, name in given:
        _check_name(place, name)
    if len({name for _, name in given}) > 1:
        raise _bad(" and ".join(dict.fromkeys(place for place, _ in given)), "give different names to one request")
    return str(given[0][1]) if given else None


def _check_name(place: str, name: object) -> None:
    if not isinstance(name, str):
        raise _bad(place, "must be a string")
    if not 1 <= len(name) <= NAME_AT_MOST or not name.isprintable():
        raise _bad(place, f"must be 1 to {NAME_AT_MOST} characters, without control characters")
    if name in (".", ".."):
        raise _bad(place, "must not be '.' or '..': clients take those out of the address where the result is read")
    if name.startswith("bw_"):
        raise _bad(place, "must not begin with 'bw_': those names are the gateway's own")


def _run(request: web.Request) -> str | None:
    """The run, from the header or the path; all that give one must agree."""
    path = request.match_info.get("run")
    given = [*request.headers.getall("x-batchway-run", []), *(() if path is None else (path,))]
    for run in given:
        _check_name("x-batchway-run", run)
    if len(set(given)) > 1:
        raise _bad("x-batchway-run", "and the path name different runs")
    return given[0] if given else None


def prefer(request: web.Request) -> dict[str, str]:
    """What the Prefer header says (RFC 7240)."""
    return _directives(request, "Prefer")


def _directives(request: web.Request, header: str) -> dict[str, str]:
    """A header that may come in several lines, which mean the same as one."""
    return cache_control(",".join(request.headers.getall(header))) if header in request.headers else {}


def cache_control(header: str) -> dict[str, str]:
    """Directives of a Cache-Control or Prefer header, lower case; a directive without a value has an empty one."""
    directives = {}
    for part in header.replace(";", ",").split(","):
        name, _, value = part.strip().partition("=")
        if name:
            directives[name.strip().lower()] = value.strip().strip('"')
    return directives


def retry_count(request: web.Request) -> int:
    """How often the client says that it has tried before."""
    value = request.headers.get("x-stainless-retry-count", "0")
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 6 else 0


def _seconds(text: str | None) -> float | None:
    try:
        value = float(text) if text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _bad(field: str, what: str) -> Refusal:
    return Refusal("invalid_request", f"{field} {what}.", param=field)
