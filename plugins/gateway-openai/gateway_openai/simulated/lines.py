"""Which input lines and which chat bodies are refused, as strictly as the provider refuses them.

What is wrong with a line's frame fails the whole batch in validation; what is wrong with the body inside it fails that line
with a 400 when it is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import orjson

from gateway.sandbox import Line, Problem

_FRAME = frozenset({"custom_id", "method", "url", "body"})
_MAX_NAME = 64
#: Names that only a gateway gives; one that sends them has a leak.
_PRIVATE = frozenset({"cache", "custom_id"})
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})

#: Types of well-known fields; null stands for absent.
_TYPES: Mapping[str, tuple[type, ...]] = MappingProxyType(
    {
        "temperature": (int, float),
        "top_p": (int, float),
        "frequency_penalty": (int, float),
        "presence_penalty": (int, float),
        "n": (int,),
        "max_tokens": (int,),
        "max_completion_tokens": (int,),
        "seed": (int,),
        "logprobs": (bool,),
        "top_logprobs": (int,),
        "stop": (str, list),
        "tools": (list,),
        "tool_choice": (str, dict),
        "parallel_tool_calls": (bool,),
        "response_format": (dict,),
        "logit_bias": (dict,),
        "user": (str,),
        "metadata": (dict,),
        "store": (bool,),
        "reasoning_effort": (str,),
    }
)
_RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "temperature": (0, 2),
        "top_p": (0, 1),
        "n": (1, 128),
        "max_tokens": (1, 1_000_000),
        "max_completion_tokens": (1, 1_000_000),
        "frequency_penalty": (-2, 2),
        "presence_penalty": (-2, 2),
        "top_logprobs": (0, 20),
    }
)
#: Fields that are known and not checked any further.
_OTHERS = frozenset(
    {
        "model",
        "messages",
        "stream",
        "stream_options",
        "service_tier",
        "functions",
        "function_call",
        "modalities",
        "audio",
    }
    | {
        "prediction",
        "safety_identifier",
        "prompt_cache_key",
        "verbosity",
        "web_search_options",
        "prompt_cache_retention",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyProblem:
    """What a 400 says of a body."""

    message: str
    param: str | None = None
    code: str | None = None


def read_frame(raw: bytes, endpoint: str, *, loose: bool = False) -> Line:
    """One input line of a batch for `endpoint`; its `problem` says what is wrong with its frame.

    `loose`: its url may be the endpoint with or without `/v1`.
    """
    try:
        frame = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return _unparsable("This line is not parseable as valid JSON.")
    if not isinstance(frame, dict):
        return _unparsable("This line is not a JSON object.")
    name, body = frame.get("custom_id"), frame.get("body")
    known = name if isinstance(name, str) else ""
    if loose and str(frame.get("url")).removeprefix("/v1") == endpoint.removeprefix("/v1"):
        frame["url"] = endpoint
    problem = _frame_problem(known, frame, endpoint) or _content_problem(body)
    if problem is not None or not isinstance(body, dict):
        return Line(custom_id=known, problem=problem)
    return Line(custom_id=known, model=str(body["model"]), body=body)


def chat_problem(
    body: Mapping[str, object], *, strict: bool = False, refused: frozenset[str] = frozenset(), names: bool = True
) -> BodyProblem | None:
    """What is wrong with the body of a chat completion; `strict` refuses fields that are not known.

    `refused` fields are not supported at all; without `names`, neither are names of messages.
    """
    for field in sorted(refused & body.keys()):
        if not (field == "n" and body[field] == 1):
            return BodyProblem(message=f"property '{field}' is unsupported", param=field, code="unsupported_parameter")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return BodyProblem(message="'messages' must be an array with at least one message.", param="messages")
    for index, message in enumerate(messages):
        problem = _message_problem(message, f"messages.[{index}]")
        if problem is not None:
            return problem
        if not names and "name" in message and message["role"] != "tool":
            return BodyProblem(message="'name' is unsupported", param=f"messages.[{index}].name")
    for field, content in body.items():
        problem = _field_problem(field, content, strict=strict)
        if problem is not None:
            return problem
    return None


def metadata_problem(metadata: object) -> str | None:
    """What is wrong with a batch's metadata."""
    if metadata is None:
        return None
    if not isinstance(metadata, dict):
        return "metadata must be an object."
    if len(metadata) > 16:
        return "metadata has more than 16 pairs."
    for key, text in metadata.items():
        if len(key) > 64:
            return "a metadata key is longer than 64 characters."
        if not isinstance(text, str) or len(text) > 512:
            return "a metadata value is no string of at most 512 characters."
    return None


def _frame_problem(name: str, frame: Mapping[str, object], endpoint: str) -> Problem | None:
    """What is wrong around the body."""
    if not 0 < len(name) <= _MAX_NAME:
        return _invalid("custom_id must be a string of 1 to 64 characters.", "custom_id")
    if strange := frame.keys() - _FRAME:
        return _invalid(f"Unknown field '{min(strange)[:64]}' in this line.", min(strange)[:64])
    if frame.get("method") != "POST":
        return _invalid("method must be POST.", "method")
    if frame.get("url") != endpoint:
        return Problem(code="url_mismatch", message=f"The url must be the batch's endpoint, {endpoint}.", param="url")
    return None


def _content_problem(body: object) -> Problem | None:
    """What makes a body unfit for any batch, whatever its endpoint says of it."""
    if not isinstance(body, dict):
        return _invalid("body must be an object.", "body")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        return Problem(code="model_not_found", message="body.model must name a model.", param="body.model")
    if body.get("stream"):
        return _invalid("A batch cannot stream.", "body.stream")
    if leaked := body.keys() & _PRIVATE:
        return _invalid(f"Unrecognized request argument supplied: {min(leaked)}", f"body.{min(leaked)}")
    return None


def _invalid(message: str, param: str) -> Problem:
    return Problem(code="invalid_request", message=message, param=param)


def _unparsable(message: str) -> Line:
    return Line(custom_id="", problem=Problem(code="invalid_json_line", message=message))


def _message_problem(message: object, where: str) -> BodyProblem | None:
    if not isinstance(message, dict):
        return BodyProblem(message=f"{where} must be an object.", param=where)
    role, content = message.get("role"), message.get("content")
    if role not in _ROLES:
        return BodyProblem(message=f"{where}.role is not a known role.", param=f"{where}.role")
    if isinstance(content, str) or (content is None and role == "assistant"):
        return None
    if isinstance(content, list) and content and all(isinstance(part, dict) and "type" in part for part in content):
        return None
    return BodyProblem(message=f"{where}.content must be text or an array of parts.", param=f"{where}.content")


def _field_problem(field: str, content: object, *, strict: bool) -> BodyProblem | None:
    kinds = _TYPES.get(field)
    if kinds is None:
        if not strict or field in _OTHERS:
            return None
        return BodyProblem(message=f"Unrecognized request argument supplied: {field}", param=field)
    if content is None:
        return None
    if not isinstance(content, kinds) or (isinstance(content, bool) and bool not in kinds):
        return BodyProblem(message=f"Invalid type for '{field}'.", param=field, code="invalid_type")
    least, most = _RANGES.get(field, (0, 0))
    if field in _RANGES and isinstance(content, int | float) and not least <= content <= most:
        return BodyProblem(
            message=f"'{field}' must be between {least:g} and {most:g}.", param=field, code="invalid_value"
        )
    return None
