"""From a `GenerateContentResponse` to a chat completion. Pure; never raises on anything a provider can send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from gateway import ErrorBody, Result
from gateway.chat import Called, ChatUsage, Choice, Finish, Token, completion
from gateway.reading import count, items, mapping, number, text
from gateway.rows import write_json
from gateway_gemini.signatures import caller_id

#: `finishReason` of google-genai 3.4.0 -> OpenAI's. Unknown ones count as stop.
_FINISHES: Mapping[str, Finish] = MappingProxyType(
    {
        "MAX_TOKENS": Finish.LENGTH,
        "CONTINUATION": Finish.LENGTH,
        **dict.fromkeys(
            (
                *("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "OTHER", "ESCALATION"),
                *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "IMAGE_OTHER", "NO_IMAGE"),
                *("MODEL_ARMOR", "PUP_LIMITED_DISABLED"),
            ),
            Finish.CONTENT_FILTER,
        ),
    }
)
#: The model stumbled: there is nothing to use, and another try may do better.
_BROKEN = frozenset(
    {
        *("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"),
        *("MALFORMED_RESPONSE", "MISSING_THOUGHT_SIGNATURE"),
    }
)
#: google.rpc.Code -> the HTTP status a caller sees, and whether asking again may help.
_GRPC: Mapping[int, tuple[int, bool]] = MappingProxyType(
    {
        1: (499, True),
        2: (500, True),
        3: (400, False),
        4: (504, True),
        5: (404, False),
        6: (409, False),
        7: (403, False),
        8: (429, True),
        9: (400, False),
        10: (409, True),
        11: (400, False),
        12: (422, False),
        13: (500, True),
        14: (503, True),
        15: (500, True),
        16: (401, False),
    }
)
_GRPC_NAMES: Mapping[str, int] = MappingProxyType(
    {
        "CANCELLED": 1,
        "UNKNOWN": 2,
        "INVALID_ARGUMENT": 3,
        "DEADLINE_EXCEEDED": 4,
        "NOT_FOUND": 5,
        "ALREADY_EXISTS": 6,
        "PERMISSION_DENIED": 7,
        "RESOURCE_EXHAUSTED": 8,
        "FAILED_PRECONDITION": 9,
        "ABORTED": 10,
        "OUT_OF_RANGE": 11,
        "UNIMPLEMENTED": 12,
        "INTERNAL": 13,
        "UNAVAILABLE": 14,
        "DATA_LOSS": 15,
        "UNAUTHENTICATED": 16,
    }
)
_MAX_MESSAGE = 2_000


def chat_answer(response: Mapping[str, object], *, model: str = "", line_id: str | None = None) -> Result:
    """The result that `response` stands for.

    `model` is named where the response names none. A blocked prompt is an answer, with `finish_reason` content_filter; a
    response without anything usable, or whose model stumbled over a function call, is an error that may be tried again.
    """
    candidates = [mapping(candidate) for candidate in items(response.get("candidates"))]
    blocked = text(mapping(response.get("promptFeedback")).get("blockReason"))
    if not candidates and not blocked:
        return _unusable(line_id, "the provider's answer has no candidates")
    broken = [reason for candidate in candidates if (reason := _reason(candidate)) in _BROKEN]
    if broken:
        return _unusable(line_id, f"the model's answer cannot be used: {broken[0]}", code=broken[0].lower())
    if any(_is_wordless(candidate) for candidate in candidates):
        return _inexpressible(line_id)
    if candidates:
        seed = text(response.get("responseId")) or write_json(candidates).decode()
        choices = [_choice(candidate, place, f"{seed} {place}") for place, candidate in enumerate(candidates)]
    else:
        choices = [Choice(finish=Finish.CONTENT_FILTER, refusal=f"prompt blocked: {blocked}")]
    body = completion(
        choices,
        _usage(mapping(response.get("usageMetadata"))),
        model=text(response.get("modelVersion")) or model,
        id=text(response.get("responseId")),
    )
    return Result(line_id=line_id, status=200, body=body)


def grpc_status(code: int) -> tuple[int, bool]:
    """The HTTP status for a google.rpc code, and whether asking again may help; unknown codes may."""
    return _GRPC.get(code, (500, True))


def status_of(error: Mapping[str, object]) -> tuple[int, bool]:
    """The same for a `google.rpc.Status`, or an HTTP error's object, by its name if it has one, else by its code.

    A code above 16 is an HTTP status already.
    """
    named = _GRPC_NAMES.get((text(error.get("status")) or "").upper())
    code = named if named is not None else count(error.get("code"))
    if code is None:
        return 500, True
    if 400 <= code <= 599:
        return code, code in (408, 409, 429, 499) or code >= 500
    return grpc_status(code)


def failed(error: object, *, line_id: str | None = None) -> Result:
    """The result that a `google.rpc.Status`, or a plain text in its place, stands for."""
    told = mapping(error)
    status, retriable = status_of(told)
    message = text(told.get("message")) or text(error) or "The provider gave no reason."
    name = text(told.get("status")) or next(
        (name for name, code in _GRPC_NAMES.items() if code == count(told.get("code"))), None
    )
    body = ErrorBody(message=message[:_MAX_MESSAGE], type="upstream_error", code=name.lower() if name else None)
    return Result(line_id=line_id, status=status, error=body, retriable=retriable)


def _unusable(line_id: str | None, message: str, *, code: str = "unreadable_result") -> Result:
    error = ErrorBody(message=message, type="upstream_error", code=code)
    return Result(line_id=line_id, status=502, error=error, retriable=True)


def _inexpressible(line_id: str | None) -> Result:
    message = (
        "the model answered with media alone, which a chat completion cannot hold; ask a model that answers in words"
    )
    error = ErrorBody(message=message, type="upstream_error", code="inexpressible_answer")
    return Result(line_id=line_id, status=422, error=error)


def _is_wordless(candidate: Mapping[str, object]) -> bool:
    """Whether a candidate has media, and neither words nor calls beside them."""
    parts = _parts(candidate)
    spoken = any(
        part.get("functionCall") or (text(part.get("text")) and part.get("thought") is not True) for part in parts
    )
    return not spoken and any("inlineData" in part or "fileData" in part for part in parts)


def _reason(candidate: Mapping[str, object]) -> str:
    return text(candidate.get("finishReason")) or ""


def _parts(candidate: Mapping[str, object]) -> list[Mapping[str, object]]:
    return [mapping(part) for part in items(mapping(candidate.get("content")).get("parts"))]


def _choice(candidate: Mapping[str, object], place: int, seed: str) -> Choice:
    parts = _parts(candidate)
    said = [found for part in parts if part.get("thought") is not True and (found := text(part.get("text")))]
    thought = [found for part in parts if part.get("thought") is True and (found := text(part.get("text")))]
    calls = _calls(parts, seed)
    finish = _FINISHES.get(_reason(candidate), Finish.STOP)
    if calls and finish is Finish.STOP:
        finish = Finish.TOOL_CALLS
    refusal = None
    if finish is Finish.CONTENT_FILTER and not said:
        refusal = text(candidate.get("finishMessage")) or f"answer withheld: {_reason(candidate)}"
    content = "".join(said) if said or not (calls or refusal) else None
    index = count(candidate.get("index"))
    return Choice(
        index=place if index is None else index,
        finish=finish,
        content=content,
        tool_calls=calls,
        refusal=refusal,
        reasoning="".join(thought) or None,
        logprobs=_logprobs(mapping(candidate.get("logprobsResult"))),
    )


def _calls(parts: Sequence[Mapping[str, object]], seed: str) -> tuple[Called, ...]:
    calling = [part for part in parts if mapping(part.get("functionCall"))]
    signed_text = _text_signature(parts)
    calls = []
    for place, part in enumerate(calling):
        call = mapping(part["functionCall"])
        name = caller_id(
            text(call.get("id")),
            place,
            seed,
            call=text(part.get("thoughtSignature")),
            text=signed_text if place == 0 else None,
        )
        arguments = write_json(mapping(call.get("args"))).decode()
        calls.append(Called(id=name, name=text(call.get("name")) or "", arguments=arguments))
    return tuple(calls)


def _text_signature(parts: Sequence[Mapping[str, object]]) -> str | None:
    """The signature of the one text of the answer; with several texts the caller sends back one, which nobody signed."""
    texts = [part for part in parts if part.get("thought") is not True and text(part.get("text"))]
    return text(texts[0].get("thoughtSignature")) if len(texts) == 1 else None


def _usage(usage: Mapping[str, object]) -> ChatUsage | None:
    """Gemini counts thoughts beside the answer, OpenAI inside it; cached tokens are inside the prompt for both."""
    if not usage:
        return None
    thoughts = count(usage.get("thoughtsTokenCount")) or 0
    return ChatUsage(
        prompt=(count(usage.get("promptTokenCount")) or 0) + (count(usage.get("toolUsePromptTokenCount")) or 0),
        completion=(count(usage.get("candidatesTokenCount")) or 0) + thoughts,
        cached=count(usage.get("cachedContentTokenCount")) or 0,
        reasoning=thoughts,
        audio=sum(_tokens_of(detail, "AUDIO") for detail in items(usage.get("promptTokensDetails"))),
    )


def _tokens_of(detail: object, modality: str) -> int:
    """Tokens in one entry of a usage's details, if it is of this modality."""
    content = mapping(detail)
    return (count(content.get("tokenCount")) or 0) if content.get("modality") == modality else 0


def _logprobs(result: Mapping[str, object]) -> tuple[Token, ...]:
    tops = [items(mapping(top).get("candidates")) for top in items(result.get("topCandidates"))]
    return tuple(
        _token(mapping(chosen), tops[place] if place < len(tops) else ())
        for place, chosen in enumerate(items(result.get("chosenCandidates")))
    )


def _token(content: Mapping[str, object], tops: Sequence[object] = ()) -> Token:
    return Token(
        token=text(content.get("token")) or "",
        logprob=number(content.get("logProbability")) or 0.0,
        top=tuple(_token(mapping(top)) for top in tops),
    )
