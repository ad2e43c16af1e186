"""From bytes to a call: everything the design refuses with a 400, and what headers and bodies may wish for."""

from __future__ import annotations

import orjson
import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from gateway.endpoints.bodies import cache_control, incoming
from gateway.endpoints.keys import CALLER, Caller
from gateway.errors import Refusal
from gateway.fingerprint import canonical_body
from gateway.pipeline.intake import Incoming

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hi"}]
NOTHING: dict[str, str] = {}


def parsed(raw: bytes, headers: dict[str, str] | list[tuple[str, str]] = NOTHING, run: str | None = None) -> Incoming:
    """The call in a request, of the client `acme`."""
    from multidict import CIMultiDict

    request = make_mocked_request(
        "POST", CHAT, headers=CIMultiDict(headers), match_info={} if run is None else {"run": run}
    )
    request[CALLER] = Caller(client="acme")
    return incoming(request, raw, CHAT)


def body_with(**fields: object) -> bytes:
    """A usable body, with these fields."""
    return orjson.dumps({"model": "gpt-x", "messages": MESSAGES, **fields})


def refused(raw: bytes, headers: dict[str, str] | list[tuple[str, str]] = NOTHING, run: str | None = None) -> Refusal:
    """The 400 for a request."""
    with pytest.raises(Refusal) as raised:
        canonical_body(parsed(raw, headers, run).body)
    assert raised.value.rule.status == 400
    assert raised.value.rule.should_retry is False
    return raised.value


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"   ",
        b"{",
        b"null",
        b"true",
        b"7",
        b'"text"',
        b"[]",
        b"[{}]",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b'{"model": "gpt-x", "messages": [{"role": "user", "content": "hi"}]} trailing',
        b'{"model": "gpt-x", "messages": [{"role": "user", "content": "hi"}], }',
        b"model=gpt-x",
    ],
)
def test_what_is_no_json_object_is_refused(raw: bytes) -> None:
    """Bad JSON, and JSON that is no object, is a 400."""
    assert refused(raw).code == "invalid_request"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" * 5000, "-" + "9" * 5000])
@pytest.mark.parametrize(
    "field", ["temperature", "metadata", "user", "stream_options", "store", "prompt_cache_key", "cache"]
)
def test_numbers_json_cannot_hold_are_refused_wherever_they_stand(number: str, field: str) -> None:
    """NaN, infinity and numbers nobody can write back are a 400, also in fields that do not count for sameness."""
    inner = f'{{"custom_thing": {number}}}' if field in ("metadata", "stream_options", "cache") else number
    refused(
        b'{"model": "gpt-x", "messages": [{"role": "user", "content": "hi"}], "%s": %s}'
        % (field.encode(), inner.encode())
    )


@pytest.mark.parametrize("field", ["metadata", "user", "tools", "stream_options"])
def test_whole_numbers_beyond_64_bits_are_refused_wherever_they_stand(field: str) -> None:
    """A number that would come out altered is a 400, not a failure of ours."""
    refused(
        b'{"model": "gpt-x", "messages": [{"role": "user", "content": "hi"}], "%s": {"x": 1%s}}'
        % (field.encode(), b"0" * 40)
    )


@pytest.mark.parametrize("text", [rb'"\ud800"', rb'"a\udfffb"', b'"\xed\xa0\x80"', b'"\xff"', b'"a\x00b"', b'"a\nb"'])
@pytest.mark.parametrize("field", ["user", "metadata", "messages", "model"])
def test_broken_text_is_refused_wherever_it_stands(text: bytes, field: str) -> None:
    """Lone surrogates, invalid UTF-8 and raw control characters are a 400."""
    fields = {
        "model": b'"gpt-x"',
        "messages": b'[{"role": "user", "content": "hi"}]',
        field: {"metadata": b'{"a": %b}', "messages": b'[{"role": "user", "content": %b}]'}.get(field, b"%b") % text,
    }
    refused(b"{" + b", ".join(b'"%b": %b' % (name.encode(), value) for name, value in fields.items()) + b"}")


