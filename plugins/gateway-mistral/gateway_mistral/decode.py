"""From one row of a result file, or of a job's own `outputs`, to a `Result`. Pure, and never raises.

As the provider's own helper reads rows: one failed that has an error or a status of 400 and more, in whichever of the
two files it stands, and it may lack its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gateway import ErrorBody, Result
from gateway.rows import UPSTREAM, failure, http_status, parsed_object, read_row, unreadable, upstream_error
from gateway_mistral.answers import BROKEN, completion

_MAX_MESSAGE = 2_000
#: Where an HTTP status has been seen.
_STATUSES = ("status_code", "raw_status_code", "status")
#: An error wrapped more often than this is not looked for.
_DEPTH = 8


def decode_row(row: bytes) -> Result:
    """What `row` says; a row that cannot be understood is retriable, and without a line id if it names none."""
    read = read_row(row)
    if isinstance(read, Result):
        return read
    status, body = _status(read.response) or _status(parsed_object(read.error)), read.response.get("body")
    if (parsed_object(body) or {}).get("choices") and all(read.response.get(key) is None for key in _STATUSES):
        # As the helper has it: a status that is not told is none of 400 and more.
        status = status or 200
    return decode_response(read.line_id, status, body, error=read.error)


def decode_response(line_id: str | None, status: int, body: object, *, error: object = None) -> Result:
    """What an HTTP response of `status` with the parsed `body` says; also for the synchronous endpoint."""
    answer = parsed_object(body)
    told = error_body(error) or error_body(body)
    if status == 200 and answer is not None and error is None:
        read = completion(answer)
        if read is not None:
            return Result(line_id=line_id, status=200, body=read)
        if _is_broken(answer):
            return failure(line_id, 502, upstream_error("the model gave up on its answer", code="502"))
    if status < 400:
        return unreadable(line_id, f"a result has status {status} and no answer", status=status, error=told)
    message = f"The provider answered with status {status}."
    return failure(line_id, status, told or upstream_error(message, code=str(status)))


def error_body(content: object, depth: int = 0) -> ErrorBody | None:
    """The error in any of the forms that have been seen; None when there is none to find.

    Text; an object with `message` as text, or as an object with `detail`; an object with `detail` as text or as the list
    of a failed validation, whose first entry names the field; any of these under `error`.
    """
    content = parsed_object(content) or content
    if isinstance(content, str) and content:
        return upstream_error(content)
    if isinstance(content, list) and depth < _DEPTH:
        return next((found for entry in content if (found := error_body(entry, depth + 1))), None)
    if not isinstance(content, dict):
        return None
    if content.get("error") not in (None, "", {}) and "message" not in content and depth < _DEPTH:
        return error_body(content["error"], depth + 1)
    message, param = _message(content.get("message") or content.get("detail") or content.get("msg"))
    kind, code = content.get("type"), content.get("code")
    if not (message or code):
        return None
    return ErrorBody(
        message=(message or f"code {code}")[:_MAX_MESSAGE],
        type=kind if isinstance(kind, str) and kind else UPSTREAM,
        param=content["param"] if isinstance(content.get("param"), str) else param,
        code=str(code)[:100] if isinstance(code, str | int) else None,
    )


def _message(content: object, depth: int = 0) -> tuple[str, str | None]:
    """The text of a message in any of its forms, and the field it names."""
    if isinstance(content, str):
        return content, None
    if isinstance(content, dict) and depth < _DEPTH:
        return _message(content.get("detail") or content.get("message") or content.get("msg"), depth + 1)
    if not isinstance(content, list):
        return "", None
    problems = list(_problems(content))
    texts = [f"{text} ({field})" if field else text for text, field in problems]
    return "; ".join(texts), problems[0][1] if problems else None


def _problems(entries: list[object]) -> Iterator[tuple[str, str | None]]:
    """What a failed validation says: text and dotted field of each entry."""
    for entry in entries:
        if isinstance(entry, str):
            yield entry, None
        elif isinstance(entry, dict) and isinstance(entry.get("msg"), str):
            place = entry.get("loc")
            names = [str(part) for part in place if part != "body"] if isinstance(place, list) else []
            yield entry["msg"], ".".join(names)[:200] or None


def _is_broken(answer: Mapping[str, object]) -> bool:
    choices = answer.get("choices")
    return isinstance(choices, list) and any(
        isinstance(choice, dict) and choice.get("finish_reason") == BROKEN for choice in choices
    )


def _status(content: Mapping[str, object] | None) -> int:
    """The first key that holds an HTTP status; 0 when none does."""
    for key in _STATUSES:
        status = http_status((content or {}).get(key))
        if 100 <= status <= 599:
            return status
    return 0
