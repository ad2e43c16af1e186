"""From a caller's body to one that Mistral accepts, whose schema forbids every field it does not know. Pure.

What cannot be said there is refused at admission: the provider would say no when the job runs, hours later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gateway import Unsupported
from gateway_mistral.messages import translated_messages
from gateway_mistral.parts import as_object
from gateway_mistral.tooling import translated_choice, translated_format, translated_tools


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """A body for the provider, and what was left out of it."""

    body: Mapping[str, object]
    #: Dotted names of the caller's fields.
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Number:
    """What a number may be."""

    least: float
    most: float = 2**53
    whole: bool = False


_NUMBERS: Mapping[str, _Number] = MappingProxyType(
    {
        "temperature": _Number(least=0, most=1.5),
        "top_p": _Number(least=0, most=1),
        "presence_penalty": _Number(least=-2, most=2),
        "frequency_penalty": _Number(least=-2, most=2),
        "max_tokens": _Number(least=1, whole=True),
        "max_completion_tokens": _Number(least=1, whole=True),
        "random_seed": _Number(least=0, whole=True),
        "seed": _Number(least=0, whole=True),
        "n": _Number(least=1, whole=True),
    }
)
#: Fields of other types that are sent as they are.
_AS_THEY_ARE: Mapping[str, type] = MappingProxyType(
    {
        "model": str,
        "parallel_tool_calls": bool,
        "prompt_mode": str,
        "guardrails": list,
        "prompt_cache_key": str,
        "safe_prompt": bool,
    }
)
_NEW_NAMES = MappingProxyType({"max_completion_tokens": "max_tokens", "seed": "random_seed"})
#: Where both an old and a new name are set, the new one counts, as at OpenAI.
_OVERRULED = MappingProxyType({"max_tokens": "max_completion_tokens", "random_seed": "seed"})
#: A batch has nobody to stream to; the gateway streams the stored answer itself.
_STREAMING = frozenset({"stream", "stream_options"})
#: Hints and notes: the answer means the same without them.
_HINTS = frozenset(
    {
        *("user", "safety_identifier", "metadata", "store", "verbosity"),
        *("prompt_cache_retention", "prompt_cache_options"),
    }
)
_TIERS = frozenset({"auto", "default", "flex", "batch", "standard_only"})
_EFFORTS = frozenset({"none", "minimal", "low", "medium", "high", "xhigh", "max"})
#: Fields that change what the answer holds -> the values that change nothing.
_REFUSED: Mapping[str, tuple[object, ...]] = MappingProxyType(
    {
        "logprobs": (False,),
        "top_logprobs": (0,),
        "logit_bias": ({},),
        "modalities": (["text"], []),
        "audio": (),
        "web_search_options": (),
        "moderation": (),
        "functions": ([],),
        "function_call": ("none", "auto"),
    }
)


def translate(body: Mapping[str, object], passing: frozenset[str] = frozenset()) -> Translation:
    """`body` in Mistral's words; fields in `passing` go as they are. Raises `Unsupported`."""
    dropped: list[str] = []
    sent: dict[str, object] = {}
    for field, content in body.items():
        if field in passing:
            sent[field] = content
        elif content is not None and field not in _STREAMING and body.get(_OVERRULED.get(field, "")) is None:
            _put(sent, field, content, dropped)
    _check_choice(sent)
    if "messages" not in sent:
        raise Unsupported("messages", "messages must be a list with at least one message")
    return Translation(body=sent, dropped=tuple(dropped))


def _put(sent: dict[str, object], field: str, content: object, dropped: list[str]) -> None:
    """Add one field of the caller's that is set."""
    if field in _NUMBERS:
        sent[_NEW_NAMES.get(field, field)] = _number(field, content, _NUMBERS[field])
    elif field in _AS_THEY_ARE:
        _put_as_it_is(sent, field, content)
    elif field == "messages":
        sent[field] = translated_messages(content, dropped)
    elif field in _WRITERS:
        written = _WRITERS[field](content)
        if written is not None:
            sent[field] = written
    elif field in _HINTS:
        if content not in (False, "", {}):
            dropped.append(field)
    else:
        _check_refused(field, content)


def _put_as_it_is(sent: dict[str, object], field: str, content: object) -> None:
    wanted = _AS_THEY_ARE[field]
    if not isinstance(content, wanted):
        raise Unsupported(field, f"{field} must be of type {wanted.__name__}")
    if content != []:
        sent[field] = content


def _check_refused(field: str, content: object) -> None:
    """Fields that the provider has no words for are in order while they say nothing."""
    if field not in _REFUSED:
        raise Unsupported(field, f"this provider does not know the field {field[:64]}")
    if content not in _REFUSED[field]:
        raise Unsupported(field, _REASONS.get(field, f"this provider's batches do not support {field}"))


_REASONS = MappingProxyType(
    {
        "functions": "functions are not supported here, use tools",
        "function_call": "function_call is not supported here, use tool_choice",
    }
)


def _number(field: str, content: object, allowed: _Number) -> int | float:
    kinds = (int,) if allowed.whole else (int, float)
    if isinstance(content, float) and allowed.whole and content.is_integer():
        content = int(content)
    if isinstance(content, bool) or not isinstance(content, kinds) or not allowed.least <= content <= allowed.most:
        wanted = "a whole number" if allowed.whole else "a number"
        most = "" if allowed.most > 2**52 else f" to {allowed.most:g}"
        raise Unsupported(field, f"{field} must be {wanted} from {allowed.least:g}{most} for this provider")
    return content


def _stop(content: object) -> str | list[str] | None:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(word, str) for word in content):
        raise Unsupported("stop", "stop must be a string or a list of strings")
    return content or None


def _prediction(content: object) -> dict[str, object]:
    """OpenAI has text or text parts, Mistral text."""
    prediction = as_object(content, "prediction")
    text = prediction.get("content")
    if isinstance(text, list) and all(isinstance(part, dict) for part in text):
        text = "".join(str(part.get("text", "")) for part in text)
    if prediction.get("type", "content") != "content" or not isinstance(text, str):
        raise Unsupported("prediction", "prediction must be of type content, with text")
    return {"type": "content", "content": text}


def _effort(content: object) -> str:
    if not isinstance(content, str) or content not in _EFFORTS:
        raise Unsupported("reasoning_effort", f"reasoning_effort must be one of {', '.join(sorted(_EFFORTS))}")
    return content


def _tier(content: object) -> None:
    if not isinstance(content, str) or content not in _TIERS:
        raise Unsupported("service_tier", "a batch has no service tier; leave it out or use 'auto'")


def _tools(content: object) -> list[dict[str, object]] | None:
    return translated_tools(content) or None


#: What each field becomes; None: nothing.
_WRITERS: Mapping[str, Callable[[object], object]] = MappingProxyType(
    {
        "tools": _tools,
        "tool_choice": translated_choice,
        "response_format": translated_format,
        "stop": _stop,
        "prediction": _prediction,
        "reasoning_effort": _effort,
        "service_tier": _tier,
    }
)


def _check_choice(sent: dict[str, object]) -> None:
    """Without tools there is nothing to choose."""
    if "tools" in sent:
        return
    sent.pop("parallel_tool_calls", None)
    if sent.pop("tool_choice", "none") not in ("none", "auto"):
        raise Unsupported("tool_choice", "tool_choice asks for a tool, and there are none")
