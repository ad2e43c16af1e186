"""What a `GenerateContentRequest` must mean, beyond its types: the refusals of the API that a translation can run into."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from gateway.reading import items, mapping, text
from gateway_gemini.dialect import MEDIA_TYPES, PLACEHOLDER
from gateway_gemini.simulated.signing import same, signature

_UNION = ("text", "inlineData", "fileData", "functionCall", "functionResponse")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}")
_UNSIGNED_MODELS = ("gemini-1.*", "gemini-2.*", "gemma*")
_FILES = ("https://generativelanguage.googleapis.com/", "gs://", "files/")
#: Least and most of numbers in `generationConfig`.
_RANGES = {
    "temperature": (0, 2),
    "topP": (0, 1),
    "topK": (1, 1_000),
    "maxOutputTokens": (1, 1_000_000),
    "presencePenalty": (-2, 1.999),
    "frequencyPenalty": (-2, 1.999),
    "logprobs": (0, 20),
    "seed": (-(1 << 31), (1 << 31) - 1),
}


def problem_of(request: Mapping[str, object], model: str) -> str | None:
    """The first thing that is wrong with a request whose types are right."""
    contents = [mapping(content) for content in items(request.get("contents"))]
    found = (
        *_of_contents(contents),
        *_of_turns(contents),
        *_of_signatures(contents, model),
        *_of_tools(request),
        *_of_config(request, model),
    )
    return next(iter(found), None)


def parts_of(content: Mapping[str, object]) -> list[Mapping[str, object]]:
    """The parts of one content."""
    return [mapping(part) for part in items(content.get("parts"))]


def _of_contents(contents: Sequence[Mapping[str, object]]) -> Iterator[str]:
    if not contents:
        yield "* GenerateContentRequest.contents: contents is not specified"
    for n, content in enumerate(contents):
        at = f"* GenerateContentRequest.contents[{n}]"
        if content.get("role", "user") not in ("user", "model", "function"):
            yield "Please use a valid role: user, model."
        if not parts_of(content):
            yield f"{at}.parts: contents.parts must not be empty."
        for m, part in enumerate(parts_of(content)):
            kinds = [kind for kind in _UNION if kind in part]
            if len(kinds) != 1:
                yield f"{at}.parts[{m}].data: required oneof field 'data' must have one initialized field"
            yield from _of_media(part, f"{at}.parts[{m}]")


def _of_media(part: Mapping[str, object], at: str) -> Iterator[str]:
    if "text" in part and not part["text"]:
        yield f"{at}: Unable to submit request because it must have a text parameter."
    inline = mapping(part.get("inlineData"))
    if inline and inline.get("mimeType") not in MEDIA_TYPES:
        yield f"Unsupported MIME type: {str(inline.get('mimeType'))[:60]}"
    uri = text(mapping(part.get("fileData")).get("fileUri"))
    if "fileData" in part and not (uri or "").startswith(_FILES):
        yield f"{at}: Cannot fetch content from the provided URL."


def _of_turns(contents: Sequence[Mapping[str, object]]) -> Iterator[str]:
    """Calls are answered by the very next turn, one response each; nothing else ends a conversation than a user's turn."""
    if contents and contents[-1].get("role") == "model":
        yield "Please ensure that multiturn requests end with a user role or a function response."
    owed: list[object] = []
    for content in contents:
        parts = parts_of(content)
        answered = [mapping(part["functionResponse"]).get("name") for part in parts if "functionResponse" in part]
        if sorted(map(str, answered)) != sorted(map(str, owed)):
            yield (
                "Please ensure that the number of function response parts is equal to the number of function call parts "
                "of the function call turn."
            )
        owed = [mapping(part["functionCall"]).get("name") for part in parts if "functionCall" in part]
        if owed and content.get("role") != "model":
            yield "Please ensure that function call turns have the role model."


def _of_signatures(contents: Sequence[Mapping[str, object]], model: str) -> Iterator[str]:
    """A signature that comes back has to be the one that went out; newer models insist on one in each step's first call."""
    insists = not any(fnmatchcase(model.rpartition("/")[2], pattern) for pattern in _UNSIGNED_MODELS)
    for n, content in enumerate(contents):
        calls = [part for part in parts_of(content) if "functionCall" in part]
        for m, part in enumerate(calls):
            signed = text(part.get("thoughtSignature"))
            own = signature(mapping(part["functionCall"]))
            if signed and not same(signed, PLACEHOLDER) and not same(signed, own):
                yield f"Thought signature is not valid in function call {m} of content {n}."
            if insists and m == 0 and not signed:
                name = mapping(part["functionCall"]).get("name")
                yield (
                    f"Function call is missing a thought_signature in functionCall parts. Additional data, function call "
                    f"`default_api:{name}`, position {n}."
                )


def _of_tools(request: Mapping[str, object]) -> Iterator[str]:
    names: list[str] = []
    for tool in items(request.get("tools")):
        for declared in items(mapping(tool).get("functionDeclarations")):
            name = text(mapping(declared).get("name")) or ""
            if not _NAME.fullmatch(name):
                yield f"Invalid function name {name[:64]!r}. Must start with a letter or an underscore."
            if name in names:
                yield f"Duplicate function declaration found: {name[:64]}"
            if "parameters" in mapping(declared) and "parametersJsonSchema" in mapping(declared):
                yield "Only one of parameters and parameters_json_schema may be set."
            names.append(name)
    calling = mapping(mapping(request.get("toolConfig")).get("functionCallingConfig"))
    if calling and not names:
        yield "Function calling config is set without function_declarations."
    allowed = [str(name) for name in items(calling.get("allowedFunctionNames"))]
    if allowed and calling.get("mode") not in ("ANY", "VALIDATED"):
        yield "allowed_function_names should only be set when mode is ANY or VALIDATED."
    if set(allowed) - set(names):
        yield "allowed_function_names contains a function that is not declared."


def _of_config(request: Mapping[str, object], model: str) -> Iterator[str]:
    config = mapping(request.get("generationConfig"))
    for name, (least, most) in _RANGES.items():
        chosen = config.get(name)
        if isinstance(chosen, int | float) and not least <= chosen <= most:
            yield f"Invalid value at 'generation_config.{name}': must be between {least:g} and {most:g}."
    if config.get("candidateCount", 1) != 1:
        yield "Only one candidate can be specified"
    if len(items(config.get("stopSequences"))) > 5:
        yield "The number of stop sequences must not exceed 5."
    if "logprobs" in config and config.get("responseLogprobs") is not True:
        yield "logprobs requires response_logprobs to be true."
    thinking = mapping(config.get("thinkingConfig"))
    if "thinkingBudget" in thinking and "thinkingLevel" in thinking:
        yield "You can only set only one of thinking budget and thinking level."
    old = any(fnmatchcase(model.rpartition("/")[2], pattern) for pattern in _UNSIGNED_MODELS)
    if old and "thinkingLevel" in thinking:
        yield "Thinking level is not supported for this model."
    if old and request.get("tools") and config.get("responseMimeType") == "application/json":
        yield "Function calling with a response mime type: 'application/json' is unsupported"
    schema = "responseSchema" in config or "responseJsonSchema" in config
    if schema and config.get("responseMimeType") != "application/json":
        yield "response_mime_type must be application/json when a response schema is set."
