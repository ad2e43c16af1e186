"""Requests as a whole: what is read, what is refused, and that nothing else ever happens."""

from __future__ import annotations

import contextlib
import dataclasses
import typing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import completion_create_params as sdk

from gateway.chat import ChatRequest, Effort, JsonObject, JsonSchema, Text, UserTurn, read_chat
from gateway.chat.reading import KNOWN
from gateway.errors import Unsupported
from tests.unit.chat.bodies import any_json, body, refused, strange_bodies


@given(strange_bodies() | st.dictionaries(st.text(max_size=8), any_json, max_size=4))
def test_any_body_is_read_or_refused(strange: dict[str, object]) -> None:
    """Whatever JSON comes, it is understood or refused with a place and a reason; a bug in here would be a 500."""
    with contextlib.suppress(Unsupported):
        request = read_chat(strange)
        assert request.turns
        assert request.model


@given(strange_bodies())
def test_reading_changes_nothing(strange: dict[str, object]) -> None:
    """The same body read twice says the same, twice."""

    def outcome() -> object:
        try:
            return read_chat(strange)
        except Unsupported as refusal:
            return (refusal.field, refusal.reason)

    assert repr(outcome()) == repr(outcome())


def test_a_plain_request_asks_for_nothing_more() -> None:
    """What the caller did not say is empty, so that the provider's own default applies."""
    turn = UserTurn(parts=(Text(text="hello"),), field="messages[0]")
    assert read_chat(body()) == ChatRequest(model="m", turns=(turn,))


def test_every_option_arrives() -> None:
    """Each field is where plugins look for it."""
    request = read_chat(
        body(
            max_completion_tokens=9,
            max_tokens=5,
            temperature=0,
            top_p=0.5,
            top_k=3,
            n=2,
            seed=-7,
            presence_penalty=1,
            frequency_penalty=-2,
            logprobs=True,
            top_logprobs=4,
            reasoning_effort="xhigh",
            user="old",
            safety_identifier="new",
            stop=["a", "b"],
        )
    )
    assert (request.max_tokens, request.temperature, request.top_p, request.top_k) == (9, 0.0, 0.5, 3)
    assert (request.n, request.seed, request.presence_penalty, request.frequency_penalty) == (2, -7, 1.0, -2.0)
    assert (request.logprobs, request.top_logprobs, request.effort) == (True, 4, Effort.XHIGH)
    assert (request.user, request.stop) == ("new", ("a", "b"))


def test_what_is_null_is_not_said() -> None:
    """Clients that write every field, most of them null, ask for no more than those that leave them out."""
    fields = dict.fromkeys(typing.get_type_hints(sdk.CompletionCreateParamsNonStreaming))
    nulls = {name: None for name in fields if name not in ("messages", "model")}
    assert read_chat(body(**nulls, strange=None)) == read_chat(body())


@pytest.mark.parametrize(
    ("fields", "request_"),
    [
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"user": "joe"}, {"user": "joe"}),
        ({"stop": "a"}, {"stop": ("a",)}),
        ({"stop": []}, {}),
        ({"presence_penalty": 0, "frequency_penalty": 0.0}, {}),
        ({"top_logprobs": 0}, {}),
        ({"logit_bias": {}}, {}),
        ({"store": False}, {}),
        ({"modalities": ["text"]}, {}),
        *[({"service_tier": tier}, {}) for tier in ("auto", "default", "flex", "batch")],
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"response_format": JsonObject()}),
        (
            {
                "stream": True,
                "stream_options": {"include_usage": True},
                "metadata": {"a": "b"},
                "cache": {"no-cache": 1},
            },
            {},
        ),
        ({"parallel_tool_calls": False, "tool_choice": "auto"}, {}),
    ],
)
def test_ways_to_say_a_thing(fields: dict[str, object], request_: dict[str, object]) -> None:
    """Older names count, and what says nothing, or is the gateway's own business, leaves no trace."""
    said = read_chat(body(**fields))
    assert said == dataclasses.replace(read_chat(body()), **request_)


