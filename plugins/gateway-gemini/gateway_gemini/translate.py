"""From a chat request to a `GenerateContentRequest`, in the REST API's own JSON names. Pure; both of Google's APIs take it.

The way back is `gateway_gemini.answer`, whose `chat_answer` and `grpc_status` can be had here too.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway import Unsupported
from gateway.chat import ChatRequest, Effort, JsonSchema
from gateway_gemini.answer import chat_answer, grpc_status
from gateway_gemini.contents import contents_of, system_of
from gateway_gemini.dialect import Dialect, Family
from gateway_gemini.tooling import tool_fields

__all__ = ["chat_answer", "dropped_fields", "generate_content_request", "grpc_status"]

_STANDARD = Dialect()
_INT32 = 1 << 31
_MAX_STOPS = 5
_MAX_LOGPROBS = 20


def generate_content_request(request: ChatRequest, dialect: Dialect = _STANDARD) -> dict[str, object]:
    """The request in camelCase, without a model.

    Raises `Unsupported`, naming the caller's field, for what Gemini cannot say.
    """
    family = dialect.family(request.model)
    wanted: dict[str, object] = {"contents": contents_of(request, dialect, family)}
    system = system_of(request, dialect)
    if system:
        wanted["systemInstruction"] = {"parts": [{"text": text.text} for text in system]}
    wanted |= tool_fields(request)
    config = _generation_config(request, dialect, family)
    if config:
        wanted["generationConfig"] = config
    return wanted


def dropped_fields(request: ChatRequest) -> Sequence[str]:
    """Fields that `generate_content_request` leaves out: their loss changes no meaning."""
    dropped = list(request.hints)
    dropped += [f"{tool.field}.strict" for tool in request.tools if tool.strict]
    if isinstance(request.response_format, JsonSchema) and request.response_format.description:
        dropped.append("response_format.json_schema.description")
    return dropped


def _generation_config(request: ChatRequest, dialect: Dialect, family: Family) -> dict[str, object]:
    config: dict[str, object] = {
        "maxOutputTokens": request.max_tokens,
        "temperature": request.temperature,
        "topP": request.top_p,
        "topK": request.top_k,
        "candidateCount": _candidates(request, family),
        "seed": _seed(request),
        "presencePenalty": _penalty("presence_penalty", request.presence_penalty),
        "frequencyPenalty": _penalty("frequency_penalty", request.frequency_penalty),
        "stopSequences": _stops(request),
        "responseLogprobs": True if request.logprobs else None,
        "logprobs": _top_logprobs(request),
        "thinkingConfig": _thinking(request, dialect, family),
    } | _format(request, family)
    return {name: chosen for name, chosen in config.items() if chosen is not None}


def _candidates(request: ChatRequest, family: Family) -> int | None:
    if request.n > family.max_candidates:
        raise Unsupported(
            "n", f"{request.model} gives at most {family.max_candidates} answer to one request in a batch"
        )
    return request.n if request.n > 1 else None


def _seed(request: ChatRequest) -> int | None:
    if request.seed is not None and not -_INT32 <= request.seed < _INT32:
        raise Unsupported("seed", "Gemini's seed is a 32-bit integer")
    return request.seed


def _penalty(name: str, penalty: float | None) -> float | None:
    """Zero says nothing; the range is open at 2."""
    if penalty is not None and not -2.0 <= penalty < 2.0:
        raise Unsupported(name, f"Gemini takes {name} from -2 to below 2")
    return penalty or None


def _stops(request: ChatRequest) -> list[str] | None:
    if len(request.stop) > _MAX_STOPS:
        raise Unsupported("stop", f"Gemini takes at most {_MAX_STOPS} stop sequences")
    return list(request.stop) or None


def _top_logprobs(request: ChatRequest) -> int | None:
    if request.top_logprobs is not None and request.top_logprobs > _MAX_LOGPROBS:
        raise Unsupported("top_logprobs", f"Gemini gives at most {_MAX_LOGPROBS} alternatives")
    return request.top_logprobs or None


def _thinking(request: ChatRequest, dialect: Dialect, family: Family) -> dict[str, object] | None:
    thinking: dict[str, object] = {}
    if request.effort is not None:
        thinking |= _effort(request.effort, request.model, family)
    if dialect.include_thoughts and family.efforts and request.effort is not Effort.NONE:
        thinking["includeThoughts"] = True
    return thinking or None


def _effort(effort: Effort, model: str, family: Family) -> dict[str, object]:
    """A budget or a level; never both, which the API refuses."""
    chosen = family.efforts.get(effort.value)
    if chosen is None:
        known = ", ".join(family.efforts) or "none at all"
        raise Unsupported("reasoning_effort", f"{model} has no reasoning effort {effort.value!r}; known: {known}")
    return {"thinkingLevel": chosen} if isinstance(chosen, str) else {"thinkingBudget": chosen}


def _format(request: ChatRequest, family: Family) -> dict[str, object]:
    wanted = request.response_format
    if wanted is None:
        return {}
    if request.tools and not family.json_with_tools:
        raise Unsupported("response_format", f"{request.model} takes JSON output only without tools")
    fields: dict[str, object] = {"responseMimeType": "application/json"}
    if isinstance(wanted, JsonSchema):
        fields["responseJsonSchema"] = dict(wanted.schema)
    return fields
