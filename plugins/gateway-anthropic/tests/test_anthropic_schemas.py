"""Schemas as the provider's structured outputs take them."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import Unsupported
from gateway_anthropic.schemas import closed_schema
from gateway_anthropic.simulated.params import closed_problem

STRING = {"type": "string"}


def schema_of(**properties: object) -> dict[str, Any]:
    """An object of these properties."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def closed(**properties: object) -> dict[str, Any]:
    """The properties of the schema that is sent."""
    made: Any = closed_schema(schema_of(**properties), "field")
    assert closed_problem(made) is None
    return made["properties"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        ({"type": "integer", "minimum": 1}, {"type": "integer", "description": "{minimum: 1}"}),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        ({"oneOf": [STRING, {"type": "null"}]}, {"anyOf": [STRING, {"type": "null"}]}),
        ({"type": ["string", "null"]}, {"anyOf": [STRING, {"type": "null"}]}),
        ({"type": ["integer"]}, {"type": "integer"}),
        (
            {"type": ["array", "null"], "items": STRING, "description": "x"},
            {"anyOf": [{"type": "array", "items": STRING}, {"type": "null"}], "description": "x"},
        ),
        ({"type": ["string", "null"], "enum": ["a", None]}, {"enum": ["a", None]}),
        ({"enum": ["a", "b"]}, {"enum": ["a", "b"]}),
        ({"items": STRING}, {"type": "array", "items": STRING}),
        (
            schema_of(deep=STRING),
            {"type": "object", "properties": {"deep": STRING}, "additionalProperties": False, "required": ["deep"]},
        ),
        ({**schema_of(a=STRING), "additionalProperties": True}, {**schema_of(a=STRING), "additionalProperties": False}),
        ({"properties": {"a": STRING}}, {"type": "object", "properties": {"a": STRING}, "additionalProperties": False}),
        (
            {"type": "object", "properties": {}, "additionalProperties": False},
            {"type": "object", "properties": {}, "additionalProperties": False},
        ),
    ],
)
def test_a_schema_is_put_into_the_provider_s_words(schema: dict[str, Any], sent: dict[str, Any]) -> None:
    """Objects are closed, bounds become descriptions, several types become a choice; names and requirements stay."""
    assert closed(a=schema)["a"] == sent


def test_definitions_are_kept() -> None:
    """References work under the older word too."""
    schema = {**schema_of(a={"$ref": "#/definitions/city"}), "definitions": {"city": schema_of(name=STRING)}}
    made: Any = closed_schema(schema, "field")

    assert made["properties"]["a"] == {"$ref": "#/$defs/city"}
    assert made["$defs"]["city"]["additionalProperties"] is False


@pytest.mark.parametrize(
    "reference",
    [
        {"$ref": "#/$defs/city", "description": "where", "default": None},
        {"allOf": [{"$ref": "#/$defs/city"}], "description": "where", "default": None},
    ],
)
def test_what_stands_beside_a_reference_stays(reference: dict[str, Any]) -> None:
    """Pydantic describes a field that has a model's type so, in its older and its newer way."""
    schema = {
        **schema_of(a=reference, b={"$ref": "#/$defs/city", "title": "B"}),
        "$defs": {"city": schema_of(name=STRING)},
    }
    made: Any = closed_schema(schema, "field")

    assert made["properties"]["a"] == {"anyOf": [{"$ref": "#/$defs/city"}], "description": "where\n\n{default: None}"}
    assert made["properties"]["b"] == {"$ref": "#/$defs/city"}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "additionalProperties": STRING},
        {"type": "object"},
        {"type": "object", "patternProperties": {"^a": STRING}, "properties": {"b": STRING}},
        {},
        True,
        {"type": "text"},
        {"type": []},
        {"type": ["string", 7]},
        {"type": "array", "items": [STRING, STRING]},
        {"$ref": "https://example.com/schema.json"},
        {"$ref": "#/$defs/nowhere"},
        {"enum": [{"a": 1}]},
        {"anyOf": [STRING], "oneOf": [{"const": "a"}]},
        {**schema_of(c=STRING), "anyOf": [schema_of(c=STRING), schema_of(d=STRING)]},
        {"type": "string", "description": 7, "minLength": 2},
    ],
)
def test_what_would_mean_something_else_is_refused(schema: object) -> None:
    """Free names, anything at all, unknown types and foreign references are refused by the field's name."""
    with pytest.raises(Unsupported) as refusal:
        closed_schema(schema_of(a=schema), "the.field")

    assert refusal.value.field == "the.field"


def test_a_reference_among_several_that_all_hold_is_refused() -> None:
    """The provider takes no such schema, and says so hours later."""
    both = {"allOf": [{"$ref": "#/$defs/city"}, schema_of(c=STRING)]}
    with pytest.raises(Unsupported, match="allOf"):
        closed_schema({**schema_of(a=both), "$defs": {"city": schema_of(name=STRING)}}, "field")


def test_recursion_is_refused() -> None:
    """A schema that refers to itself, by one step or two, is refused; one definition used twice is not."""
    one = {"$defs": {"a": schema_of(a={"$ref": "#/$defs/a"})}}
    two = {"$defs": {"a": schema_of(b={"$ref": "#/$defs/b"}), "b": schema_of(a={"$ref": "#/$defs/a"})}}
    twice = {"$defs": {"a": schema_of(b={"$ref": "#/$defs/b"}, c={"$ref": "#/$defs/b"}), "b": schema_of(c=STRING)}}
    for definitions in (one, two):
        with pytest.raises(Unsupported, match="recursive"):
            closed_schema({**schema_of(x={"$ref": "#/$defs/a"}), **definitions}, "field")

    assert closed_schema({**schema_of(x={"$ref": "#/$defs/a"}), **twice}, "field")["type"] == "object"


def test_endless_nesting_is_refused() -> None:
    """A schema deeper than anybody means it does not exhaust the stack."""
    schema: dict[str, Any] = STRING
    for _ in range(5_000):
        schema = {"type": "array", "items": schema}
    with pytest.raises(Unsupported, match="nested"):
        closed_schema(schema_of(a=schema), "field")
