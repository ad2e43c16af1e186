"""Rows of result files, for plugins whose provider writes them as OpenAI does: `custom_id` with a `response` or an `error`.

Pure, and nothing here raises on anything that a provider can send. What a plugin adds is its own: which bodies are answers, and
what its provider's codes mean. `parse_json`, `json_row`, `unreadable`, `failure` and `is_retriable` serve rows of any shape, and
`write_json` whatever was in them.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import orjson

from gateway.records import ErrorBody, Result

#: The type of an error that names none of its own.
UPSTREAM = "upstream_error"
_UNREADABLE = "unreadable_result"
_MAX_MESSAGE = 2_000
#: Nothing that is nested deeper can be read, by `parse_json` or anybody's quick reader.
DEEPEST = 1_024
_Nested = Mapping[object, object] | list[object] | tuple[object, ...]
_NESTED = (Mapping, list, tuple)
_HALF_OF_A_PAIR = re.compile("[\ud800-\udfff]")
#: Bytes that UTF-8 never has: what holds them was not cut by its writer, but damaged on the way, who knows where.
_DAMAGE = re.compile(rb"[\xc0\xc1\xf5-\xff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """One row in OpenAI's shape, as far as it could be read."""

    #: None: it names no line.
    line_id: str | None
    #: Empty where there is none.
    response: Mapping[str, object]
    #: As it stands in the row.
    error: object
    #: There is an error, and no response that says more.
    unanswered: bool


def read_row(row: bytes) -> ResultRow | Result:
    """What stands in `row`; a `Result` where it cannot be read, or has neither response nor error."""
    content = json_row(row)
    if isinstance(content, Result):
        return content
    name = content.get("custom_id")
    line_id = name if isinstance(name, str) and name else None
    response, error = parsed_object(content.get("response")), content.get("error")
    if response is None and not error:
        return unreadable(line_id, "a result row has neither response nor error")
    unanswered = bool(error) and not (response and response.get("body"))
    return ResultRow(line_id=line_id, response=response or {}, error=error, unanswered=unanswered)


def json_row(row: bytes) -> dict[str, object] | Result:
    """The object that `row` is; a retriable `Result` of nobody's where it is none."""
    try:
        content = parse_json(row)
    except ValueError:
        return unreadable(None, "a result row is not JSON")
    return content if isinstance(content, dict) else unreadable(None, "a result row is not a JSON object")


def parse_json(content: bytes | str) -> object:
    """What stands in `content`. Raises `ValueError` for what nobody could mean as JSON.

    More is read than the standard allows, since a row that is thrown away is an answer that is paid for again: what Python
    writes by default (NaN and infinities, which become null), halves of surrogate pairs, where a text was cut in the middle of
    an emoji, and halves of its bytes (both become U+FFFD), control characters as they are, numbers of any length, and a byte
    order mark at the head of a file.
    """
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        if isinstance(content, bytes) and _DAMAGE.search(content):
            raise ValueError("bytes that no text has") from None
        text = content.removeprefix(codecs.BOM_UTF8).decode(errors="replace") if isinstance(content, bytes) else content
    lenient = json.JSONDecoder(strict=False, parse_constant=lambda _: None, parse_float=_finite, parse_int=_whole)
    try:
        return orjson.loads(write_json(lenient.decode(text)))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def write_json(value: object) -> bytes:
    """`value` as JSON that `parse_json` reads: whatever can be stored of an answer can be told again.

    Numbers that JSON has no word for become null, and halves of surrogate pairs U+FFFD. Raises `TypeError` for what is no
    JSON, and `ValueError` for what is nested deeper than anybody here reads, or in itself.
    """
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        # It reads what is nested 1,024 deep and writes 254; json's own writer gives up at about 1,000.
        return "".join(_pieces(value)).encode()


def _pieces(value: object) -> Iterator[str]:
    """The text of `value`, without recursion."""
    if not isinstance(value, _NESTED):
        yield _scalar(value)
        return
    open_ones = [_opened(value)]
    while open_ones:
        piece = next(open_ones[-1], None)
        if piece is None:
            open_ones.pop()
        elif isinstance(piece, str):
            yield piece
        elif len(open_ones) == DEEPEST:
            raise ValueError("nested too deeply")
        else:
            open_ones.append(_opened(piece))


