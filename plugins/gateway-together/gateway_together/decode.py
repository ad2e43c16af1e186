"""From one row of a result file to a `Result`. Pure, and never raises on anything a provider can send.

Documented are an answer as `response` with `status_code` 200 and a `body`, and an error as `error` with `message` and `code`;
no document lists the codes. A failed response, as other APIs write it, is understood as well, in either file.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import orjson

from gateway import ErrorBody, Result
from gateway_together.completions import openai_completion

#: Words in the code of an error row -> the status that such a line is counted as; the first that fits. Only `invalid_model`
#: and `timeout` are documented. A code that is in doubt is better asked again than failed.
_CODES: Mapping[str, int] = MappingProxyType(
    {
        "timeout": 504,
        "timed_out": 504,
        "expired": 504,
        "cancelled": 499,
        "canceled": 499,
        "rate_limit": 429,
        "too_many_requests": 429,
        "overloaded": 503,
        "unavailable": 503,
        "server_error": 500,
        "internal": 500,
        "invalid_model": 404,
        "model_not_found": 404,
        "not_found": 404,
        "invalid_api_key": 401,
        "unauthorized": 401,
        "authentication": 401,
        "permission": 403,
        "forbidden": 403,
        "credit": 402,
        "payment": 402,
        "context_length": 400,
        "invalid": 400,
        "bad_request": 400,
        "validation": 400,
        "unprocessable": 422,
    }
)
_MAX_MESSAGE = 2_000


def decode_row(row: bytes) -> Result:
    """What `row` says; a row that cannot be understood is retriable, and without a line id if it names none."""
    try:
        content = orjson.loads(row)
    except orjson.JSONDecodeError:
        return _unreadable(None, "a result row is not JSON")
    if not isinstance(content, dict):
        return _unreadable(None, "a result row is not a JSON object")
    name = content.get("custom_id")
    line_id = name if isinstance(name, str) and name else None
    response = _object(content.get("response"))
    if content.get("error") and not (response and response.get("body")):
        return _failed(line_id, content["error"])
    if response is None:
        return _unreadable(line_id, "a result row has neither response nor error")
    return decode_response(line_id, _status(response), response.get("body"), has_error=bool(content.get("error")))


def decode_response(line_id: str | None, status: int, body: object, *, has_error: bool = False) -> Result:
    """What an HTTP response of `status` with the parsed `body` says; also for the synchronous endpoint."""
    answer = _object(body)
    if status == 200 and answer is not None and not has_error and answer.get("error") is None:
        if isinstance(answer.get("choices"), list) and answer["choices"]:
            return Result(line_id=line_id, status=200, body=openai_completion(answer))
        return _unreadable(line_id, "a result has status 200 and no answer", status=200)
    if 200 <= status < 400:
        return _unreadable(line_id, f"a result has status {status} and no answer", status=status, error=_error_of(body))
    error = _error_of(body) or ErrorBody(message=f"The provider answered with status {status}.", type="upstream_error")
    return Result(line_id=line_id, status=status, error=error, retriable=is_retriable(status))


def is_retriable(status: int) -> bool:
    """Whether a line with `status` may do better next time; 0 stands for none at all."""
    return status in (0, 408, 409, 425, 429, 499) or status >= 500


def error_body(content: object) -> ErrorBody | None:
    """An error object, or the string that Together gives in place of one; None when there is neither."""
    if isinstance(content, str) and content:
        return ErrorBody(message=content[:_MAX_MESSAGE], type="upstream_error")
    if not isinstance(content, dict):
        return None
    message = _text(content.get("message")) or _text(content.get("detail"))
    code = _text(content.get("code"))
    if not (message or code):
        return None
    return ErrorBody(
        message=(message or code or "")[:_MAX_MESSAGE],
        type=_text(content.get("type")) or "upstream_error",
        param=_text(content.get("param")),
        code=code,
    )


def _failed(line_id: str | None, error: object) -> Result:
    """A line with an error and no response: its code stands for the status that was not told."""
    inner = _object(error) or error
    told = error_body(inner) or ErrorBody(message="The provider gave no reason.", type="upstream_error")
    status = _status_of_code((told.code or "").lower())
    return Result(line_id=line_id, status=status, error=told, retriable=is_retriable(status))


def _status_of_code(code: str) -> int:
    """The status that `code` is or means; 0 when nobody has told us."""
    if code.isascii() and code.isdecimal() and len(code) == 3 and code >= "400":
        return int(code)
    written = code.replace("-", "_").replace(" ", "_")
    return next((status for word, status in _CODES.items() if word in written), 0)


def _error_of(body: object) -> ErrorBody | None:
    """The error in a response body: under `error`, as object or string, or the body itself."""
    content = _object(body)
    if content is None:
        return error_body(body)
    return error_body(content.get("error")) or error_body(content)


def _unreadable(line_id: str | None, message: str, *, status: int = 0, error: ErrorBody | None = None) -> Result:
    told = error or ErrorBody(message=message, type="upstream_error", code="unreadable_result")
    return Result(line_id=line_id, status=status, error=told, retriable=True)


def _status(response: Mapping[str, object]) -> int:
    """The response's own status; an answer that comes without one is taken for the 200 that it must have been."""
    status = response.get("status_code", 200)
    if isinstance(status, str) and status.isascii() and status.isdecimal() and len(status) == 3:
        return int(status)
    return status if isinstance(status, int) and not isinstance(status, bool) and 0 <= status <= 999 else 0


def _object(content: object) -> dict[str, object] | None:
    """`content` if it is a JSON object, also one that was sent as a string."""
    if isinstance(content, str) and content.lstrip().startswith("{"):
        try:
            content = orjson.loads(content)
        except (orjson.JSONDecodeError, UnicodeEncodeError):
            return None
    return content if isinstance(content, dict) else None


def _text(content: object) -> str | None:
    if isinstance(content, str) and content:
        return content
    return str(content) if isinstance(content, int) and not isinstance(content, bool) else None
