"""Which input lines and which chat bodies are refused.

A line has `custom_id` and `body` and nothing else: what else it has fails the whole job in validation. What is wrong with the
body fails that line. How strict the real API is with fields that its schema does not have is not known; here all that OpenAI
has and Together has not is refused, so that a client that sends it is found out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import orjson

from gateway.sandbox import Line, Problem

_FRAME = frozenset({"custom_id", "body"})
_MAX_NAME = 64
#: Fields of OpenAI that are not in the schema, less those that the API is known to take all the same.
_FOREIGN = frozenset(
    {
        *("audio", "functions", "max_completion_tokens", "metadata", "modalities", "moderation", "prediction"),
        *("prompt_cache_options", "prompt_cache_retention", "safety_identifier", "service_tier", "store"),
        *("top_logprobs", "user", "verbosity", "web_search_options"),
        # Names that only a gateway gives; one that sends them has a leak.
        *("cache", "custom_id"),
    }
)
_KNOWN = frozenset(
    {
        *("model", "messages", "stream", "stream_options", "prompt_cache_key", "chat_template_kwargs", "compliance"),
        *("context_length_exceeded_behavior", "function_call", "reasoning", "safety_model"),
    }
)
#: Types of well-known fields; null is no value here.
_TYPES: Mapping[str, tuple[type, ...]] = MappingProxyType(
    {
        "echo": (bool,),
        "frequency_penalty": (int, float),
        "logit_bias": (dict,),
        "logprobs": (int,),
        "max_tokens": (int,),
        "min_p": (int, float),
        "n": (int,),
        "parallel_tool_calls": (bool,),
        "presence_penalty": (int, float),
        "reasoning_effort": (str,),
        "repetition_penalty": (int, float),
        "response_format": (dict,),
        "seed": (int,),
        "stop": (list,),
        "temperature": (int, float),
        "tool_choice": (str, dict),
        "tools": (list,),
        "top_k": (int,),
        "top_p": (int, float),
    }
)
_RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "frequency_penalty": (-2, 2),
        "logprobs": (0, 20),
        "max_tokens": (1, 1_000_000),
        "n": (1, 128),
        "presence_penalty": (-2, 2),
        "temperature": (0, 2),
        "top_p": (0, 1),
    }
)
_USER_PARTS = frozenset({"text", "image_url", "video_url", "audio_url", "input_audio"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyProblem:
    """What a 400 says of a body."""

    message: str
    param: str


def read_frame(raw: bytes) -> Line:
    """One input line; its `problem` says what is wrong with its frame."""
    try:
        frame = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return Line(custom_id="", problem=_invalid("not valid JSON", ""))
    if not isinstance(frame, dict):
        return Line(custom_id="", problem=_invalid("not a JSON object", ""))
    name, body = frame.get("custom_id"), frame.get("body")
    known = name if isinstance(name, str) else ""
    problem = _frame_problem(known, frame)
    if problem is not None or not isinstance(body, dict):
        return Line(custom_id=known, problem=problem)
    return Line(custom_id=known, model=str(body["model"]), body=body)


def chat_problem(body: Mapping[str, object], *, strict: bool = False) -> BodyProblem | None:
    """What is wrong with the body of a chat completion; `strict` refuses fields that nobody knows."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return BodyProblem(message="messages must be a non-empty array", param="messages")
    for n, message in enumerate(messages):
        problem = _message_problem(message)
        if problem is not None:
            return BodyProblem(message=f"messages[{n}]: {problem}", param=f"messages[{n}]")
    for field, content in body.items():
        problem = _field_problem(field, content, strict=strict)
        if problem is not None:
            return BodyProblem(message=f"{field}: {problem}", param=field)
    return None


def _frame_problem(name: str, frame: Mapping[str, object]) -> Problem | None:
    if not 0 < len(name) <= _MAX_NAME:
        return _invalid("custom_id must be a string of 1 to 64 characters", "custom_id")
    if strange := frame.keys() - _FRAME:
        return _invalid(f"unknown field {min(strange)[:64]!r}", min(strange)[:64])
    body = frame.get("body")
    if not isinstance(body, dict):
        return _invalid("body must be an object", "body")
    if not isinstance(body.get("model"), str) or not body["model"]:
        return _invalid("body.model must name a model", "body.model")
    if body.get("stream"):
        return _invalid("a batch cannot stream", "body.stream")
    return None


def _invalid(message: str, param: str) -> Problem:
    return Problem(code="invalid_request", message=message, param=param)


def _message_problem(message: object) -> str | None:
    if not isinstance(message, dict):
        return "must be an object"
    role, content = message.get("role"), message.get("content")
    if role == "user" and isinstance(content, list):
        fine = content and all(isinstance(part, dict) and part.get("type") in _USER_PARTS for part in content)
        return None if fine else "unknown part of content"
    if role == "assistant":
        if "tool_calls" in message and not message["tool_calls"]:
            return "tool_calls must not be empty"
        return None if content is None or isinstance(content, str) else "content must be a string"
    if role not in ("system", "user", "tool"):
        return f"unknown role {str(role)[:40]!r}"
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        return "tool_call_id is required"
    return None if isinstance(content, str) else "content must be a string"


def _field_problem(field: str, content: object, *, strict: bool) -> str | None:
    kinds = _TYPES.get(field)
    if field in _FOREIGN or (strict and kinds is None and field not in _KNOWN):
        return "is no parameter of this API"
    if kinds is None:
        return None
    if not isinstance(content, kinds) or (isinstance(content, bool) and bool not in kinds):
        return "has the wrong type"
    least, most = _RANGES.get(field, (0, 0))
    if field in _RANGES and isinstance(content, int | float) and not least <= content <= most:
        return f"must be between {least:g} and {most:g}"
    return None
