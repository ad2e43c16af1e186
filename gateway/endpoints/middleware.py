"""What every request passes, on every path: Host and Origin allow-lists, the client's key, and errors as OpenAI writes
them.
"""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Collection
from functools import lru_cache

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.config import is_loopback
from gateway.endpoints.connections import Connections
from gateway.endpoints.keys import CALLER, Keyring
from gateway.errors import LedgerError, Refusal, Rule, openai_error
from gateway.metrics import Metrics

REQUEST_ID = web.RequestKey("request_id", str)
#: What may be echoed from a caller's own x-request-id.
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
#: Asked by load balancers and container runtimes, which have no key.
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
_ANY_HOST = "*"
#: Authorities whose verdict is remembered.
AUTHORITIES_KEPT = 256
#: `name:port` or `[v6]:port` and nothing else: what is read leniently here, somebody reads otherwise elsewhere.
_AUTHORITY = re.compile(r"(?:\[([0-9a-f.]*:[0-9a-f:.]*)\]|([a-z0-9._-]+?)\.?)(?::[0-9]*)?")
_ORIGIN = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)


class Door:
    """The one middleware."""

    def __init__(
        self, keyring: Keyring, allowed_hosts: Collection[str], metrics: Metrics, connections: Connections
    ) -> None:
        """`allowed_hosts` are names beside the loopback ones; `*` allows any Host (not any Origin)."""
        self._keyring = keyring
        self._allowed = frozenset(host.lower().strip("[]") for host in allowed_hosts)
        self._metrics = metrics
        self._connections = connections
        # Callers send the same few authorities over and over.
        self._is_ours = lru_cache(maxsize=AUTHORITIES_KEPT)(self._names_us)
        self._start = secrets.token_hex(8)
        self._numbers = itertools.count(1)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let a request through to its handler, or answer it here."""
        self._connections.spoke(request.protocol)
        request[REQUEST_ID] = request_id = self._request_id(request)
        try:
            self._check_host(request)
            self._check_origin(request)
            if request.path not in OPEN_PATHS:
                request[CALLER] = self._keyring.caller(request.headers.get("Authorization"))
            response = await handler(request)
        except Refusal as refusal:
            if refusal.code == "storage_failed":
                _tell_storage_failed(request_id, refusal.__cause__)
            response = self._instead(request, refusal)
        except web.RequestPayloadError:
            response = self._instead(request, _unreadable(request))
            response.force_close()
        except web.HTTPException as error:
            response = self._instead(request, _as_refusal(request, error))
        except LedgerError as error:
            _tell_storage_failed(request_id, error)
            told = "The gateway's storage does not answer at the moment. Try again."
            response = self._instead(request, Refusal("storage_failed", told))
        except (ConnectionResetError, TimeoutError):
            raise
        except Exception:  # noqa: BLE001 - whatever it was, the caller gets an error object
            structlog.get_logger().exception("request_failed", request_id=request_id, path=_pattern(request))
            told = f"A bug in the gateway. Its log has the details under request id {request_id}."
            response = self._instead(request, Refusal("internal_error", told))
        if not response.prepared:
            response.headers["x-request-id"] = request_id
        return response

    def _check_host(self, request: web.Request) -> None:
        """Refuse foreign names: a web page can point its own name at this address (DNS rebinding)."""
        if _ANY_HOST in self._allowed:
            return
        hosts = request.headers.getall("Host", [""])
        target = request.raw_path
        if not target.startswith("/") and target != "*":
            # A target with a host of its own overrules the header (RFC 9112, 3.2.2).
            hosts.append(_authority(target))
        if not all(map(self._is_ours, hosts)):
            raise Refusal(
                "host_not_allowed",
                "The Host header names a host that this gateway does not answer for. "
                "Add it to server.allowed_hosts if it is yours.",
            )

    def _check_origin(self, request: web.Request) -> None:
        """Refuse requests that a foreign web page makes in somebody's browser."""
        origin = request.headers.get("Origin")
        if origin is not None and not self._is_ours(_authority(origin)):
            raise Refusal("origin_not_allowed", "Web pages of other origins may not use this gateway.")
        if origin is None and request.headers.get("Sec-Fetch-Site", "").lower() == "cross-site":
            raise Refusal("origin_not_allowed", "Web pages of other sites may not use this gateway.")

    def _names_us(self, authority: str) -> bool:
        name = _host_name(authority)
        return is_loopback(name) or name in self._allowed

    def _request_id(self, request: web.Request) -> str:
        given = request.headers.get("x-request-id")
        if given is not None and _SAFE_ID.fullmatch(given):
            return given
        return f"req_{self._start}{next(self._numbers):08x}"

    def _instead(self, request: web.Request, refusal: Refusal) -> web.Response:
        """An error in place of the handler's response; one that has begun already is cut off, never followed by another."""
        if not request.writer.output_size:
            return self._refused(request, refusal)
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the response had begun")

    def _refused(self, request: web.Request, refusal: Refusal) -> web.Response:
        """Counted, and for whoever looks closer in the log: without its words, which may quote what was sent."""
        self._metrics.requests_refused.of(refusal.code).inc()
        structlog.get_logger().debug(
            "request_refused", request_id=request[REQUEST_ID], path=_pattern(request), code=refusal.code
        )
        return error_response(
            refusal.rule, openai_error(refusal.code, refusal.message, refusal.rule.type, refusal.param)
        )


def error_response(rule: Rule, body: bytes) -> web.Response:
    """An OpenAI error object with its headers."""
    response = web.Response(status=rule.status, body=body, content_type="application/json")
    if rule.should_retry is not None:
        response.headers["x-should-retry"] = "true" if rule.should_retry else "false"
    if rule.retry_after is not None:
        response.headers["Retry-After"] = str(rule.retry_after)
    if rule.status == 408:
        response.force_close()
    return response


def _tell_storage_failed(request_id: str, error: BaseException | None) -> None:
    """Its caller hears only that it failed: why, is for whoever looks the request id up."""
    structlog.get_logger().error("storage_failed", request_id=request_id, reason=str(error))


def _unreadable(request: web.Request) -> Refusal:
    """A body that is not packed as its headers say. Where it ends cannot be told: nothing after it is read."""
    request.content.feed_eof()
    told = "The request body cannot be read: it is not what its Content-Encoding or Transfer-Encoding says."
    return Refusal("invalid_request", told)


def _pattern(request: web.Request) -> str:
    """The path as it is routed, without the names that callers write into it."""
    resource = request.match_info.route.resource
    return "" if resource is None else resource.canonical


def _host_name(authority: str) -> str:
    """The name in `name:port`, `[v6]:port` or `name`, lower case; empty for what is none of these."""
    found = _AUTHORITY.fullmatch(authority.strip().lower())
    return (found[1] or found[2]) if found else ""


def _authority(url: str) -> str:
    """Host and port of an http(s) URL or origin; empty for anything else."""
    found = _ORIGIN.match(url)
    return found[1] if found else ""


def _as_refusal(request: web.Request, error: web.HTTPException) -> Refusal:
    """Aiohttp's own refusals in our words."""
    if error.status == 413:
        return Refusal("body_too_large", "The request body is larger than server.max_body_bytes.")
    if error.status == 405:
        return Refusal("method_not_allowed", f"{request.path} does not take {request.method}.")
    if error.status == 404:
        return Refusal(
            "not_found",
            f"There is no {request.path!r} here. The base URL of this gateway ends in /v1 "
            "(or /run/NAME/v1); chat completions are at /v1/chat/completions.",
        )
    code = "invalid_request" if error.status < 500 else "internal_error"
    return Refusal(code, error.reason or "The request was refused.")
