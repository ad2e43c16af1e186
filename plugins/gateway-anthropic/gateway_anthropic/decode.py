"""From one row of a result file, or one answered Message, to a `Result`. Pure, and never raises on provider data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from gateway import ErrorBody, Result
from gateway.chat import Called, ChatUsage, Choice, Finish, carry, completion
from gateway.rows import failure, json_row, unreadable, write_json
from gateway_anthropic.layout import KEY, noted

#: The provider's types of errors -> the status that an HTTP answer of the type has. Unknown types count as 500.
STATUSES: Mapping[str, int] = MappingProxyType(
    {
        "invalid_request_error": 400,
        "authentication_error": 401,
        "billing_error": 402,
        "permission_error": 403,
        "not_found_error": 404,
        "conflict_error": 409,
        "request_too_large": 413,
        "rate_limit_error": 429,
        "api_error": 500,
        "timeout_error": 504,
        "overloaded_error": 529,
    }
)
_FINISHES: Mapping[str, Finish] = MappingProxyType(
    {
        "end_turn": Finish.STOP,
        "stop_sequence": Finish.STOP,
        "max_tokens": Finish.LENGTH,
        "model_context_window_exceeded": Finish.LENGTH,
        "tool_use": Finish.TOOL_CALLS,
        "refusal": Finish.CONTENT_FILTER,
    }
)
#: What the provider says, with a 400, when the account cannot pay.
UNPAID = "credit balance is too low"
_REFUSED = "The model declined to answer."
_MAX_MESSAGE = 2_000
_MAX_COUNT = 2**53


def decode_row(row: bytes) -> Result:
    """What `row` says; a row that cannot be understood is retriable, and without a line id if it names none."""
    content = json_row(row)
    if isinstance(content, Result):
        return content
    name, result = content.get("custom_id"), content.get("result")
    line_id = name if isinstance(name, str) and name else None
    if not isinstance(result, dict):
        return unreadable(line_id, "a result row has no result")
    match result.get("type"):
        case "succeeded":
            return decode_message(line_id, result.get("message"))
        case "errored":
            return decode_error(line_id, result.get("error"))
        case "expired":
            return _unanswered(line_id, 504, "batch_expired", "The batch expired before this request was run.")
        case "canceled" | "cancelled":
            return _unanswered(line_id, 499, "batch_cancelled", "The batch was cancelled before this request was run.")
    return unreadable(line_id, "a result has a type that is not known")


def decode_message(line_id: str | None, message: object) -> Result:
    """An answered Message as a chat completion."""
    if not isinstance(message, dict) or not isinstance(message.get("content"), list):
        return unreadable(line_id, "a result has no message", status=200)
    blocks = [block for block in message["content"] if isinstance(block, dict)]
    stop = message.get("stop_reason")
    if stop == "pause_turn":
        return unreadable(line_id, "the model paused in the middle of its turn", status=502)
    choice = _choice(blocks, stop, message.get("stop_details"))
    body = completion(
        [choice],
        _usage(message.get("usage")),
        model=_text(message.get("model")) or "",
        id=_text(message.get("id")),
    )
    return Result(line_id=line_id, status=200, body=body)


def decode_error(line_id: str | None, error: object, status: int | None = None) -> Result:
    """An error in the provider's words, wrapped once (HTTP) or twice (a row); `status` is what HTTP said."""
    inner = error
    for _ in range(2):
        if isinstance(inner, dict) and isinstance(inner.get("error"), dict):
            inner = inner["error"]
    told = inner if isinstance(inner, dict) else {}
    kind = _text(told.get("type")) or ""
    known = STATUSES.get(kind, 500) if status is None else status
    message = (_text(told.get("message")) or "The provider gave no reason.")[:_MAX_MESSAGE]
    if known == 400 and UNPAID in message.lower():
        known = 402
    body = ErrorBody(message=message, type=kind or "upstream_error", code=kind or None)
    return failure(line_id, known, body)


def _choice(blocks: Sequence[Mapping[str, object]], stop: object, details: object) -> Choice:
    """The one answer in the blocks of a message. Blocks of other kinds belong to tools that are never sent."""
    texts = [text for block in blocks if block.get("type") == "text" and (text := _text(block.get("text")))]
    calls = _calls(blocks)
    finish = _FINISHES.get(str(stop), Finish.STOP)
    if calls and finish is Finish.STOP:
        finish = Finish.TOOL_CALLS
    refusal = None
    if finish is Finish.CONTENT_FILTER:
        said = details.get("explanation") if isinstance(details, dict) else None
        refusal = _text(said) or _REFUSED
    thoughts = [text for block in blocks if block.get("type") == "thinking" and (text := _text(block.get("thinking")))]
    return Choice(
        finish=finish,
        content="".join(texts) or None,
        tool_calls=calls,
        refusal=refusal,
        reasoning="\n\n".join(thoughts) or None,
    )


def _calls(blocks: Sequence[Mapping[str, object]]) -> tuple[Called, ...]:
    """The called functions; the id of the first carries the turn's thoughts."""
    notes = noted(blocks)
    calls: list[Called] = []
    for block in blocks:
        if block.get("type") != "tool_use":
            continue
        plain = _text(block.get("id")) or f"toolu_{len(calls)}"
        called = carry(plain, {KEY: notes}) if notes and not calls else plain
        arguments = write_json(block.get("input") or {}).decode()
        calls.append(Called(id=called, name=_text(block.get("name")) or "", arguments=arguments))
    return tuple(calls)


def _usage(usage: object) -> ChatUsage | None:
    """Tokens; what the provider counts apart, OpenAI counts as input."""
    if not isinstance(usage, dict):
        return None
    written, read = _count(usage.get("cache_creation_input_tokens")), _count(usage.get("cache_read_input_tokens"))
    details = usage.get("output_tokens_details")
    return ChatUsage(
        prompt=_count(usage.get("input_tokens")) + written + read,
        completion=_count(usage.get("output_tokens")),
        cached=read,
        cache_written=written,
        reasoning=_count(details.get("thinking_tokens")) if isinstance(details, dict) else 0,
    )


def _unanswered(line_id: str | None, status: int, code: str, message: str) -> Result:
    error = ErrorBody(message=message, type="upstream_error", code=code)
    return Result(line_id=line_id, status=status, error=error, retriable=True)


def _count(content: object) -> int:
    """A number of tokens, also one that was sent as text: what does not count costs nothing."""
    if isinstance(content, str) and content.isascii() and content.isdecimal() and len(content) < 16:
        return int(content)
    if isinstance(content, int) and not isinstance(content, bool) and 0 <= content <= _MAX_COUNT:
        return content
    return 0


def _text(content: object) -> str | None:
    return content if isinstance(content, str) and content else None
