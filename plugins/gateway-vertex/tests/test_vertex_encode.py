"""What a caller's body becomes: lines, their names, models, and agreement with the SDK's own types."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from google.genai import types
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from vertex_lab import CHAT, MARKER, MODEL, TABLE, chat

from gateway import Call, Unsupported
from gateway_gemini.encode import dropped
from gateway_gemini.simulated.generate import request_problem
from gateway_vertex.encode import encode_line, frame_line, request_of, resource_of
from gateway_vertex.settings import VertexSettings
from gateway_vertex.simulated.asking import labels_problem

DIALECT = VertexSettings.model_validate(TABLE).dialect


def call(body: dict[str, object], endpoint: str = CHAT) -> Call:
    """The call that the gateway makes of a body."""
    return Call(endpoint=endpoint, model=str(body["model"]), body=body)


def test_a_line_is_a_request_in_geminis_words() -> None:
    """A chat completion becomes a GenerateContentRequest without a model, in the JSON names of the REST API."""
    body = chat("hi", max_tokens=9, temperature=0.5)
    body["messages"] = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]

    assert orjson.loads(encode_line(call(body), DIALECT)) == {
        "request": {
            "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
            "systemInstruction": {"parts": [{"text": "be brief"}]},
            "generationConfig": {"maxOutputTokens": 9, "temperature": 0.5},
        }
    }


def test_a_name_goes_into_the_labels() -> None:
    """Framing puts the line's name into the request's labels, and touches nothing else."""
    payload = encode_line(call(chat("hi")), DIALECT)
    framed = orjson.loads(frame_line(f"{MARKER}-17", payload, "batchway-line"))
    labels = framed["request"].pop("labels")

    assert labels == {"batchway-line": f"{MARKER}-17"}
    assert framed == orjson.loads(payload)


def test_a_name_may_stand_beside_the_request() -> None:
    """Without a label key the name is the line's `key`."""
    payload = encode_line(call(chat("hi")), DIALECT)
    framed = orjson.loads(frame_line(f"{MARKER}-17", payload, ""))

    assert framed == {"key": f"{MARKER}-17", **orjson.loads(payload)}


def test_every_name_is_a_label_that_google_takes() -> None:
    """The longest line id, under the default key, is within the limits of labels."""
    assert labels_problem({"batchway-line": f"{'z' * 20}-9999999"}) is None
    assert labels_problem({"batchway-line": "Z"}) is not None
    assert labels_problem({"batchway-line": "z" * 64}) is not None


@pytest.mark.parametrize(
    ("model", "resource"),
    [
        ("gemini-2.5-flash", "publishers/google/models/gemini-2.5-flash"),
        ("google/gemini-2.5-flash", "publishers/google/models/gemini-2.5-flash"),
        ("publishers/google/models/gemini-2.5-flash", "publishers/google/models/gemini-2.5-flash"),
        ("projects/p/locations/l/models/1@2", "projects/p/locations/l/models/1@2"),
        ("projects/p/locations/l/endpoints/1", "projects/p/locations/l/endpoints/1"),
    ],
)
def test_models_have_resource_names(model: str, resource: str) -> None:
    """A bare name is Google's model; full names stay as they are."""
    assert resource_of(model) == resource


@pytest.mark.parametrize("model", ["", "a b", "../x", "a//b", "x?y=1", "x:generateContent", "é", "x" * 300, "/x"])
def test_a_model_that_is_no_name_is_refused(model: str) -> None:
    """What could change the address of a call is no model's name."""
    with pytest.raises(Unsupported) as caught:
        encode_line(call({**chat("hi"), "model": model}), DIALECT)

    assert caught.value.field == "model"


@pytest.mark.parametrize("endpoint", ["/v1/embeddings", "/v1/responses", "/v1/completions"])
def test_other_endpoints_are_refused(endpoint: str) -> None:
    """Batches here answer chat completions, and say so of everything else."""
    with pytest.raises(Unsupported):
        request_of(call(chat("hi"), endpoint), DIALECT)