def _opened(value: _Nested) -> Iterator[str | _Nested]:
    """The pieces of an object or array; those within it as they are."""
    named = isinstance(value, Mapping)
    yield "{" if named else "["
    for place, child in enumerate(value):
        inner = value[child] if isinstance(value, Mapping) else child
        name = _scalar(str(child)) + ":" if named else ""
        comma = "," if place else ""
        yield comma + name + ("" if isinstance(inner, _NESTED) else _scalar(inner))
        if isinstance(inner, _NESTED):
            yield inner
    yield "}" if named else "]"


def _scalar(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "null"
    return _HALF_OF_A_PAIR.sub("\ufffd", json.dumps(value, ensure_ascii=False))


def _whole(digits: str) -> float | None:
    # As orjson reads them: beyond 64 bits they are floats.
    return int(digits) if len(digits) < 19 else _finite(digits)


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def read_response(
    line_id: str | None,
    status: int,
    body: object,
    answer: Callable[[dict[str, object]], Mapping[str, object] | None],
    *,
    has_error: bool = False,
) -> Result:
    """What an HTTP response of `status` with the parsed `body` says, in a row or at once.

    Success is told by three things together, since each alone has been seen to lie: no error, status 200, and a body in which
    `answer` finds an answer, which it returns as the caller shall see it.
    """
    content = parsed_object(body)
    if status == 200 and content is not None and not has_error and content.get("error") is None:
        found = answer(content)
        if found is not None:
            return Result(line_id=line_id, status=200, body=found)
        return unreadable(line_id, "a result has status 200 and no answer", status=200)
    told = error_body(body) if content is None else error_body(content.get("error")) or error_body(content)
    if 200 <= status < 400:
        return unreadable(line_id, f"a result has status {status} and no answer", status=status, error=told)
    return failure(line_id, status, told or upstream_error(f"The provider answered with status {status}."))


def failure(line_id: str | None, status: int, error: ErrorBody) -> Result:
    """A line that failed with `status`."""
    return Result(line_id=line_id, status=status, error=error, retriable=is_retriable(status))


def unreadable(line_id: str | None, message: str, *, status: int = 0, error: ErrorBody | None = None) -> Result:
    """A line whose row says nothing that can be understood: retriable, with `message` unless an `error` says more."""
    told = error or upstream_error(message, code=_UNREADABLE)
    return Result(line_id=line_id, status=status, error=told, retriable=True)


def is_retriable(status: int) -> bool:
    """Whether a line with `status` may do better next time; 0 stands for none at all."""
    return status in (0, 408, 409, 425, 429, 499) or status >= 500


def upstream_error(message: str, *, code: str | None = None) -> ErrorBody:
    """An error that is told in plain words, cut where they are too many."""
    return ErrorBody(message=message[:_MAX_MESSAGE], type=UPSTREAM, code=code)


def error_body(content: object) -> ErrorBody | None:
    """OpenAI's error object in `content`, or a plain message; None when there is neither."""
    if isinstance(content, str) and content:
        return upstream_error(content)
    if not isinstance(content, dict):
        return None
    message = _text(content.get("message")) or _text(content.get("detail"))
    code = _text(content.get("code"))
    if not (message or code):
        return None
    return ErrorBody(
        message=(message or code or "")[:_MAX_MESSAGE],
        type=_text(content.get("type")) or UPSTREAM,
        param=_text(content.get("param")),
        code=code,
    )


def http_status(content: object) -> int:
    """`content` as a status, also one that was sent as a string of three digits; 0 where it is none."""
    if isinstance(content, str) and content.isascii() and content.isdecimal() and len(content) == 3:
        return int(content)
    return content if isinstance(content, int) and not isinstance(content, bool) and 0 <= content <= 999 else 0


def parsed_object(content: object) -> dict[str, object] | None:
    """`content` if it is a JSON object, also one that was sent as a string."""
    if isinstance(content, str) and content.lstrip().startswith("{"):
        try:
            content = parse_json(content)
        except ValueError:
            return None
    return content if isinstance(content, dict) else None


def _text(content: object) -> str | None:
    if isinstance(content, str) and content:
        return content
    return str(content) if isinstance(content, int) and not isinstance(content, bool) else None
