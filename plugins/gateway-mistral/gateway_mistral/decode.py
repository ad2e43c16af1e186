"""From one row of a result file, or of a job's own `outputs`, to a `Result`. Pure, and never raises.

As the provider's own helper reads rows: one failed that has an error or a status of 400 and more, in whichever of the
two files it stands, and it may lack its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import orjson

from gateway import ErrorBody, Result
from gateway_mistral.answers import BROKEN, completion

_MAX_MESSAGE = 2_000
_UPSTREAM = "upstream_error"
#: An error wrapped more often than this is not looked for.
_DEPTH = 8


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
    response = parsed_object(content.get("response"))
    error = content.get("error")
    if response is None and error is None:
        return _unreadable(line_id, "a result row has neither response nor error")
    status = _status(response) or _status(parsed_object(error))
    return decode_response(line_id, status, (response or {}).get("body"), error=error)


def decode_response(line_id: str | None, status: int, body: object, *, error: object = None) -> Result:
    """What an HTTP response of `status` with the parsed `body` says; also for the synchronous endpoint."""
    answer = parsed_object(body)
    told = error_body(error) or error_body(body)
    if status == 200 and answer is not None and error is None:
        read = completion(answer)
        if read is not None:
            return Result(line_id=line_id, status=200, body=read)
        if _is_broken(answer):
            return Result(
                line_id=line_id, status=502, error=_error(502, "the model gave up on its answer"), retriable=True
            )
    if status < 400:
        return _unreadable(line_id, f"a result has status {status} and no answer", status=status, error=told)
    return Result(
        line_id=line_id,
        status=status,
        error=told or _error(status, f"The provider answered with status {status}."),
        retriable=is_retriable(status),
    )


def is_retriable(status: int) -> bool:
    """Whether a line with `status` may do better next time; 0 stands for none at all."""
    return status in (0, 408, 409, 425, 429, 499) or status >= 500


def error_body(content: object, depth: int = 0) -> ErrorBody | None:
    """The error in any of the forms that have been seen; None when there is none to find.

    Text; an object with `message` as text, or as an object with `detail`; an object with `detail` as text or as the list
    of a failed validation, whose first entry names the field; any of these under `error`.
    """
    content = parsed_object(content) or content
    if isinstance(content, str) and content:
        return _error(0, content)
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
        type=kind if isinstance(kind, str) and kind else _UPSTREAM,
        param=content["param"] if isinstance(content.get("param"), str) else param,
        code=str(code)[:100] if isinstance(code, str | int) else None,
    )


def parsed_object(content: object) -> dict[str, object] | None:
    """`content` if it is a JSON object, also one that was sent as a string."""
    if isinstance(content, str) and content.lstrip().startswith("{"):
        try:
            content = orjson.loads(content)
        except (orjson.JSONDecodeError, UnicodeEncodeError):
            return None
    return content if isinstance(content, dict) else None


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


def _unreadable(line_id: str | None, message: str, *, status: int = 0, error: ErrorBody | None = None) -> Result:
    told = error or ErrorBody(message=message, type=_UPSTREAM, code="unreadable_result")
    return Result(line_id=line_id, status=status, error=told, retriable=True)


def _error(status: int, message: str) -> ErrorBody:
    return ErrorBody(message=message[:_MAX_MESSAGE], type=_UPSTREAM, code=str(status) if status else None)


def _status(content: Mapping[str, object] | None) -> int:
    """The first key that holds an HTTP status; 0 when none does."""
    for key in ("status_code", "raw_status_code", "status"):
        status = (content or {}).get(key)
        if isinstance(status, str) and status.isascii() and status.isdecimal() and len(status) == 3:
            status = int(status)
        if isinstance(status, int) and not isinstance(status, bool) and 100 <= status <= 599:
            return status
    return 0
