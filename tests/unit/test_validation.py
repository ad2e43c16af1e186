"""Answers against the schemas of their own requests: told where it can be told, bounded whatever the schema is."""

from __future__ import annotations

import json
import socket

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.validation import STEPS_OF_A_BATCH, OutputChecks, Verdict

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Z]"},
        "age": {"type": "integer", "minimum": 0},
        "friend": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
VALID, INVALID, UNDECIDED = Verdict.VALID, Verdict.INVALID, Verdict.UNDECIDED


def completion(*texts: str | None, finish: str | None = "stop", **message: object) -> dict[str, object]:
    """An answer with one choice for each text."""
    choices = [
        {"index": n, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
        for n, text in enumerate(texts)
    ]
    return {"choices": choices}


def judge(schema: dict[str, object], *texts: str) -> Verdict | None:
    """By itself, as the only line of a batch."""
    return OutputChecks(1).judge(schema, completion(*texts))


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ('{"name": "Ann", "age": 3}', VALID),
        ('  {"name": "Ann", "age": 3.0, "friend": {"name": "Bo", "age": 1}}\n', VALID),
        ('{"name": "Ann\\ud800", "age": 3}', VALID),
        ('{"name": "ann", "age": 3}', INVALID),
        ('{"name": "Ann", "age": -3}', INVALID),
        ('{"name": "Ann"}', INVALID),
        ('{"name": "Ann", "age": 3, "mood": "good"}', INVALID),
        ('{"name": "Ann", "age": 3, "friend": {"name": "Bo"}}', INVALID),
        ('{"name": "Ann", "age": NaN}', INVALID),
        ('```json\n{"name": "Ann", "age": 3}\n```', INVALID),
        ('{"name": "Ann", "a', INVALID),
        ("", INVALID),
    ],
)
def test_an_answer_satisfies_its_schema_or_does_not(text: str, verdict: Verdict) -> None:
    """What a caller's own parser and schema would say is said here."""
    assert judge(PERSON, text) is verdict


@given(cents=st.integers(-(10**9), 10**9), off=st.integers(1, 9))
def test_a_price_in_cents_is_a_multiple_of_a_cent(cents: int, off: int) -> None:
    """What is a multiple in the digits in which it is written is valid, whatever becomes of it as a binary fraction."""
    schema: dict[str, object] = {"type": "number", "multipleOf": 0.01}
    sign, whole = "-" if cents < 0 else "", abs(cents)

    assert judge(schema, f"{sign}{whole // 100}.{whole % 100:02}") is VALID
    assert judge(schema, f"{sign}{whole // 100}.{whole % 100:02}{off}") is INVALID


@pytest.mark.parametrize(("text", "verdict"), [("1e300", UNDECIDED), ("true", INVALID), ("12", VALID), ("13", INVALID)])
def test_a_multiple_that_cannot_be_told_is_not_told(text: str, verdict: Verdict) -> None:
    """A number beyond all digits is taken for good."""
    assert judge({"type": "number", "multipleOf": 3}, text) is verdict


def test_any_object_is_one() -> None:
    """`json_object` asks for an object: arrays, numbers and words are none."""
    schema = {"type": "object"}
    assert [judge(schema, text) for text in ("{}", '{"a": [1]}', "[]", "3", '"{}"')] == [VALID] * 2 + [INVALID] * 3


@pytest.mark.parametrize(
    "body",
    [
        completion("half of", finish="length"),
        completion("", finish="content_filter"),
        completion(None, finish="tool_calls", tool_calls=[{"id": "1"}]),
        completion(None, tool_calls=[{"id": "1"}]),
        completion(None, refusal="I will not"),
        {"choices": []},
        {"object": "list"},
    ],
)
def test_what_did_not_come_to_its_own_end_is_not_judged(body: dict[str, object]) -> None:
    """Refusals, calls of tools and cut answers are none of the schema's business: asked again they would be the same."""
    assert OutputChecks(1).judge(PERSON, body) is None


def test_every_choice_must_satisfy_the_schema() -> None:
    """One bad answer of several spoils the line; choices that were cut do not."""
    good = '{"name": "Ann", "age": 3}'
    assert judge(PERSON, good, good) is VALID
    assert judge(PERSON, good, "no") is INVALID
    cut = completion(good)["choices"] + completion("{", finish="length")["choices"]  # type: ignore[operator]
    assert OutputChecks(1).judge(PERSON, {"choices": cut}) is VALID


@pytest.mark.parametrize(
    ("draft", "text", "verdict"),
    [
        ("https://json-schema.org/draft/2020-12/schema", "[3]", VALID),
        ("http://json-schema.org/draft-07/schema#", '["x"]', INVALID),
        ("http://json-schema.org/draft-07/schema#", "[3]", VALID),
        ("http://json-schema.org/draft-03/schema#", '["x"]', UNDECIDED),
        ("https://example.org/my-own", '["x"]', UNDECIDED),
    ],
)
def test_a_schema_is_read_in_its_own_draft(draft: str, text: str, verdict: Verdict) -> None:
    """`$schema` says which; what it says besides is not known here and not told."""
    items = [{"type": "integer"}] if "draft-07" in draft else {"type": "integer"}
    assert judge({"$schema": draft, "items": items}, text) is verdict


