"""`encode`, `dropped` and the names of models: what happens at admission, before anything is paid."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import orjson
import pytest
from hypothesis import given, settings

from gateway.errors import Unsupported
from gateway.provider import Provider
from gateway.records import Call
from gateway.testing.contract.base import ContractBase
from gateway.testing.contract.samples import FIELDS, TEXTS, Field, strange_bodies
from gateway.testing.lab import CHAT, Lab

_ODD_MODEL = "some-model-9.9_x"
_FORM = {
    "type": "json_schema",
    "json_schema": {
        "name": "verdict",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"a word of its own": {"type": "string"}},
            "required": ["a word of its own"],
            "additionalProperties": False,
        },
    },
}


class EncodingContract(ContractBase):
    """What `encode` promises."""

    @pytest.mark.parametrize("text", TEXTS)
    def test_a_payload_is_the_same_each_time(self, provider: Provider, text: str) -> None:
        """Encoding one call twice gives the same bytes, none of them a newline, and leaves the call as it was."""
        body = self.body(text)
        before = copy.deepcopy(body)
        first, second = provider.encode(self.call(body)), provider.encode(self.call(body))

        assert isinstance(first, bytes), "encode must return bytes"
        assert first == second, "encode is not deterministic: the same call gave different bytes"
        assert b"\n" not in first, "encode's bytes contain a newline: they would be two lines of the spool"
        assert body == before, "encode changed the call that it was given"

    def test_different_questions_are_different_bytes(self, provider: Provider) -> None:
        """What was asked is in the payload: two texts never encode to the same bytes."""
        payloads = {provider.encode(self.call(self.body(text))) for text in TEXTS}

        assert len(payloads) == len(TEXTS), "encode loses what was asked: different texts gave the same bytes"

    def test_a_model_keeps_its_name(self, provider: Provider) -> None:
        """Encoding renames no model, known or not: routing has done that already."""
        body = {**self.body("x"), "model": _ODD_MODEL}
        payload = orjson.loads(provider.encode(Call(endpoint=CHAT, model=_ODD_MODEL, body=body)))

        for name in _models(payload):
            assert name.endswith(_ODD_MODEL), f"encode renamed the model {_ODD_MODEL} to {name}"

    @pytest.mark.asyncio
    async def test_a_batch_has_the_model_it_was_asked_for(self, batches: Lab) -> None:
        """The model's name reaches the provider as it was given, wherever its API takes it."""
        await batches.submit({**self.body("x"), "model": _ODD_MODEL})
        [made] = batches.simulator.store.batches.values()

        assert made.model.endswith(_ODD_MODEL), f"the provider was asked for {made.model} instead of {_ODD_MODEL}"

    def test_the_schema_of_an_answer_is_found_again(self, provider: Provider) -> None:
        """A schema that `encode` sends is found in the payload by `output_schema`, and none where text was asked for."""
        plain = provider.encode(self.call(self.body("x")))
        assert provider.output_schema(plain) is None, "output_schema finds a schema where text was asked for"
        payload = _encoded(provider, self.call({**self.body("x"), "response_format": _FORM}))
        if isinstance(payload, Unsupported) or b"a word of its own" not in payload:
            return
        schema = provider.output_schema(payload) or {}

        assert "a word of its own" in str(schema), "encode sends a schema that output_schema does not find"
        assert schema.get("type") == "object", "output_schema must return the caller's schema, not what is around it"

    @pytest.mark.parametrize("field", FIELDS, ids=str)
    def test_no_field_is_ignored_in_silence(self, provider: Provider, field: Field) -> None:
        """A field that changes what is asked is sent, refused by its name, or told as dropped."""
        plain = self.body("x", **field.beside)
        call = self.call({**plain, field.name: field.value})
        payload = _encoded(provider, call)
        if isinstance(payload, Unsupported):
            names = {field.name, *field.beside}
            assert _top(payload.field) in names, f"encode refuses {field.name} and names {payload.field!r}"
            assert payload.reason, f"encode refuses {field.name} without a reason"
            return
        dropped = {_top(name) for name in provider.dropped(call)}
        sent = payload != provider.encode(self.call(plain))
        assert sent or field.name in dropped, f"encode ignores {field.name}, and dropped() does not say so"

    @pytest.mark.parametrize("field", FIELDS, ids=str)
    def test_what_is_dropped_makes_no_difference(self, provider: Provider, field: Field) -> None:
        """`dropped` names fields that are in the body, and the payload is the same without them."""
        body = {**self.body("x", **field.beside), field.name: field.value}
        payload = _encoded(provider, self.call(body))
        if isinstance(payload, Unsupported):
            return
        dropped = provider.dropped(self.call(body))
        less = copy.deepcopy(body)
        for name in dropped:
            assert _top(name) in body, f"dropped() names {name}, which the call does not have"
            _remove(less, name)
        same = not dropped or provider.encode(self.call(less)) == payload
        assert same, f"dropped() names {list(dropped)}, and yet the payload differs without"

    def test_encode_raises_nothing_but_unsupported(self, provider: Provider) -> None:
        """Whatever a client writes into a body, it is encoded, or refused by the name of a field."""

        @settings(deadline=None, database=None, max_examples=200)
        @given(strange_bodies(self.model))
        def admit(body: dict[str, object]) -> None:
            call = self.call({**self.body("x"), **body})
            payload = _encoded(provider, call)
            if isinstance(payload, Unsupported):
                assert payload.field, f"encode refuses a call and names no field: {payload.reason}"
                return
            provider.dropped(call)
            assert b"\n" not in payload, "encode's bytes contain a newline: they would be two lines of the spool"
            orjson.loads(provider.frame("abcdefghij0123456789-0", payload))

        admit()


def _encoded(provider: Provider, call: Call) -> bytes | Unsupported:
    """The payload, or why there is none."""
    try:
        return provider.encode(call)
    except Unsupported as refused:
        return refused


def _models(value: object) -> list[str]:
    """Every text under a key `model` in a payload."""
    if isinstance(value, Mapping):
        own = [name for key, name in value.items() if key == "model" and isinstance(name, str)]
        return own + [name for child in value.values() for name in _models(child)]
    return [name for child in value for name in _models(child)] if isinstance(value, list) else []


def _top(dotted: str) -> str:
    """The first part of a dotted name: `messages` of `messages[0].name`."""
    return dotted.split(".", maxsplit=1)[0].split("[", maxsplit=1)[0]


def _remove(body: object, dotted: str) -> None:
    """Take out what `dotted` names; in a list without an index, out of every element."""
    first, _, rest = dotted.replace("[", ".").replace("]", "").partition(".")
    children: Sequence[object] = ()
    if isinstance(body, dict):
        if not rest:
            body.pop(first, None)
        children = [body[first]] if rest and first in body else []
    elif isinstance(body, list):
        if not (first.isdecimal() or not first):
            rest, children = dotted, body
        else:
            children = [body[int(first)]] if first and int(first) < len(body) else body
    for child in children:
        _remove(child, rest)
