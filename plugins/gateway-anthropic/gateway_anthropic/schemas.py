"""JSON schemas as Anthropic's structured outputs take them: closed objects, no bounds. Pure.

The SDK's own helper does the work: it closes objects, turns `oneOf` into `anyOf` and moves what is not understood into
descriptions. What it would get wrong in silence, or cannot read, is put right or refused before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import cast

from gateway import Unsupported

#: Keywords that belong to one type, for schemas that name several types.
_OF_TYPE: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "object": frozenset({"properties", "required", "additionalProperties", "minProperties", "maxProperties"}),
        "array": frozenset({"items", "minItems", "maxItems", "uniqueItems"}),
        "string": frozenset({"format", "pattern", "minLength", "maxLength"}),
        "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}),
        "integer": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}),
    }
)
_TYPES = frozenset({"object", "array", "string", "integer", "number", "boolean", "null"})
_UNIONS = ("anyOf", "oneOf", "allOf")
_DEPTH = 60

Schema = dict[str, object]


def closed_schema(schema: Mapping[str, object], field: str) -> Schema:
    """`schema` as the provider takes it.

    Raises `Unsupported` for `field` where that would mean something else: maps with free keys, recursion, references to
    elsewhere, schemas that allow anything.
    """
    import anthropic

    prepared = _prepared(_with_defs(schema), field, 0)
    _check_references(prepared, field)
    try:
        return cast("Schema", anthropic.transform_schema(prepared))
    except (ValueError, TypeError, AttributeError, AssertionError, RecursionError) as error:
        raise Unsupported(field, f"cannot be used as an output schema: {str(error)[:200]}") from None


def _with_defs(schema: Mapping[str, object]) -> Schema:
    """The older word for `$defs` in the newer one; references follow in `_prepared`."""
    renamed = dict(schema)
    older = renamed.pop("definitions", None)
    newer = renamed.get("$defs")
    if isinstance(older, Mapping):
        renamed["$defs"] = {**older, **(newer if isinstance(newer, Mapping) else {})}
    return renamed


def _prepared(schema: object, field: str, depth: int) -> Schema:
    """One schema and all below it, in words that the helper understands."""
    if not isinstance(schema, Mapping) or not schema:
        raise Unsupported(field, "allows anything in some place; the provider wants a type for every value")
    if depth > _DEPTH:
        raise Unsupported(field, "is nested too deeply")
    plain = _typed(schema, field)
    kinds = plain.get("type")
    if isinstance(kinds, list):
        return _prepared(_split(plain, kinds, field), field, depth)
    if isinstance(plain.get("$ref"), str):
        plain["$ref"] = str(plain["$ref"]).replace("#/definitions/", "#/$defs/", 1)
    plain = _referring(_united(plain, field))
    _refuse_open(plain, field)
    for holder in ("properties", "$defs"):
        inner = plain.get(holder)
        if isinstance(inner, Mapping):
            plain[holder] = {str(name): _prepared(each, field, depth + 1) for name, each in inner.items()}
    if "items" in plain:
        plain["items"] = _prepared(plain["items"], field, depth + 1)
    for union in _UNIONS:
        variants = plain.get(union)
        if isinstance(variants, list):
            plain[union] = [_prepared(each, field, depth + 1) for each in variants]
    return plain


def _typed(schema: Mapping[str, object], field: str) -> Schema:
    """The schema with the type that its keywords imply."""
    plain = {str(key): word for key, word in schema.items()}
    if "type" not in plain and not {"$ref", "enum", "const", *_UNIONS} & plain.keys():
        implied = [kind for kind in ("object", "array") if {"properties", "items"} & _OF_TYPE[kind] & plain.keys()]
        if implied:
            plain["type"] = implied[0]
    kind = plain.get("type")
    if kind is not None and not isinstance(kind, list) and kind not in _TYPES:
        raise Unsupported(field, "names a type that JSON does not have")
    return plain


def _split(schema: Schema, kinds: list[object], field: str) -> Schema:
    """A schema of several types as a choice between them; each keeps its own keywords."""
    if not kinds or not all(isinstance(kind, str) and kind in _TYPES for kind in kinds):
        raise Unsupported(field, "names a type that JSON does not have")
    if "enum" in schema or "const" in schema:
        return {key: word for key, word in schema.items() if key != "type"}
    if len(kinds) == 1:
        return {**schema, "type": kinds[0]}
    owned = frozenset[str]().union(*_OF_TYPE.values())
    shared = {key: word for key, word in schema.items() if key not in owned | {"type"}}
    variants = [
        {"type": kind} | {key: schema[key] for key in _OF_TYPE.get(str(kind), frozenset()) if key in schema}
        for kind in kinds
    ]
    return {**shared, "anyOf": variants}


def _united(schema: Schema, field: str) -> Schema:
    """The schema with one union at most, which is what the helper reads; all of one is as good as any of one."""
    unions = [union for union in _UNIONS if isinstance(schema.get(union), list)]
    if len(unions) > 1 or (unions and {"properties", "items", "$ref"} & schema.keys()):
        raise Unsupported(field, f"has {unions[0]} beside other things that a value must be; say it in one way")
    variants = schema.get("allOf")
    if not isinstance(variants, list):
        return schema
    if len(variants) == 1:
        return {**{key: word for key, word in schema.items() if key not in ("allOf", "type")}, "anyOf": variants}
    if any(isinstance(variant, Mapping) and "$ref" in variant for variant in variants):
        raise Unsupported(field, "has an allOf with a $ref, which the provider does not take; write the schema out")
    return schema


def _referring(schema: Schema) -> Schema:
    """A reference that is described where it stands, as a choice of one: the helper would forget the description."""
    if "$ref" not in schema or not schema.keys() - {"$ref", "$defs", "title", "type"}:
        return schema
    beside = {key: word for key, word in schema.items() if key not in ("$ref", "type")}
    return {**beside, "anyOf": [{"$ref": schema["$ref"]}]}


def _refuse_open(schema: Schema, field: str) -> None:
    """Objects whose names are not known beforehand: the helper would close them to empty ones."""
    if schema.get("type") != "object":
        return
    free = schema.get("additionalProperties")
    if (isinstance(free, Mapping) and free) or schema.get("patternProperties"):
        raise Unsupported(field, "has an object with free names; the provider wants each property to be named")
    if not schema.get("properties") and free is not False:
        raise Unsupported(field, "has an object without properties; the provider wants each property to be named")


def _check_references(schema: Schema, field: str) -> None:
    """Every reference leads to a definition, and none leads back to itself."""
    found = schema.get("$defs")
    definitions: Mapping[str, object] = found if isinstance(found, Mapping) else {}
    edges = {name: set(_references(each)) for name, each in definitions.items()}
    pending = set(_references(schema))
    if pending - {f"#/$defs/{name}" for name in definitions}:
        raise Unsupported(field, "refers to something that is not in its own $defs")
    settled: set[str] = set()
    while len(settled) < len(edges):
        ready = {
            name
            for name, used in edges.items()
            if name not in settled and used <= {f"#/$defs/{done}" for done in settled}
        }
        if not ready:
            raise Unsupported(field, "refers to itself; the provider does not take recursive schemas")
        settled |= ready


def _references(schema: object) -> Iterator[str]:
    """Every `$ref` in a prepared schema."""
    if isinstance(schema, Mapping):
        reference = schema.get("$ref")
        if isinstance(reference, str):
            yield reference
        for key, inner in schema.items():
            if key not in ("enum", "const", "default", "examples"):
                yield from _references(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _references(inner)