def doubling(levels: int) -> dict[str, object]:
    """A schema of a few hundred bytes that takes 2 ** levels steps."""
    definitions: dict[str, object] = {
        f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}, {"$ref": f"#/$defs/a{n + 1}"}]} for n in range(levels)
    }
    return {"$defs": {**definitions, f"a{levels}": {"type": "integer"}}, "$ref": "#/$defs/a0"}


def nested(levels: int) -> dict[str, object]:
    """A schema as deep as that."""
    schema: dict[str, object] = {"type": "integer"}
    for _ in range(levels):
        schema = {"properties": {"a": schema}}
    return schema


HOSTILE = {
    "a reference to itself": ({"$ref": "#"}, "1"),
    "references that double": (doubling(40), "1"),
    "a pattern that takes years": ({"pattern": "(a+)+$"}, orjson.dumps("a" * 60 + "!").decode()),
    "the same, hidden under another draft": (
        {"properties": {"a": {"$schema": "http://json-schema.org/draft-07/schema#", "pattern": "(a+)+$"}}},
        orjson.dumps({"a": "a" * 60 + "!"}).decode(),
    ),
    "names by such a pattern": ({"patternProperties": {"(a+)+$": {}}}, orjson.dumps({"a" * 60 + "!": 1}).decode()),
    "everything different from everything": (
        {"uniqueItems": True},
        orjson.dumps([{"a": n} for n in range(30_000)]).decode(),
    ),
    "far too many choices": ({"anyOf": [{"type": "string"}] * 4_000}, orjson.dumps({"a": "x" * 900_000}).decode()),
    "deeper than Python goes": (nested(900), "1"),
    "more than anybody needs": ({"properties": {str(n): {"type": "null"} for n in range(50_000)}}, "{}"),
    "no schema": ({"type": "strng"}, "1"),
    "no schema, though it looks like one": ({"required": "name"}, "{}"),
    "division by nothing": ({"multipleOf": 0}, "3"),
    "a document elsewhere": ({"$ref": "http://127.0.0.1:9/schema"}, "1"),
    "a file": ({"$ref": "file:///etc/passwd"}, "1"),
    "a name of its own": ({"$defs": {"a": {"$id": "http://a.example/", "$ref": "#"}}, "$ref": "#/$defs/a"}, "1"),
    "an answer without end": ({"type": "object"}, orjson.dumps("x" * 1_100_000).decode()),
    "an answer that is all depth": ({"type": "array"}, "[" * 900 + "]" * 900),
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_schemas_and_answers_are_not_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a schema says, a check ends soon, fetches nothing, and leaves the answer as it is."""

    def never(*_: object) -> None:
        raise AssertionError("a check opened a connection")

    monkeypatch.setattr(socket, "socket", never)
    schema, text = HOSTILE[name]
    assert judge(schema, text) is UNDECIDED  # type: ignore[arg-type]


def test_a_batch_has_a_bound_of_its_own() -> None:
    """When the answers of a batch have used up its steps, the others are taken for good, quickly."""
    checks = OutputChecks(1)
    schema = {"type": "array", "items": {"type": "integer"}}
    text = orjson.dumps(["x"] + [1] * 3_000).decode()
    checks._steps.of_batch = 10
    assert STEPS_OF_A_BATCH > 10
    assert checks.judge(schema, completion(text)) is UNDECIDED
    assert OutputChecks(1).judge(schema, completion(text)) is INVALID


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from(["", "a", "#", "^a", "object", "string", "http://x/"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "properties",
                    "items",
                    "$ref",
                    "$defs",
                    "anyOf",
                    "not",
                    "pattern",
                    "required",
                    "enum",
                    "$schema",
                    "a",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150)
@given(
    schema=st.dictionaries(st.sampled_from(["type", "properties", "$ref", "$defs", "not", "items", "$schema"]), JSON),
    said=JSON,
)
def test_no_schema_is_too_strange(schema: dict[str, object], said: object) -> None:
    """Any object may stand where a schema should: there is a verdict, and never an exception."""
    assert judge(schema, json.dumps(said)) in set(Verdict)


_WORDS = ("choices", "message", "content", "finish_reason", "refusal", "tool_calls", "usage")
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_WORDS), inner, max_size=4),
    max_leaves=8,
)
_CHOICES = st.lists(
    st.fixed_dictionaries({}, optional={"message": _ANYTHING | st.just({}), "finish_reason": _ANYTHING}), max_size=3
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(_WORDS), _ANYTHING) | st.fixed_dictionaries({"choices": _CHOICES}))
def test_whatever_shape_an_answer_has_the_check_returns(body: dict[str, object]) -> None:
    """An answer of any shape is judged or let through: one that raised would hold up a whole batch that was paid."""
    assert OutputChecks(1).judge({"type": "object"}, body) in (None, *Verdict)


@pytest.mark.parametrize("reason", [[], {}, ["stop"]])
def test_an_end_that_is_no_word_is_not_the_answers_own(reason: object) -> None:
    """A `finish_reason` that is no text is none of those with which an answer comes to its own end."""
    body = {"choices": [{"message": {"content": "no JSON"}, "finish_reason": reason}]}
    assert OutputChecks(1).judge({"type": "object"}, body) is None
