"""A simulated Gemini model: which requests it refuses, and what it answers to the others.

Stable for other simulators: `request_problem`, `generate`, `google_error`, `grpc_of`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from gateway.reading import items, mapping, text
from gateway.sandbox import Directive, Outcome, answer_text, body_hash, instance, sampled, tokens_of, unique_digits
from gateway_gemini.simulated.rules import parts_of, problem_of
from gateway_gemini.simulated.schema import REQUEST, normal
from gateway_gemini.simulated.signing import signature

_BYTES_PER_TOKEN = 4
_THOUGHT_TOKENS = 16
#: HTTP status -> google.rpc.Code and its name.
_STATUSES = {
    400: (3, "INVALID_ARGUMENT"),
    401: (16, "UNAUTHENTICATED"),
    403: (7, "PERMISSION_DENIED"),
    404: (5, "NOT_FOUND"),
    408: (4, "DEADLINE_EXCEEDED"),
    409: (6, "ALREADY_EXISTS"),
    412: (9, "FAILED_PRECONDITION"),
    429: (8, "RESOURCE_EXHAUSTED"),
    499: (1, "CANCELLED"),
    500: (13, "INTERNAL"),
    501: (12, "UNIMPLEMENTED"),
    503: (14, "UNAVAILABLE"),
    504: (4, "DEADLINE_EXCEEDED"),
}


def request_problem(request: object, model: str) -> str | None:
    """What a 400 says of a `GenerateContentRequest` for `model`; None when it is taken."""
    return REQUEST(request, "") or problem_of(mapping(normal(REQUEST, request)), model)


def generate(request: Mapping[str, object], *, model: str, line_id: str, told: Directive | None = None) -> Outcome:
    """The answer to a request that `request_problem` has nothing against: an outcome with a `GenerateContentResponse`.

    A function of the request, and of `line_id` where sampling was asked for. `told` may want the prompt blocked.
    """
    name = body_hash(request)
    request = mapping(normal(REQUEST, request))
    asked = tokens_of(len(orjson.dumps([request.get("contents"), request.get("systemInstruction")])))
    answer: dict[str, object] = {
        "modelVersion": model.removeprefix("models/"),
        "responseId": unique_digits(name, line_id, 12),
    }
    if told is not None and told.word == "refusal":
        answer["promptFeedback"] = {"blockReason": "SAFETY"}
        answer["usageMetadata"] = {"promptTokenCount": asked, "totalTokenCount": asked}
        return Outcome(status=200, body=answer, input_tokens=asked)
    config = mapping(request.get("generationConfig"))
    parts, finish = _parts(request, config, name, line_id if sampled(config) else None)
    answered = tokens_of(sum(len(orjson.dumps(part)) for part in parts))
    thoughts = _thoughts(config)
    if thoughts and mapping(config.get("thinkingConfig")).get("includeThoughts"):
        parts = [{"text": f"I think about #{name}.", "thought": True}, *parts]
    answer["candidates"] = [{"content": {"parts": parts, "role": "model"}, "finishReason": finish, "index": 0}]
    answer["usageMetadata"] = {
        "promptTokenCount": asked,
        "candidatesTokenCount": answered,
        "totalTokenCount": asked + answered + thoughts,
        **({"thoughtsTokenCount": thoughts} if thoughts else {}),
    }
    return Outcome(status=200, body=answer, input_tokens=asked, output_tokens=answered + thoughts)


def grpc_of(status: int) -> tuple[int, str]:
    """The google.rpc.Code, and its name, that stands for an HTTP status."""
    return _STATUSES.get(status, (13, "INTERNAL") if status >= 500 else (9, "FAILED_PRECONDITION"))


def google_error(status: int, message: str, details: Sequence[Mapping[str, object]] = ()) -> dict[str, object]:
    """An error's body as every Google API writes it."""
    error: dict[str, object] = {"code": status, "message": message, "status": grpc_of(status)[1]}
    return {"error": error | ({"details": list(details)} if details else {})}


def last_text(request: Mapping[str, object]) -> str:
    """The text of the last user's turn that has one."""
    for content in reversed([mapping(content) for content in items(request.get("contents"))]):
        said = [found for part in parts_of(content) if (found := text(part.get("text")))]
        if said and content.get("role", "user") == "user":
            return "\n".join(said)
    return ""


def _parts(
    request: Mapping[str, object], config: Mapping[str, object], name: str, sample: str | None
) -> tuple[list[dict[str, object]], str]:
    """The parts of the answer, and why it ended."""
    wanted = _wanted_calls(request)
    if wanted:
        calls: list[dict[str, object]] = [
            {"functionCall": _call(declared, name, place)} for place, declared in enumerate(wanted)
        ]
        calls[0]["thoughtSignature"] = signature(mapping(calls[0]["functionCall"]))
        return calls, "STOP"
    said = _formatted(config, name) or answer_text(last_text(request), name, sample)
    limit = config.get("maxOutputTokens")
    if isinstance(limit, int) and tokens_of(len(said)) > limit:
        return [{"text": said[: limit * _BYTES_PER_TOKEN]}], "MAX_TOKENS"
    return [{"text": said}], "STOP"


def _wanted_calls(request: Mapping[str, object]) -> list[Mapping[str, object]]:
    """The functions that have to be called: with mode ANY all that are allowed, in parallel; else none."""
    calling = mapping(mapping(request.get("toolConfig")).get("functionCallingConfig"))
    if calling.get("mode") != "ANY":
        return []
    declared = [
        mapping(function)
        for tool in items(request.get("tools"))
        for function in items(mapping(tool).get("functionDeclarations"))
    ]
    allowed = items(calling.get("allowedFunctionNames")) or [function.get("name") for function in declared]
    return [function for function in declared if function.get("name") in allowed]


def _call(declared: Mapping[str, object], name: str, place: int) -> dict[str, object]:
    arguments = instance(declared.get("parametersJsonSchema", declared.get("parameters", {"type": "object"})), name)
    return {"id": f"fc-{name}-{place}", "name": declared.get("name"), "args": mapping(arguments)}


def _formatted(config: Mapping[str, object], name: str) -> str | None:
    """The answer as JSON; None when plain text is wanted."""
    if config.get("responseMimeType") != "application/json":
        return None
    schema = config.get("responseJsonSchema", config.get("responseSchema"))
    return orjson.dumps({"answer": name} if schema is None else instance(schema, name)).decode()


def _thoughts(config: Mapping[str, object]) -> int:
    """Tokens of thoughts: some wherever thinking was asked for."""
    thinking = mapping(config.get("thinkingConfig"))
    return _THOUGHT_TOKENS if thinking.get("thinkingLevel") or thinking.get("thinkingBudget") else 0