@pytest.mark.parametrize("field", ["messages", "metadata", "user", "tools"])
@pytest.mark.parametrize("depth", [300, 5_000, 100_000])
def test_deep_json_is_refused_wherever_it_stands(field: str, depth: int) -> None:
    """Nesting that would break a parser on the way is a 400."""
    deep = b"[" * depth + b"]" * depth
    inner = {"messages": b'[{"role": "user", "content": %b}]', "metadata": b'{"a": %b}'}.get(field, b"%b") % deep
    model = (
        b'"model": "gpt-x", "messages": [{"role": "user", "content": "hi"}], '
        if field != "messages"
        else b'"model": "x", '
    )
    refused(b"{" + model + b'"%b": %b}' % (field.encode(), inner))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 5}, "model"),
        ({"model": ["gpt-x"]}, "model"),
        ({"model": ""}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages"),
        ({"messages": [{}]}, "messages"),
        ({"messages": [{"role": 1, "content": "x"}]}, "messages"),
        ({"messages": [*MESSAGES, None]}, "messages"),
        ({"stream": "true"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"stream": 0}, "stream"),
        ({"stream": []}, "stream"),
        ({"metadata": "x"}, "metadata"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"custom_id": 5}}, "metadata.custom_id"),
        ({"metadata": {"custom_id": ["a"]}}, "metadata.custom_id"),
        ({"metadata": {"custom_id": ""}}, "metadata.custom_id"),
        ({"metadata": {"custom_id": "x" * 257}}, "metadata.custom_id"),
        ({"metadata": {"custom_id": "a\nb"}}, "metadata.custom_id"),
        ({"metadata": {"custom_id": "a\x7fb"}}, "metadata.custom_id"),
        ({"metadata": {"custom_id": "bw_1_abc"}}, "metadata.custom_id"),
        ({"cache": "no"}, "cache"),
        ({"service_tier": "scale"}, "service_tier"),
        ({"service_tier": "fast"}, "service_tier"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"service_tier": ["scale"]}, "service_tier"),
        ({"service_tier": {"a": 1}}, "service_tier"),
        ({"service_tier": 5}, "service_tier"),
    ],
)
def test_unusable_fields_are_named(fields: dict[str, object], param: str) -> None:
    """A field that cannot be used is a 400 that says which."""
    refusal = refused(body_with(**fields))
    assert refusal.param == param
    assert param in refusal.message


@pytest.mark.parametrize("field", ["model", "messages"])
def test_absent_fields_are_named(field: str) -> None:
    """A body without model or without messages is a 400 that says which."""
    body = {"model": "gpt-x", "messages": MESSAGES}
    del body[field]
    assert refused(orjson.dumps(body)).param == field


@pytest.mark.parametrize(
    "fields",
    [
        {"stream": None},
        {"stream": False},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"metadata": None},
        {"metadata": {}},
        {"metadata": {"a": "b"}},
        {"service_tier": None},
        {"service_tier": "auto"},
        {"service_tier": "default"},
        {"service_tier": "flex"},
        {"some_new_field": {"x": [1, 2.5, None]}},
        {"user": 2**63},
        {"seed": -(2**63)},
    ],
)
def test_ordinary_bodies_pass(fields: dict[str, object]) -> None:
    """What OpenAI takes, and what nobody knows yet, passes as it is."""
    call = parsed(body_with(**fields))
    assert (call.client, call.endpoint, call.model) == ("acme", CHAT, "gpt-x")
    assert call.body == {"model": "gpt-x", "messages": MESSAGES, **fields}


NAMES = {
    "x-batchway-custom-id": lambda name: ({"x-batchway-custom-id": name}, None),
    "Idempotency-Key": lambda name: ({"Idempotency-Key": name}, None),
    "metadata.custom_id": lambda name: ({}, name),
}


@pytest.mark.parametrize("place", list(NAMES))
@pytest.mark.parametrize("name", ["a", "x" * 256, "row 7/b?c#d", "naïve-☃", "%41"])
def test_a_name_is_taken_from_any_place(place: str, name: str) -> None:
    """Header, idempotency key and metadata name a request alike, 1 to 256 characters."""
    headers, in_metadata = NAMES[place](name)
    metadata = {} if in_metadata is None else {"metadata": {"custom_id": in_metadata}}
    assert parsed(body_with(**metadata), headers).custom_id == name


