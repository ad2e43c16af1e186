"""Which params of a Message are refused, as strictly as the provider refuses them, and in its words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from gateway_anthropic.models import Traits, traits_of
from gateway_anthropic.settings import SAMPLING_VERSION
from gateway_anthropic.simulated.content import message_problems
from gateway_anthropic.simulated.signing import signature_problem

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_EFFORTS = frozenset({"low", "medium", "high", "xhigh", "max"})
_SAMPLING = ("temperature", "top_p", "top_k")

Params = Mapping[str, object]


def params_problem(params: Params, version: str, *, batched: bool) -> str | None:
    """The first thing that is wrong with `params` under an API version; None: they are good."""
    traits = traits_of(str(params.get("model")), {})
    return next(_problems(params, version, traits, batched=batched), None)


def _problems(params: Params, version: str, traits: Traits, *, batched: bool) -> Iterator[str]:
    yield from _fields(params)
    if batched and params.get("stream"):
        yield "stream: streaming is not supported in batch requests"
    if batched and params.get("speed") is not None:
        yield "speed: fast mode is not supported in batch requests"
    if batched and params.get("max_tokens") == 0:
        yield "max_tokens: must be greater than or equal to 1 in batch requests"
    yield from _sampling(params, version, traits)
    yield from message_problems(params, traits)
    yield from _tools(params, traits)
    yield from _thinking(params, traits)
    yield from _output(params)
    problem = signature_problem(params)
    if problem is not None:
        yield problem


def _fields(params: Params) -> Iterator[str]:
    for field in ("model", "max_tokens", "messages"):
        if field not in params:
            yield f"{field}: Field required"
    for field, content in params.items():
        fits = _FIELDS.get(field)
        if fits is None:
            yield f"{field}: Extra inputs are not permitted"
        elif not fits(content):
            yield f"{field}: Input should be valid"


def _sampling(params: Params, version: str, traits: Traits) -> Iterator[str]:
    for field in _SAMPLING:
        number = params.get(field)
        if field not in params:
            continue
        if version != SAMPLING_VERSION:
            yield f"{field}: Extra inputs are not permitted"
        elif not isinstance(number, int | float) or number < 0 or (field != "top_k" and number > 1):
            yield f"{field}: Input should be between 0 and 1"
        elif not traits.sampling and number != 1:
            yield f"{field}: is not supported for this model"
        elif field != "top_p" and number != 1 and _kind(params.get("thinking")) in ("enabled", "adaptive"):
            yield f"{field}: may only be set to 1 when thinking is enabled or in adaptive mode"
        elif field == "top_p" and number < 0.95 and _kind(params.get("thinking")) in ("enabled", "adaptive"):
            yield "top_p: must be greater than or equal to 0.95 or unset when thinking is enabled"
    if {"temperature", "top_p"} <= params.keys() and not traits.sampling_pair:
        yield "temperature and top_p cannot both be specified for this model"


def _tools(params: Params, traits: Traits) -> Iterator[str]:
    tools = _list(params.get("tools"))
    for n, tool in enumerate(tools):
        if not isinstance(tool, dict) or not _NAME.fullmatch(str(tool.get("name"))):
            yield f"tools.{n}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'"
            continue
        if strange := tool.keys() - _TOOL_FIELDS:
            yield f"tools.{n}.custom.{min(strange)}: Extra inputs are not permitted"
        schema = tool.get("input_schema")
        if not isinstance(schema, dict) or schema.get("type") != "object":
            yield f"tools.{n}.custom.input_schema.type: Field required"
        elif schema.keys() & {"anyOf", "oneOf", "allOf"}:
            yield f"tools.{n}.custom.input_schema: input_schema does not support oneOf, allOf, or anyOf at the top level"
        elif tool.get("strict") and (problem := closed_problem(schema)):
            yield f"tools.{n}.custom.input_schema: {problem}"
    if len({str(tool.get("name")) for tool in tools if isinstance(tool, dict)}) < len(tools):
        yield "tools: Tool names must be unique."
    yield from _choice(params, tools, traits)


def _choice(params: Params, tools: Sequence[object], traits: Traits) -> Iterator[str]:
    choice = params.get("tool_choice")
    if choice is None:
        return
    kind = _kind(choice)
    if kind not in ("auto", "any", "tool", "none") or not isinstance(choice, dict):
        yield "tool_choice: Input tag is not one of the expected tags: 'auto', 'any', 'tool', 'none'"
        return
    if not tools:
        yield "tool_choice: may only be specified while providing tools"
    if kind == "none" and "disable_parallel_tool_use" in choice:
        yield "tool_choice.none.disable_parallel_tool_use: Extra inputs are not permitted"
    if kind in ("any", "tool"):
        if not traits.forced_tools:
            yield f"tool_choice: type '{kind}' is not supported for this model"
        if _kind(params.get("thinking")) == "enabled":
            yield "Thinking may not be enabled when tool_choice forces tool use."
    if kind == "tool" and choice.get("name") not in {tool.get("name") for tool in tools if isinstance(tool, dict)}:
        yield f"Tool '{choice.get('name')}' not found in provided tools"


def _thinking(params: Params, traits: Traits) -> Iterator[str]:
    config = params.get("thinking")
    if config is None:
        return
    kind = _kind(config)
    if not isinstance(config, dict) or kind not in ("adaptive", "enabled", "disabled", "between_tools"):
        yield "thinking: Input tag is not one of the expected tags"
        return
    if kind == "disabled" and traits.thinking_off != "disabled":
        yield '"thinking.type.disabled" is not supported for this model.'
    if kind == "between_tools" and traits.thinking_off != "between_tools":
        yield '"thinking.type.between_tools" is not supported for this model.'
    if kind == "adaptive" and traits.thinking != "adaptive":
        yield "adaptive thinking is not supported on this model"
    if kind == "enabled":
        budget, most = config.get("budget_tokens"), params.get("max_tokens")
        if traits.thinking == "none" or not traits.sampling:
            yield '"thinking.type.enabled" is not supported for this model.'
        if not isinstance(budget, int) or budget < 1_024:
            yield "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
        elif isinstance(most, int) and budget >= most:
            yield "`max_tokens` must be greater than `thinking.budget_tokens`."


def _output(params: Params) -> Iterator[str]:
    config = params.get("output_config")
    if not isinstance(config, dict):
        return
    if strange := config.keys() - {"effort", "format"}:
        yield f"output_config.{min(strange)}: Extra inputs are not permitted"
    if config.get("effort") is not None and config["effort"] not in _EFFORTS:
        yield "output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'"
    wanted = config.get("format")
    if wanted is None:
        return
    schema = wanted.get("schema") if isinstance(wanted, dict) and wanted.keys() == {"type", "schema"} else None
    if not isinstance(schema, dict):
        yield "output_config.format: Input should be a valid json_schema format"
    elif problem := closed_problem(schema):
        yield f"output_config.format.schema: {problem}"


def closed_problem(schema: object) -> str | None:
    """What structured outputs do not take in a schema."""
    if isinstance(schema, list):
        return next((problem for inner in schema if (problem := closed_problem(inner))), None)
    if not isinstance(schema, dict):
        return None
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        return "For 'object' type, 'additionalProperties' must be explicitly set to false"
    if isinstance(schema.get("type"), str) and (unknown := schema.keys() & _UNSUPPORTED):
        return f"For '{schema['type']}' type, property '{min(unknown)}' is not supported"
    if "oneOf" in schema:
        return "Schema type 'oneOf' is not supported"
    if any(isinstance(part, dict) and "$ref" in part for part in _list(schema.get("allOf"))):
        return "'allOf' with '$ref' is not supported"
    named = [*_values(schema.get("properties")), *_values(schema.get("$defs"))]
    below = [schema.get(key) for key in ("items", "anyOf", "allOf")]
    return next((problem for inner in (*named, *below) if (problem := closed_problem(inner))), None)


def _values(content: object) -> list[object]:
    return list(content.values()) if isinstance(content, dict) else []


def _list(content: object) -> list[object]:
    return content if isinstance(content, list) else []


def _kind(content: object) -> object:
    return content.get("type") if isinstance(content, dict) else None


def _is(*kinds: type) -> Callable[[object], bool]:
    def fits(content: object) -> bool:
        return isinstance(content, kinds) and (bool in kinds or not isinstance(content, bool))

    return fits


def _anything(_content: object) -> bool:
    return True


def _stops(content: object) -> bool:
    return isinstance(content, list) and all(isinstance(stop, str) and stop.strip() for stop in content)


def _metadata(content: object) -> bool:
    user = content.get("user_id") if isinstance(content, dict) else 0
    return isinstance(content, dict) and content.keys() <= {"user_id"} and (user is None or _short(user))


def _short(content: object) -> bool:
    return isinstance(content, str) and len(content) <= 256


def _natural(content: object) -> bool:
    return isinstance(content, int) and not isinstance(content, bool) and content >= 0


_TOOL_FIELDS = frozenset({"name", "description", "input_schema", "strict", "type", "cache_control", "input_examples"})
_TOOL_FIELDS |= {"allowed_callers", "defer_loading", "eager_input_streaming"}
_UNSUPPORTED = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength"})
_UNSUPPORTED |= {"maxLength", "pattern", "maxItems", "uniqueItems", "patternProperties", "minProperties"}
_FIELDS: Mapping[str, Callable[[object], bool]] = MappingProxyType(
    {
        "model": _is(str),
        "max_tokens": _natural,
        "messages": _is(list),
        "system": _is(str, list),
        "tools": _is(list),
        "tool_choice": _is(dict),
        "thinking": _is(dict),
        "output_config": _is(dict),
        "metadata": _metadata,
        "stop_sequences": _stops,
        "stream": _is(bool),
        "temperature": _is(int, float),
        "top_p": _is(int, float),
        "top_k": _is(int),
        **dict.fromkeys(
            ("cache_control", "container", "diagnostics", "inference_geo", "service_tier", "speed"), _anything
        ),
    }
)
