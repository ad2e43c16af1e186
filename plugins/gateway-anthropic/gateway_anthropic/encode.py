"""From a caller's chat completion to the params of a Message. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from gateway import Call, Unsupported
from gateway.chat import ChatRequest, JsonObject, JsonSchema, read_chat
from gateway_anthropic.messages import Conversation, write_messages
from gateway_anthropic.models import Traits, traits_of
from gateway_anthropic.schemas import closed_schema
from gateway_anthropic.settings import SAMPLING_VERSION, AnthropicSettings
from gateway_anthropic.thinking import Thinking, write_thinking
from gateway_anthropic.tools import write_tools

CHAT = "/v1/chat/completions"
_LONGEST_USER = 256
#: A model that thinks takes no `top_p` below.
_LEAST_THINKING_TOP_P = 0.95
_JSON_ONLY = "Answer with a single JSON object and nothing else: no explanation, no code fence."


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """A Message's params, and the caller's fields that they leave out."""

    content: dict[str, object]
    dropped: tuple[str, ...]


def encode_line(call: Call, settings: AnthropicSettings) -> bytes:
    """One request of a batch without its `custom_id`. Raises `Unsupported`."""
    try:
        return orjson.dumps({"params": write_params(call, settings).content})
    except orjson.JSONEncodeError as error:
        raise Unsupported("messages", f"the request cannot be sent as JSON: {error}") from None


def asked_schema(payload: bytes) -> Mapping[str, object] | None:
    """The schema that `encode_line` put into `payload`, closed as the provider wants it; None: there is none."""
    if b'"json_schema"' not in payload:
        return None
    config = orjson.loads(payload)["params"].get("output_config")
    schema = config["format"]["schema"] if config and "format" in config else None
    return schema if isinstance(schema, dict) else None


def write_params(call: Call, settings: AnthropicSettings) -> Params:
    """What the provider is asked for `call`. Raises `Unsupported`, naming the field."""
    if call.endpoint != CHAT:
        raise Unsupported("endpoint", f"this provider serves {CHAT} only")
    request = read_chat(call.body)
    traits = traits_of(call.model, settings.models)
    _refuse(request)
    conversation = write_messages(request, late_system=settings.late_system, prefill=traits.prefill)
    max_tokens = _max_tokens(request, traits, settings)
    thinking = write_thinking(
        request.effort, traits, settings, max_tokens=max_tokens, thoughtful=conversation.thoughtful
    )
    if thinking.by_budget and conversation.messages[-1]["role"] == "assistant":
        raise Unsupported("reasoning_effort", "a model that thinks by budget does not go on from the assistant's words")
    sampling = _Sampling(request=request, traits=traits, settings=settings, thinking=thinking)
    content: dict[str, object] = {"model": call.model, "max_tokens": max_tokens, "messages": conversation.messages}
    content |= _system(request, conversation, settings)
    content |= write_tools(request, forced=traits.forced_tools, thinking_by_budget=thinking.by_budget)
    content |= _output(request, thinking)
    content |= sampling.sent()
    content |= _rest(request, thinking)
    return Params(content=content, dropped=_dropped(call, request, thinking, sampling))


def _refuse(request: ChatRequest) -> None:
    """Fields that have no word here and change the answer."""
    for field, amount in (
        ("presence_penalty", request.presence_penalty),
        ("frequency_penalty", request.frequency_penalty),
    ):
        if amount:
            raise Unsupported(field, "the provider has no penalties; leave it out, or 0")
    if request.logprobs or request.top_logprobs:
        raise Unsupported("logprobs", "the provider shows no log probabilities")
    if any(not stop.strip() for stop in request.stop):
        raise Unsupported("stop", "the provider takes no stop sequence of white space only")
    if request.n > 1:
        raise Unsupported("n", "the provider gives one answer to each request")


def _max_tokens(request: ChatRequest, traits: Traits, settings: AnthropicSettings) -> int:
    most = traits.max_output_tokens
    if request.max_tokens is None:
        wanted = traits.max_tokens or settings.max_tokens
        return wanted if most is None else min(wanted, most)
    if most is not None and request.max_tokens > most:
        raise Unsupported("max_tokens", f"this model writes {most} tokens at most")
    return request.max_tokens


def _system(request: ChatRequest, conversation: Conversation, settings: AnthropicSettings) -> dict[str, object]:
    blocks = list(conversation.system)
    if isinstance(request.response_format, JsonObject):
        if settings.json_object == "refuse":
            reason = "the provider has no such mode; use json_schema, or have json_object = 'instruct' configured"
            raise Unsupported("response_format", reason)
        blocks.append({"type": "text", "text": _JSON_ONLY})
    return {"system": blocks} if blocks else {}


def _output(request: ChatRequest, thinking: Thinking) -> dict[str, object]:
    config: dict[str, object] = {}
    if thinking.effort is not None:
        config["effort"] = thinking.effort
    if isinstance(request.response_format, JsonSchema):
        schema = closed_schema(request.response_format.schema, "response_format.json_schema.schema")
        config["format"] = {"type": "json_schema", "schema": schema}
    return {"output_config": config} if config else {}


def _rest(request: ChatRequest, thinking: Thinking) -> dict[str, object]:
    content: dict[str, object] = {}
    if thinking.config is not None:
        content["thinking"] = dict(thinking.config)
    if request.stop:
        content["stop_sequences"] = list(request.stop)
    if request.user and len(request.user) <= _LONGEST_USER:
        content["metadata"] = {"user_id": request.user}
    return content


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sampling:
    """`temperature`, `top_p` and `top_k`: sent, refused or left out. 1 is what the provider does by itself."""

    request: ChatRequest
    traits: Traits
    settings: AnthropicSettings
    thinking: Thinking

    def sent(self) -> dict[str, object]:
        """The fields that are sent. Raises `Unsupported`."""
        asked = self._asked()
        impossible = self.dropped()
        if impossible and self.settings.sampling == "refuse":
            raise Unsupported(impossible[0], self._reason(impossible[0]))
        temperature = asked.get("temperature")
        if temperature is not None and temperature > 1 and "temperature" not in impossible:
            raise Unsupported("temperature", "the provider takes 0 to 1")
        return {name: number for name, number in asked.items() if name not in impossible}

    def dropped(self) -> list[str]:
        """The names of those that cannot be sent."""
        return [name for name, number in self._asked().items() if not self._possible(name, number)]

    def _asked(self) -> dict[str, float]:
        request = self.request
        fields = {"temperature": request.temperature, "top_p": request.top_p, "top_k": request.top_k}
        return {
            name: number for name, number in fields.items() if number is not None and (name == "top_k" or number != 1)
        }

    def _possible(self, name: str, number: float) -> bool:
        if self.settings.api_version != SAMPLING_VERSION or not self.traits.sampling:
            return False
        if self.thinking.on and not (name == "top_p" and number >= _LEAST_THINKING_TOP_P):
            return False
        return name != "top_p" or self.traits.sampling_pair or "temperature" not in self._asked()

    def _reason(self, name: str) -> str:
        otherwise = "or have sampling = 'drop' configured"
        if self.settings.api_version != SAMPLING_VERSION or not self.traits.sampling:
            return f"the provider takes no sampling fields here; leave it out, {otherwise}"
        if self.thinking.on:
            return f"cannot be set so together with thinking; leave one of them out, {otherwise}"
        return f"{name} and temperature cannot both be set for this model; leave one of them out, {otherwise}"


def _dropped(call: Call, request: ChatRequest, thinking: Thinking, sampling: _Sampling) -> tuple[str, ...]:
    names = [*request.hints, *sampling.dropped()]
    if request.seed is not None:
        names.append("seed")
    if thinking.dropped:
        names.append("reasoning_effort")
    if request.user and len(request.user) > _LONGEST_USER:
        names.append("safety_identifier" if call.body.get("safety_identifier") else "user")
    wanted = request.response_format
    if isinstance(wanted, JsonSchema) and wanted.description:
        names.append("response_format.json_schema.description")
    return tuple(dict.fromkeys(names))