@pytest.mark.parametrize("name", ["", "x" * 257, "a\x07b", "\x7f", "bw_5_xyz", ".", ".."])
@pytest.mark.parametrize("place", ["x-batchway-custom-id", "Idempotency-Key"])
def test_a_name_that_cannot_be_one_is_refused(place: str, name: str) -> None:
    """Empty, too long, with control characters or broken bytes, a step in a path, or like one of ours: 400 names the header."""
    assert refused(body_with(), {place: name}).param == place


@pytest.mark.parametrize(("first", "second"), [(0, 1), (0, 2), (1, 2)])
def test_names_that_disagree_are_refused(first: int, second: int) -> None:
    """Two places that give two names are a 400; two that agree are one name."""
    places = list(NAMES)
    for other in ("b", "a"):
        headers: dict[str, str] = {}
        metadata: dict[str, object] = {}
        for place, name in ((places[first], "a"), (places[second], other)):
            more, in_metadata = NAMES[place](name)
            headers |= more
            if in_metadata is not None:
                metadata = {"metadata": {"custom_id": in_metadata}}
        if other == "b":
            refusal = refused(body_with(**metadata), headers)
            assert places[first] in refusal.message
            assert places[second] in refusal.message
        else:
            assert parsed(body_with(**metadata), headers).custom_id == "a"


def test_without_a_name_there_is_none() -> None:
    """An ordinary call has no name."""
    assert parsed(body_with(metadata={"x": "y"})).custom_id is None


def test_metadata_is_kept_as_json() -> None:
    """What the caller says of its request is kept; nothing, when it says nothing."""
    assert orjson.loads(parsed(body_with(metadata={"a": "b"})).metadata or b"") == {"a": "b"}
    assert parsed(body_with(metadata={})).metadata is None
    assert parsed(body_with()).metadata is None


@pytest.mark.parametrize(
    ("header", "path", "run"), [(None, None, None), ("r1", None, "r1"), (None, "r1", "r1"), ("r1", "r1", "r1")]
)
def test_a_run_comes_from_header_or_path(header: str | None, path: str | None, run: str | None) -> None:
    """The run's name stands in the header or in the base URL."""
    assert parsed(body_with(), {} if header is None else {"x-batchway-run": header}, path).ask.run == run


@pytest.mark.parametrize(("header", "path"), [("r1", "r2"), ("", None), ("x" * 257, None), (None, "a\x00b")])
def test_a_run_that_cannot_be_one_is_refused(header: str | None, path: str | None) -> None:
    """Two different runs for one request, or a name that is none, are a 400."""
    refused(body_with(), {} if header is None else {"x-batchway-run": header}, path)


@pytest.mark.parametrize(
    ("headers", "detached"),
    [
        ({}, False),
        ({"Prefer": "respond-async"}, True),
        ({"Prefer": "Respond-Async"}, True),
        ({"Prefer": "wait=10, respond-async"}, True),
        ({"Prefer": "respond-async; wait=10"}, True),
        ({"Prefer": "wait=10"}, False),
        ({"Prefer": "return=minimal"}, False),
        ({"Prefer": "respond-asynchronously"}, False),
        ([("Prefer", "wait=10"), ("Prefer", "respond-async")], True),
    ],
)
def test_only_respond_async_detaches(headers: dict[str, str] | list[tuple[str, str]], detached: bool) -> None:
    """RFC 7240: the preference in any of the header's lines, and nothing else, asks for a 202."""
    assert parsed(body_with(), headers).ask.detached is detached


