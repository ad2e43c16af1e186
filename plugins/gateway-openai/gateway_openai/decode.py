"""From one row of a result file to a `Result`. Pure, and never raises on anything a provider can send.

Success is told by three things together, since each alone has been seen to lie: no error, status 200, and an answer in the
body. Rows look the same in output and error files, and an error file is not relied on to hold the errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import orjson

from gateway import ErrorBody, Result

#: Codes of lines that were never answered -> the status they are counted as.
_UNANSWERED: Mapping[str, int] = MappingProxyType(
    {"batch_expired": 504, "batch_cancelled": 499, "batch_canceled": 499, "request_timeout": 408}
)
#: What an answer has, whatever the endpoint: chat and text completions, embeddings, responses, images, moderations.
_ANSWER_FIELDS = ("choices", "data", "output", "results")
_MAX_MESSAGE = 2_000
#: Groq's word for having no room at the moment, where others say 429.
CAPACITY_STATUS = 498


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
        return _unanswered(line_id, content["error"])
    if response is None:
        return _unreadable(line_id, "a result row has neither response nor error")
    return decode_response(line_id, _status(response), response.get("body"), has_error=bool(content.get("error")))


def decode_response(line_id: str | None, status: int, body: object, *, has_error: bool = False) -> Result:
    """What an HTTP response of `status` with the parsed `body` says; also for the synchronous endpoint."""
    status = 429 if status == CAPACITY_STATUS else status
    answer = _object(body)
    if status == 200 and answer is not None and not has_error and answer.get("error") is None:
        if any(isinstance(answer.get(field), list) and answer[field] for field in _ANSWER_FIELDS):
            return Result(line_id=line_id, status=200, body=answer)
        return _unreadable(line_id, "a result has status 200 and no answer", status=200)
    if 200 <= status < 400:
        return _unreadable(line_id, f"a result has status {status} and no answer", status=status, error=_error_of(body))
    error = _error_of(body) or ErrorBody(message=f"The provider answered with status {status}.", type="upstream_error")
    return Result(line_id=line_id, status=status, error=error, retriable=is_retriable(status))


def is_retriable(status: int) -> bool:
    """Whether a line with `status` may do better next time; 0 stands for none at all."""
    return status in (0, 408, 409, 425, 429, 499) or status >= 500


def error_body(content: object) -> ErrorBody | None:
    """OpenAI's error object in `content`, or a plain message; None when there is neither."""
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


def _error_of(body: object) -> ErrorBody | None:
    """The error in a response body: under `error`, or the body itself."""
    content = _object(body)
    if content is None:
        return error_body(body)
    inner = content.get("error")
    return error_body(inner) or error_body(content)


def _unanswered(line_id: str | None, error: object) -> Result:
    """A line with an error of its own: it expired, was cancelled or timed out, or something nobody has told us of."""
    told = error_body(error) or ErrorBody(message="The provider gave no reason.", type="upstream_error")
    status = _UNANSWERED.get((told.code or "").lower(), 0)
    return Result(line_id=line_id, status=status, error=told, retriable=True)


def _unreadable(line_id: str | None, message: str, *, status: int = 0, error: ErrorBody | None = None) -> Result:
    told = error or ErrorBody(message=message, type="upstream_error", code="unreadable_result")
    return Result(line_id=line_id, status=status, error=told, retriable=True)


def _status(response: Mapping[str, object]) -> int:
    status = response.get("status_code")
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
