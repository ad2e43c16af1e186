"""From one row of a result file to a `Result`. Pure, and never raises on anything a provider can send.

Success is told by three things together, since each alone has been seen to lie: no error, status 200, and an answer in the
body. A status that is not there has not lied. Rows look the same in output and error files, and an error file is not relied on
to hold the errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gateway import Result
from gateway.rows import error_body, http_status, parsed_object, read_response, read_row, upstream_error

#: Codes of lines that were never answered -> the status they are counted as.
_UNANSWERED: Mapping[str, int] = MappingProxyType(
    {"batch_expired": 504, "batch_cancelled": 499, "batch_canceled": 499, "request_timeout": 408}
)
#: What an answer has, whatever the endpoint: chat and text completions, embeddings, responses, images, moderations.
_ANSWER_FIELDS = ("choices", "data", "output", "results")
#: Groq's word for having no room at the moment, where others say 429.
CAPACITY_STATUS = 498


def decode_row(row: bytes) -> Result:
    """What `row` says; a row that cannot be understood is retriable, and without a line id if it names none."""
    read = read_row(row)
    if isinstance(read, Result):
        return read
    if read.unanswered:
        return _unanswered(read.line_id, read.error)
    told, body = read.response.get("status_code"), read.response.get("body")
    if told is None and _answer(parsed_object(body) or {}) is not None:
        told = 200
    return decode_response(read.line_id, http_status(told), body, has_error=bool(read.error))


def decode_response(line_id: str | None, status: int, body: object, *, has_error: bool = False) -> Result:
    """What an HTTP response of `status` with the parsed `body` says; also for the synchronous endpoint."""
    status = 429 if status == CAPACITY_STATUS else status
    return read_response(line_id, status, body, _answer, has_error=has_error)


def _answer(body: dict[str, object]) -> dict[str, object] | None:
    """`body` as it is; None where there is no answer in it."""
    return body if any(isinstance(body.get(field), list) and body[field] for field in _ANSWER_FIELDS) else None


def _unanswered(line_id: str | None, error: object) -> Result:
    """A line with an error of its own: it expired, was cancelled or timed out, or something nobody has told us of."""
    told = error_body(error) or upstream_error("The provider gave no reason.")
    status = _UNANSWERED.get((told.code or "").lower(), 0)
    return Result(line_id=line_id, status=status, error=told, retriable=True)
