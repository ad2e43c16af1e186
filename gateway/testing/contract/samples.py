"""What the suite asks: texts that hurt, fields of a chat completion, and bodies that nobody would write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

#: Texts with bytes that have split lines, broken JSON or been lost somewhere.
TEXTS = (
    "plain",
    'quotes " and \\ and {braces}',
    "line\nbreaks\r\nof\u2028every\u2029kind\x85\x0b\x0c\x1c\x1e",
    "Ünïcödé 漢字 🎉 \u200b\ufeff",
    " leading and trailing ",
)

_TOOL: Mapping[str, object] = MappingProxyType(
    {
        "type": "function",
        "function": {
            "name": "look_up",
            "description": "Looks a word up.",
            "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
        },
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a chat body, set to something that is not its default; `beside` is what it needs to make sense."""

    name: str
    value: object
    beside: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


#: Fields that change what is asked. What serves the gateway alone (`stream`, `metadata`, `service_tier` ...) is not here.
FIELDS = (
    Field(name="temperature", value=0.25),
    Field(name="top_p", value=0.5),
    Field(name="max_tokens", value=77),
    Field(name="max_completion_tokens", value=78),
    Field(name="stop", value=["END"]),
    Field(name="seed", value=7),
    Field(name="presence_penalty", value=0.5),
    Field(name="frequency_penalty", value=0.5),
    Field(name="logit_bias", value={"50256": -100}),
    Field(name="logprobs", value=True),
    Field(name="top_logprobs", value=2, beside={"logprobs": True}),
    Field(name="n", value=2),
    Field(name="response_format", value={"type": "json_object"}),
    Field(name="tools", value=[dict(_TOOL)]),
    Field(name="tool_choice", value="required", beside={"tools": [dict(_TOOL)]}),
    Field(name="parallel_tool_calls", value=False, beside={"tools": [dict(_TOOL)]}),
    Field(name="functions", value=[_TOOL["function"]]),
    Field(name="function_call", value={"name": "look_up"}, beside={"functions": [_TOOL["function"]]}),
    Field(name="reasoning_effort", value="high"),
    Field(name="verbosity", value="low"),
    Field(name="modalities", value=["text", "audio"]),
    Field(name="audio", value={"voice": "alloy", "format": "wav"}),
    Field(name="prediction", value={"type": "content", "content": "as before"}),
    Field(name="web_search_options", value={}),
    Field(name="a_field_that_nobody_knows", value=1),
)


def json_values(leaves: int = 8) -> SearchStrategy[object]:
    """Anything that JSON can say, numbers beyond 64 bits included."""
    scalars = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=20)
    )
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
        max_leaves=leaves,
    )


@st.composite
def strange_bodies(draw: DrawFn, model: str) -> dict[str, object]:
    """Chat bodies as admission lets them through: a model, messages that are a list, and else anything at all."""
    names = [each.name for each in FIELDS] + ["stream", "metadata", "service_tier", "store", "user", "stream_options"]
    part = (
        st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url", "file", "input_audio", "refusal"])})
        | json_values()
    )
    message = st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"]) | json_values(2)},
        optional={
            "content": st.text(max_size=20) | st.lists(part, max_size=3) | json_values(),
            "name": json_values(2),
            "tool_calls": json_values(),
            "tool_call_id": json_values(2),
        },
    )
    fields = draw(st.dictionaries(st.sampled_from(names), json_values(), max_size=4))
    return {**fields, "model": model, "messages": draw(st.lists(message | json_values(), min_size=1, max_size=3))}


@st.composite
def damaged(draw: DrawFn, rows: Sequence[object]) -> object:
    """One of `rows` (parsed), with one value somewhere in it put in place of another, or taken out."""
    row = draw(st.sampled_from(rows))
    places = list(_places(row))
    return _replaced(row, draw(st.sampled_from(places)), draw(json_values(3)), drop=draw(st.booleans()))


def _places(value: object, place: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Where there is something in `value`, by keys and indexes."""
    inner: list[tuple[str | int, object]] = []
    if isinstance(value, Mapping):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [place, *(found for key, child in inner for found in _places(child, (*place, key)))]


def _replaced(value: object, place: tuple[str | int, ...], new: object, *, drop: bool) -> object:
    if not place:
        return new
    key, rest = place[0], place[1:]
    if isinstance(value, Mapping):
        if drop and not rest:
            return {name: child for name, child in value.items() if name != key}
        return {name: _replaced(child, rest, new, drop=drop) if name == key else child for name, child in value.items()}
    if isinstance(value, list):
        return [_replaced(child, rest, new, drop=drop) if n == key else child for n, child in enumerate(value)]
    return value
