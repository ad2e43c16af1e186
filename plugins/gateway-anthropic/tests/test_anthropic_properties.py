"""What holds for every request and every row, however odd."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from anthropic_lab import MODEL, NEWEST, OLDER, row, sent, succeeded
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from gateway import Call, Unsupported
from gateway_anthropic.decode import decode_row
from gateway_anthropic.encode import CHAT, write_params
from gateway_anthropic.settings import AnthropicSettings
from gateway_anthropic.simulated.params import params_problem

PARAMS: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsNonStreaming)
WORDS = st.text(max_size=12).map(lambda text: text.strip() or "word") | st.text(max_size=12)
IDS = st.sampled_from(["toolu_1", "call:2", "ä", "x" * 70])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
PART = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, WORDS),
    st.builds(
        lambda kind: {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,AAAA"}},
        st.sampled_from(["png", "jpeg", "bmp"]),
    ),
    st.just({"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}),
)
SAID = st.one_of(
    st.builds(
        lambda role, text: [{"role": role, "content": text}],
        st.sampled_from(["system", "user", "assistant", "developer"]),
        WORDS,
    ),
    st.builds(lambda parts: [{"role": "user", "content": parts}], st.lists(PART, min_size=1, max_size=3)),
)


@st.composite
def calls(draw: st.DrawFn) -> list[dict[str, Any]]:
    """An assistant's turn that calls functions, and all its results."""
    ids = draw(st.lists(IDS, min_size=1, max_size=3, unique=True))
    arguments = [draw(st.dictionaries(WORDS, JSON, max_size=2)) for _ in ids]
    made = [
        {"id": name, "type": "function", "function": {"name": "weather", "arguments": orjson.dumps(given).decode()}}
        for name, given in zip(ids, arguments, strict=True)
    ]
    results = [{"role": "tool", "tool_call_id": name, "content": draw(WORDS)} for name in ids]
    return [{"role": "assistant", "content": draw(st.none() | WORDS), "tool_calls": made}, *results]


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """Chat bodies of all kinds; not all of them can be translated."""
    around = [{"role": "user", "content": "Now weather, please."}]
    turns = [around, *draw(st.lists(SAID | calls(), max_size=4)), *draw(st.sampled_from([[around], [around], []]))]
    schema = {"type": "object", "properties": {"a": {"type": draw(st.sampled_from(["string", "number"]))}}}
    tools = [
        {
            "type": "function",
            "function": {"name": name, "parameters": schema, "strict": draw(st.none() | st.booleans())},
        }
        for name in draw(st.lists(st.sampled_from(["weather", "other", "third one"]), max_size=2, unique=True))
    ]
    optional: dict[str, st.SearchStrategy[Any]] = {
        "reasoning_effort": st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh", "max"]),
        "max_tokens": st.sampled_from([1, 500, 1_024, 1_025, 3_000, 60_000]),
        "temperature": st.sampled_from([0, 0.5, 1, 1.5]),
        "top_p": st.sampled_from([0.1, 1]),
        "top_k": st.sampled_from([1, 40]),
        "stop": WORDS | st.lists(WORDS, min_size=1, max_size=3),
        "user": WORDS | st.just("u" * 300),
        "seed": st.integers(0, 9),
        "parallel_tool_calls": st.booleans(),
        "tool_choice": st.sampled_from(
            ["none", "auto", "required", {"type": "function", "function": {"name": "weather"}}]
        ),
        "response_format": st.sampled_from(
            [
                {"type": "text"},
                {"type": "json_object"},
                {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
            ]
        ),
        "presence_penalty": st.sampled_from([0, 0.5]),
    }
    names = draw(st.sets(st.sampled_from(sorted(optional)), max_size=5))
    body = {"model": draw(st.sampled_from([MODEL, OLDER, NEWEST, "claude-sonnet-5-5", "sim-small"]))}
    if tools:
        body["tools"] = tools  # type: ignore[assignment]
    return {
        **body,
        "messages": [message for turn in turns for message in turn],
        **{name: draw(optional[name]) for name in sorted(names)},
    }


SETTINGS = st.builds(
    lambda **chosen: AnthropicSettings.model_validate(chosen),
    api_version=st.sampled_from(["2026-10-21", "2023-06-01"]),
    sampling=st.sampled_from(["refuse", "drop"]),
    json_object=st.sampled_from(["refuse", "instruct"]),
    late_system=st.sampled_from(["refuse", "hoist", "send"]),
)


def read_through(content: object) -> None:
    """Take everything out of what pydantic validates only when it is taken out."""
    if isinstance(content, dict):
        content = list(content.values())
    if not isinstance(content, str | bytes) and isinstance(content, Iterable):
        for inner in content:
            read_through(inner)


@given(body=bodies(), settings=SETTINGS)
def test_what_is_accepted_is_good(body: dict[str, Any], settings: AnthropicSettings) -> None:
    """Whatever is not refused at admission fits the SDK's own types, and the provider's rules as far as they are known."""
    try:
        made = write_params(Call(endpoint=CHAT, model=str(body["model"]), body=body), settings)
    except Unsupported:
        return
    params = orjson.loads(orjson.dumps(made.content))

    PARAMS.validate_python(
        {key: value for key, value in params.items() if key not in ("temperature", "top_p", "top_k")}
    )
    assert params_problem(params, settings.api_version, batched=True) is None
    assert all(isinstance(name, str) and name for name in made.dropped)


@given(said=st.lists(SAID | calls(), min_size=1, max_size=4), last=st.text(min_size=1, max_size=9))
def test_words_and_calls_arrive_whole(said: list[list[dict[str, Any]]], last: str) -> None:
    """No word of a conversation, and no argument of a call, is lost or changed on the way."""
    messages: list[Any] = [{"role": "user", "content": "start"}, *(each for turn in said for each in turn)]
    messages.append({"role": "user", "content": "end " + last})
    tools = [{"type": "function", "function": {"name": "weather"}}]
    try:
        params = sent({"model": MODEL, "messages": messages, "tools": tools}, late_system="hoist")
    except Unsupported:
        return
    blocks = [block for message in params["messages"] for block in message["content"]]
    arguments = [
        orjson.loads(call["function"]["arguments"]) for message in messages for call in message.get("tool_calls", ())
    ]
    spoken = "".join(block.get("text", "") for block in (*params.get("system", ()), *blocks) if block["type"] == "text")

    assert [block["input"] for block in blocks if block["type"] == "tool_use"] == arguments
    for message in messages:
        words = message["content"] if isinstance(message["content"], str) and message["role"] != "tool" else ""
        assert not words.strip() or words in spoken


@given(content=JSON | st.builds(lambda inner: {"type": "succeeded", "message": {"content": inner}}, JSON))
def test_no_row_breaks_the_reader(content: object) -> None:
    """Any result at all is read as something."""
    for result in (decode_row(row(content)), decode_row(orjson.dumps(content))):
        assert (result.body is not None) == (result.status == 200 and result.error is None)


@given(cut=st.integers(0, 400), junk=st.binary(max_size=8))
def test_no_damage_breaks_the_reader(cut: int, junk: bytes) -> None:
    """A row that is cut or has foreign bytes in it is read as something."""
    whole = succeeded({"type": "text", "text": "x"})

    decode_row(whole[:cut] + junk + whole[cut + 1 :])