@pytest.mark.parametrize("url", ["https://example.com/a.png", "gs://b/a.png", "https://storage.googleapis.com/b/a.png"])
def test_links_are_refused(url: str) -> None:
    """An image behind an address is refused by its field: nothing fetches it."""
    body = chat("")
    body["messages"] = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
    with pytest.raises(Unsupported) as caught:
        encode_line(call(body), DIALECT)

    assert caught.value.field.startswith("messages[0].content[0].image_url")


def test_what_json_cannot_hold_is_refused() -> None:
    """A schema may name a number beyond 64 bits; that is the caller's to mend, and no bug here."""
    schema = {"type": "object", "properties": {"a": {"type": "integer", "maximum": 2**70}}}
    with pytest.raises(Unsupported, match="JSON"):
        encode_line(
            call(chat("x", tools=[{"type": "function", "function": {"name": "f", "parameters": schema}}])), DIALECT
        )


def test_what_is_dropped_is_named() -> None:
    """Hints and the user's name are left out, and the caller can see it."""
    body = chat("hi", verbosity="low", user="u-1")

    assert sorted(dropped(call(body))) == ["user", "verbosity"]
    assert encode_line(call(body), DIALECT) == encode_line(call(chat("hi")), DIALECT)


def test_settings_reach_the_translation() -> None:
    """Late system messages, summaries of thoughts and families are as the table says."""
    own = {"models": ["my-*"], "efforts": {"low": 5}}
    table = {**TABLE, "late_system": "hoist", "include_thoughts": True, "families": [own]}
    dialect = VertexSettings.model_validate(table).dialect
    messages = [{"role": "user", "content": "a"}, {"role": "system", "content": "s"}, {"role": "user", "content": "b"}]
    body: dict[str, object] = {"model": "my-model", "messages": messages, "reasoning_effort": "low"}
    request = request_of(call(body), dialect)

    assert request["systemInstruction"] == {"parts": [{"text": "s"}]}
    assert request["generationConfig"] == {"thinkingConfig": {"thinkingBudget": 5, "includeThoughts": True}}


_TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
_TEXTS = st.text(min_size=1, max_size=40)


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """Chat bodies that are meant well."""
    turns = draw(st.lists(_TEXTS, min_size=1, max_size=3))
    messages: list[dict[str, object]] = []
    for n, said in enumerate(turns):
        messages += [{"role": "assistant", "content": "hm"}] * (n > 0) + [{"role": "user", "content": said}]
    optional = {
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0.01, 1),
        "max_completion_tokens": st.integers(1, 1_000),
        "stop": st.lists(_TEXTS, min_size=1, max_size=4),
        "seed": st.integers(-1_000, 1_000),
        "tools": st.just([_TOOL]),
        "response_format": st.just({"type": "json_object"}),
        "logprobs": st.booleans(),
        "user": _TEXTS,
    }
    return {"model": MODEL, "messages": messages, **draw(st.fixed_dictionaries({}, optional=optional))}


@given(body=bodies(), n=st.integers(0, 9_999_999))
@hypothesis_settings(max_examples=150, deadline=None)
def test_what_is_accepted_fits_the_sdks_types_and_the_simulator(body: dict[str, Any], n: int) -> None:
    """Every body that is accepted makes one line that the SDK's own types and the simulator take."""
    try:
        payload = encode_line(call(body), DIALECT)
    except Unsupported:
        return
    framed = frame_line(f"{MARKER}-{n}", payload, "batchway-line")
    request = orjson.loads(framed)["request"]
    asked = {name: field for name, field in request.items() if name != "labels"}

    assert b"\n" not in framed
    assert request_problem(asked, MODEL) is None
    assert labels_problem(request["labels"]) is None
    for content in request["contents"]:
        types.Content.model_validate(content)
    types.GenerationConfig.model_validate(request.get("generationConfig", {}))
    for tool in request.get("tools", []):
        types.Tool.model_validate(tool)
