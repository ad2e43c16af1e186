"""From one row of a result file to a `Result`. Pure, and never raises on anything a provider can send.

Documented are an answer as `response` with `status_code` 200 and a `body`, and an error as `error` with `message` and `code`;
no document lists the codes. A failed response, as other APIs write it, is understood as well, in either file.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gateway import Result
from gateway.rows import error_body, failure, http_status, parsed_object, read_response, read_row, upstream_error
from gateway_together.completions import openai_completion

__all__ = ["decode_response", "decode_row", "error_body"]

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


def decode_row(row: bytes) -> Result:
    """What `row` says; a row that cannot be understood is retriable, and without a line id if it names none."""
    read = read_row(row)
    if isinstance(read, Result):
        return read
    if read.unanswered:
        return _failed(read.line_id, read.error)
    # An answer that comes without a status is taken for the 200 that it must have been.
    status = http_status(read.response.get("status_code", 200))
    return decode_response(read.line_id, status, read.response.get("body"), has_error=bool(read.error))


def decode_response(line_id: str | None, status: int, body: object, *, has_error: bool = False) -> Result:
    """What an HTTP response of `status` with the parsed `body` says; also for the synchronous endpoint."""
    return read_response(line_id, status, body, _answer, has_error=has_error)


def _answer(body: dict[str, object]) -> dict[str, object] | None:
    """The completion in OpenAI's words; None where `body` is none."""
    return openai_completion(body) if isinstance(body.get("choices"), list) and body["choices"] else None


def _failed(line_id: str | None, error: object) -> Result:
    """A line with an error and no response: its code stands for the status that was not told."""
    told = error_body(parsed_object(error) or error) or upstream_error("The provider gave no reason.")
    return failure(line_id, _status_of_code((told.code or "").lower()), told)


def _status_of_code(code: str) -> int:
    """The status that `code` is or means; 0 when nobody has told us."""
    if code.isascii() and code.isdecimal() and len(code) == 3 and code >= "400":
        return int(code)
    written = code.replace("-", "_").replace(" ", "_")
    return next((status for word, status in _CODES.items() if word in written), 0)
