"""From a caller's body to the bytes that are stored and sent. Pure.

What Together's schema has goes as it is, what it has under another name is translated, what changes the answer and has no
place there is refused, and what is only a hint is left out and named. Fields that neither OpenAI nor we know pass: the
schema does not forbid them, and Together has many of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gateway import Call, Unsupported
from gateway.chat import plain_ids
from gateway.provider import dump_body
from gateway_together.messages import sent_messages

CHAT = "/v1/chat/completions"

#: The gateway's own business: it streams stored answers itself, and keeps metadata.
_OURS = frozenset({"stream", "stream_options", "metadata", "service_tier", "store"})
#: Hints without a place in the schema: left out, and named by `dropped_fields`.
_HINTS = frozenset(
    {
        *("user", "safety_identifier", "verbosity", "prediction"),
        *("prompt_cache_options", "prompt_cache_retention"),
    }
)
#: Fields without a place in the schema that would change the answer.
_REFUSED = ("audio", "web_search_options", "moderation", "functions")
#: Tiers that mean what a batch is anyway.
_BATCH_TIERS = frozenset({None, "auto", "default", "flex", "batch"})
#: OpenAI's levels -> the three of the schema; `none` is another field there.
_EFFORTS: Mapping[str, str] = MappingProxyType({"minimal": "low", "xhigh": "high", "max": "high"})
_MAX_LOGPROBS = 20


def encode_line(call: Call) -> bytes:
    """One input line without its `custom_id`. Raises `Unsupported`."""
    return b'{"body":%b}' % dump_body(sent_body(call))


def sent_body(call: Call) -> dict[str, object]:
    """The caller's body in Together's dialect; null stands for absent. Raises `Unsupported`."""
    if call.endpoint != CHAT:
        raise Unsupported("endpoint", f"Together's batches serve {CHAT}, not {call.endpoint[:60]}")
    _check_tier(call.body.get("service_tier"))
    left_out = _OURS | _HINTS
    body = {key: field for key, field in call.body.items() if field is not None and key not in left_out}
    for field in _REFUSED:
        # An empty list of functions offers none; empty options of a search still ask for one.
        if field in body and body.pop(field) != []:
            raise Unsupported(field, f"Together's batches do not support {field}")
    _check_modalities(body.pop("modalities", None))
    _check_tools(body)
    body["messages"] = sent_messages(plain_ids(body.get("messages")))
    if "max_completion_tokens" in body:
        body["max_tokens"] = body.pop("max_completion_tokens")
    translated = _stop(body.pop("stop", None)) | _logprobs(body) | _effort(body)
    return body | translated


def dropped_fields(call: Call) -> tuple[str, ...]:
    """Names of the fields that `sent_body` leaves out and the gateway does not see to itself."""
    hints = [field for field in call.body if field in _HINTS and call.body[field] is not None]
    return (*hints, "store") if call.body.get("store") else tuple(hints)


def _check_tier(tier: object) -> None:
    if not (tier is None or isinstance(tier, str)) or tier not in _BATCH_TIERS:
        shown = tier if isinstance(tier, str) else type(tier).__name__
        raise Unsupported(
            "service_tier", f"a batch has no service tier {str(shown)[:40]!r}; leave it out or use 'auto'"
        )


def _check_modalities(wanted: object) -> None:
    if wanted is not None and wanted != ["text"]:
        raise Unsupported("modalities", "Together's chat completions answer in text only")


def _check_tools(body: Mapping[str, object]) -> None:
    """Functions are the only tools there are."""
    tools, choice = body.get("tools"), body.get("tool_choice")
    for n, tool in enumerate(tools if isinstance(tools, list) else ()):
        if not isinstance(tool, dict) or tool.get("type", "function") != "function":
            raise Unsupported(f"tools[{n}].type", "Together knows no tools but functions")
    if isinstance(choice, dict) and choice.get("type", "function") != "function":
        raise Unsupported("tool_choice.type", f"Together has no tool_choice {str(choice.get('type'))[:40]!r}")


def _stop(stop: object) -> dict[str, object]:
    """An array in the schema; none at all is as good as an empty one."""
    if not stop:
        return {}
    return {"stop": [stop] if isinstance(stop, str) else stop}


def _logprobs(body: dict[str, object]) -> dict[str, object]:
    """One number in the schema: of how many tokens at each place. A number already is Together's own way to ask."""
    wanted, top = body.pop("logprobs", None), body.pop("top_logprobs", None)
    if not (wanted is None or isinstance(wanted, int)):
        raise Unsupported("logprobs", "logprobs must be a boolean")
    if top and wanted is not True:
        raise Unsupported("top_logprobs", "top_logprobs needs logprobs: true")
    if top is not None and (not isinstance(top, int) or isinstance(top, bool) or not 0 <= top <= _MAX_LOGPROBS):
        raise Unsupported("top_logprobs", f"top_logprobs must be a number from 0 to {_MAX_LOGPROBS}")
    if wanted is None or wanted is False:
        return {}
    return {"logprobs": max(1, top or 1) if wanted is True else wanted}


def _effort(body: dict[str, object]) -> dict[str, object]:
    """Three levels in the schema, and a switch; the caller's own `reasoning` is not overruled."""
    effort = body.pop("reasoning_effort", None)
    if effort is None:
        return {}
    if effort == "none":
        return {"reasoning": body.get("reasoning", {"enabled": False})}
    return {"reasoning_effort": _EFFORTS.get(effort, effort) if isinstance(effort, str) else effort}