@pytest.mark.parametrize(
    ("headers", "fields", "wishes"),
    [
        ({}, {}, {}),
        ({"Cache-Control": "no-cache"}, {}, {"no_cache": True}),
        ({"Cache-Control": "No-Cache"}, {}, {"no_cache": True}),
        ({"Cache-Control": "no-store, no-cache"}, {}, {"no_cache": True, "no_store": True}),
        ([("Cache-Control", "no-store"), ("Cache-Control", "no-cache")], {}, {"no_cache": True, "no_store": True}),
        ({"Cache-Control": "only-if-cached"}, {}, {"only_if_cached": True}),
        ({"Cache-Control": "max-age=60"}, {}, {"max_age": 60.0}),
        ({"Cache-Control": 'max-age="60"'}, {}, {"max_age": 60.0}),
        ({"Cache-Control": "max-age=0"}, {}, {"max_age": 0.0}),
        ({"Cache-Control": "max-age=soon"}, {}, {}),
        ({"Cache-Control": "max-age=nan"}, {}, {}),
        ({"Cache-Control": "public"}, {}, {}),
        ({}, {"cache": {"no-cache": True}}, {"no_cache": True}),
        ({}, {"cache": {"no-store": True}}, {"no_store": True}),
        ({}, {"cache": {"no-cache": "yes"}}, {}),
        ({}, {"cache": {"no-cache": False, "ttl": 5}}, {}),
    ],
)
def test_wishes_about_stored_answers(
    headers: dict[str, str] | list[tuple[str, str]], fields: dict[str, object], wishes: dict[str, object]
) -> None:
    """Cache-Control and LiteLLM's `cache` say which stored answers count."""
    ask = parsed(body_with(**fields), headers).ask
    found = {name: getattr(ask, name) for name in ("no_cache", "no_store", "only_if_cached", "max_age")}
    assert found == {"no_cache": False, "no_store": False, "only_if_cached": False, "max_age": None, **wishes}


@pytest.mark.parametrize(
    ("count", "retry"),
    [("0", False), ("1", True), ("2", True), ("-1", False), ("", False), ("x", False), ("1.5", False), ("²", False)],
)
def test_a_retry_says_how_often_it_has_tried(count: str, retry: bool) -> None:
    """`x-stainless-retry-count` of 1 or more marks a retry; nonsense does not, and does no harm."""
    assert parsed(body_with(), {"x-stainless-retry-count": count}).ask.retry is retry


@pytest.mark.parametrize("mode", ["sync", "auto", "fast", ""])
def test_modes_that_are_not_offered_are_refused(mode: str) -> None:
    """Nobody who asked for something else is put into a batch unasked."""
    assert "x-batchway-mode" in refused(body_with(), {"x-batchway-mode": mode}).message
    assert parsed(body_with(), {"x-batchway-mode": "batch"}).model == "gpt-x"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.just(10**40)
        | st.just("\ud800")
        | st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


def assert_400(refusal: Refusal) -> None:
    """Check that a refusal is the caller's own mistake."""
    assert refusal.rule.status == 400


def hostile_json(value: object) -> bytes:
    """JSON as a careless client writes it: surrogates, NaN and endless numbers included."""
    import json

    return json.dumps(value).encode()


@given(
    st.dictionaries(
        st.sampled_from(
            ["model", "messages", "stream", "metadata", "cache", "service_tier", "user", "store", "n", "tools", "x"]
        ),
        json_values,
    )
)
def test_every_body_is_a_call_or_a_400(body: dict[str, object]) -> None:
    """Whatever a client sends, it is refused with a 400 or can be written back as JSON: nothing else happens."""
    usable = {"model": "gpt-x", "messages": MESSAGES, **body}
    try:
        call = parsed(hostile_json(usable))
        canonical_body(call.body)
    except Refusal as refusal:
        assert_400(refusal)
    else:
        assert orjson.loads(orjson.dumps(call.body)) == call.body


@given(st.text(max_size=60))
def test_every_cache_control_header_can_be_read(header: str) -> None:
    """No header raises; directives are lower case."""
    for name in cache_control(header):
        assert name == name.lower()
        assert name


@given(st.binary(max_size=200))
def test_every_body_of_bytes_is_a_call_or_a_400(raw: bytes) -> None:
    """Random bytes are refused, never a failure of ours."""
    try:
        parsed(raw)
    except Refusal as refusal:
        assert_400(refusal)


def test_a_deadline_is_refused_not_ignored() -> None:
    """A caller that asks for an answer by a certain time is told that it cannot be had here."""
    assert "x-batchway-max-wait" in refused(body_with(), {"x-batchway-max-wait": "2h"}).message