def test_a_schema_arrives_whole() -> None:
    """Name, description and strictness stay with the schema."""
    schema = {"type": "object", "properties": {"at": {"type": "string"}}}
    wanted = {"name": "place", "description": "where", "schema": schema, "strict": True}
    request = read_chat(body(response_format={"type": "json_schema", "json_schema": wanted}))
    assert request.response_format == JsonSchema(name="place", schema=schema, strict=True, description="where")


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"strange": 1}, "strange"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"n": 1.5}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": "0"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 1.01}, "top_p"),
        ({"top_k": 0}, "top_k"),
        ({"presence_penalty": -2.1}, "presence_penalty"),
        ({"frequency_penalty": 3}, "frequency_penalty"),
        ({"seed": 2**63}, "seed"),
        ({"logprobs": 1}, "logprobs"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"top_logprobs": 1, "logprobs": False}, "top_logprobs"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", 1]}, "stop"),
        ({"stop": {"a": 1}}, "stop"),
        ({"user": 7}, "user"),
        ({"safety_identifier": []}, "safety_identifier"),
        ({"reasoning_effort": "much"}, "reasoning_effort"),
        ({"verbosity": 1}, "verbosity"),
        ({"prediction": "x"}, "prediction"),
        ({"audio": {"voice": "alloy", "format": "mp3"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"moderation": {"model": "x"}}, "moderation"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"logit_bias": {"1": 1}}, "logit_bias"),
        ({"store": True}, "store"),
        *[({"service_tier": tier}, "service_tier") for tier in ("priority", "scale", "fast", "x", 1)],
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        ({"response_format": {"type": "text", "x": 1}}, "response_format.x"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
            "response_format.json_schema.name",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}, "y": 1}}},
            "response_format.json_schema.y",
        ),
        ({"model": ""}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": [1]}, "messages[0]"),
    ],
)
def test_what_no_translation_can_say_is_refused_by_its_place(fields: dict[str, object], place: str) -> None:
    """The refusal names the field, and says something of it."""
    assert refused(body() | fields) == place


def test_a_refusal_shows_no_more_than_a_word() -> None:
    """Prompts stay out of refusals, which are logged: what is too long is cut."""
    with pytest.raises(Unsupported) as caught:
        read_chat(body(reasoning_effort="secret " * 40))
    assert len(caught.value.reason) < 250
    with pytest.raises(Unsupported) as caught:
        read_chat(body(**{"field\n" * 40: 1}))
    assert len(caught.value.field) < 60
    assert "\n" not in caught.value.field


def test_hints_are_named() -> None:
    """What is read over is listed, for `x-batchway-dropped`."""
    request = read_chat(
        body(
            verbosity="low",
            prediction={"type": "content", "content": "x"},
            prompt_cache_key="k",
            prompt_cache_options={"mode": "implicit"},
            prompt_cache_retention="24h",
        )
    )
    assert set(request.hints) == {
        *("verbosity", "prediction", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
    }


#: A value that each field of OpenAI's request may have.
_SAID: dict[str, object] = {
    "audio": {"voice": "alloy", "format": "mp3"},
    "frequency_penalty": 1,
    "function_call": "auto",
    "functions": [{"name": "look"}],
    "logit_bias": {"1": 1},
    "logprobs": True,
    "max_completion_tokens": 5,
    "max_tokens": 5,
    "messages": [{"role": "user", "content": "hello"}],
    "metadata": {"a": "b"},
    "modalities": ["text"],
    "model": "m",
    "moderation": {"model": "x"},
    "n": 1,
    "parallel_tool_calls": True,
    "prediction": {"type": "content", "content": "x"},
    "presence_penalty": 1,
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "implicit"},
    "prompt_cache_retention": "24h",
    "reasoning_effort": "low",
    "response_format": {"type": "text"},
    "safety_identifier": "joe",
    "seed": 1,
    "service_tier": "auto",
    "stop": "x",
    "store": False,
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 1,
    "tool_choice": "auto",
    "tools": [{"type": "function", "function": {"name": "look"}}],
    "top_logprobs": 0,
    "top_p": 1,
    "user": "joe",
    "verbosity": "low",
    "web_search_options": {},
}


@pytest.mark.parametrize("name", sorted(typing.get_type_hints(sdk.CompletionCreateParamsStreaming)))
def test_every_field_of_openais_sdk_is_known(name: str) -> None:
    """A field that a new SDK brings is decided on, not refused as unknown by accident: this goes red until it is."""
    assert name in _SAID, f"decide what becomes of {name}, in gateway/chat and docs/translation.md"
    with contextlib.suppress(Unsupported):
        read_chat(body() | {name: _SAID[name]})
        return
    with pytest.raises(Unsupported) as caught:
        read_chat(body() | {name: _SAID[name]})
    assert caught.value.field == name
    assert "is not a field" not in caught.value.reason


def table() -> dict[str, list[str]]:
    """The rows of the page's table of fields, by the first word."""
    page = Path(__file__).parents[3].joinpath("docs", "translation.md").read_text("utf-8")
    lines = page.partition("| field |")[2].partition("\n\n")[0].splitlines()[2:]
    return {line.split("`")[1]: line.strip("| ").split(" | ") for line in lines}


def test_the_page_says_what_becomes_of_every_field() -> None:
    """Each field that is read has its row, and no other has one; `cache` never gets this far."""
    assert set(table()) == KNOWN - {"cache"}
    assert {name: len(cells) for name, cells in table().items()} == dict.fromkeys(table(), 4)


def test_the_page_names_every_field_of_openais_sdk() -> None:
    """A new field of OpenAI's gets a row before the SDK's new version passes."""
    assert set(table()) == set(typing.get_type_hints(sdk.CompletionCreateParamsStreaming)) | {"top_k"}
