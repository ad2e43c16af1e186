"""A completion told again as a stream says the same: checked with the official client's own types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gateway.endpoints.events import DONE, Thread, error_event


def thread_of(*, usage: bool = False) -> Thread:
    """A stream of ours."""
    return Thread(id="chatcmpl-bw_1", model="gpt-x", created=1_800_000_000, usage=usage)


def completion_of(*choices: Mapping[str, object], **more: object) -> dict[str, object]:
    """A completion as a provider's batch gives it."""
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    return {
        "id": "chatcmpl-upstream",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gpt-x-2027",
        "choices": list(choices),
        "usage": usage,
        **more,
    }


def choice_of(
    index: int = 0, finish_reason: str = "stop", logprobs: object = None, **message: object
) -> dict[str, object]:
    """One choice."""
    said = {"role": "assistant", "content": None, **message}
    return {"index": index, "finish_reason": finish_reason, "message": said, "logprobs": logprobs}


def stream(completion: Mapping[str, object], *, usage: bool = False, beats: int = 0) -> list[bytes]:
    """Everything a caller reads, heartbeats included."""
    thread = thread_of(usage=usage)
    return [thread.opening(), *[thread.beat()] * beats, *thread.replay(completion)]


def events_in(wire: list[bytes]) -> list[dict[str, Any]]:
    """The chunks, as a reader of server-sent events finds them; the end mark is checked and left out."""
    text = b"".join(wire)
    assert text.endswith(DONE)
    events = text.split(b"\n\n")[:-1]
    assert events.pop() == b"data: [DONE]"
    for event in events:
        assert event.startswith(b"data: ")
        assert b"\n" not in event
        assert b"\r" not in event
    return [orjson.loads(event.removeprefix(b"data: ")) for event in events]


def read_back(wire: list[bytes]) -> ChatCompletion:
    """What the official client makes of the stream."""
    state = ChatCompletionStreamState()
    for event in events_in(wire):
        state.handle_chunk(ChatCompletionChunk.model_validate(event))
    return state.current_completion_snapshot


def as_told(message: object) -> dict[str, object]:
    """A message without what a stream cannot tell apart: absent, null and empty."""
    assert isinstance(message, dict)
    return {name: value for name, value in message.items() if value not in (None, "", [])}


def test_heartbeats_are_chunks_of_one_choice_with_one_id_and_model() -> None:
    """Every chunk but the one of usage has one choice, and all have the same id, model and time: clients index [0]."""
    events = events_in(stream(completion_of(choice_of(content="hi")), usage=True, beats=3))
    assert {(event["id"], event["model"], event["created"], event["object"]) for event in events} == {
        ("chatcmpl-bw_1", "gpt-x", 1_800_000_000, "chat.completion.chunk")
    }
    assert [len(event["choices"]) for event in events[:-1]] == [1] * (len(events) - 1)
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [event["choices"][0]["delta"] for event in events[1:4]] == [{"content": ""}] * 3
    assert all(event["choices"][0]["finish_reason"] is None for event in events[:4])


def test_user_code_that_prints_content_gets_the_text_once() -> None:
    """Joining `choices[0].delta.content`, as every example does, gives the answer."""
    events = events_in(stream(completion_of(choice_of(content="naïve ☃\u2028text")), beats=2))
    assert "".join(event["choices"][0]["delta"].get("content") or "" for event in events) == "naïve ☃\u2028text"


def test_several_tool_calls_keep_their_places() -> None:
    """Each call has an index of its own, and id, name and arguments arrive whole."""
    calls = [
        {"id": f"call_{n}", "type": "function", "function": {"name": f"f{n}", "arguments": f'{{"x": {n}}}'}}
        for n in range(3)
    ]
    read = read_back(stream(completion_of(choice_of(finish_reason="tool_calls", tool_calls=calls))))
    message = read.choices[0].message
    assert read.choices[0].finish_reason == "tool_calls"
    assert message.tool_calls is not None
    found = [call.model_dump(include={"id", "type", "function"}) for call in message.tool_calls]
    assert [{**call, "function": {k: call["function"][k] for k in ("name", "arguments")}} for call in found] == calls


def test_tool_calls_with_an_index_of_the_provider_are_not_merged() -> None:
    """Some providers number every call 0: they stay several calls."""
    calls = [
        {"index": 0, "id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for n in range(2)
    ]
    read = read_back(stream(completion_of(choice_of(finish_reason="tool_calls", tool_calls=calls))))
    assert read.choices[0].message.tool_calls is not None
    assert [call.id for call in read.choices[0].message.tool_calls] == ["c0", "c1"]


def test_a_refusal_is_told() -> None:
    """A message that refuses arrives as a refusal, not as content."""
    read = read_back(stream(completion_of(choice_of(refusal="I will not."))))
    assert read.choices[0].message.refusal == "I will not."
    assert not read.choices[0].message.content


def test_several_choices_keep_their_order() -> None:
    """With n > 1 every choice arrives under its own index, with its own finish reason."""
    choices = [
        choice_of(n, finish, content=f"text {n}") for n, finish in enumerate(["stop", "length", "content_filter"])
    ]
    read = read_back(stream(completion_of(*reversed(choices)), beats=1))
    found = sorted((choice.index, choice.message.content, choice.finish_reason) for choice in read.choices)
    assert found == [(0, "text 0", "stop"), (1, "text 1", "length"), (2, "text 2", "content_filter")]


LOGPROBS = {
    "content": [{"token": "hi", "logprob": -0.1, "bytes": [104, 105], "top_logprobs": []}],
    "refusal": None,
}


@pytest.mark.parametrize("content", ["hi", "", None])
def test_logprobs_are_told_once(content: str | None) -> None:
    """Log probabilities arrive with the choice they belong to, once, also when there is no text."""
    read = read_back(stream(completion_of(choice_of(logprobs=LOGPROBS, content=content))))
    logprobs = read.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [token.token for token in logprobs.content] == ["hi"]


@pytest.mark.parametrize("asked", [True, False])
def test_usage_comes_last_and_only_when_asked_for(asked: bool) -> None:
    """`stream_options.include_usage` brings one chunk without choices before the end; without it there is none."""
    events = events_in(stream(completion_of(choice_of(content="hi")), usage=asked))
    with_usage = [event for event in events if event.get("usage")]
    if asked:
        assert with_usage == [events[-1]]
        assert events[-1]["choices"] == []
        assert events[-1]["usage"]["total_tokens"] == 7
    else:
        assert with_usage == []
        assert all(event["choices"] for event in events)


@pytest.mark.parametrize("finish", ["stop", "length", "tool_calls", "content_filter", "function_call"])
def test_finish_reasons_come_once_and_last(finish: str) -> None:
    """Each choice ends with its own reason, after everything it says."""
    events = events_in(stream(completion_of(choice_of(finish_reason=finish, content="hi"))))
    reasons = [event["choices"][0]["finish_reason"] for event in events]
    assert reasons == [None] * (len(events) - 1) + [finish]


def test_what_else_a_message_holds_is_told() -> None:
    """Fields nobody here knows, such as a model's reasoning, are passed on."""
    events = events_in(stream(completion_of(choice_of(content="hi", reasoning_content="hm", annotations=[{"a": 1}]))))
    told = {name: value for event in events for name, value in event["choices"][0]["delta"].items()}
    assert told["reasoning_content"] == "hm"
    assert told["annotations"] == [{"a": 1}]


@pytest.mark.parametrize(
    "choices", [[], None, "x", [None], [{}], [{"message": None}], [{"message": {"tool_calls": [None]}}]]
)
def test_odd_completions_still_end(choices: object) -> None:
    """Whatever a provider stored, the stream is well-formed and has its end mark."""
    assert stream({**completion_of(), "choices": choices})[-1] == DONE
    events_in(stream({**completion_of(), "choices": choices}))


@pytest.mark.parametrize("depth", [255, 1_000])
def test_a_deep_answer_can_be_streamed(depth: int) -> None:
    """An answer that is stored can be streamed, however deep what its provider put in it is nested."""
    deep = "[" * depth + "]" * depth
    wire = stream(completion_of(choice_of(content="hello", reasoning_details=orjson.loads(deep))))
    told = {name for event in events_in(wire) for name in event["choices"][0]["delta"]}
    assert {"content", "reasoning_details"} <= told
    assert f'"reasoning_details":{deep}'.encode() in b"".join(wire)


def test_an_error_is_one_event() -> None:
    """A failure in a stream is OpenAI's error object in one event."""
    assert error_event(b'{"error":{"message":"no"}}') == b'data: {"error":{"message":"no"}}\n\n'


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
tool_calls = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.text("abc123_", min_size=1, max_size=8),
            "type": st.just("function"),
            "function": st.fixed_dictionaries({"name": st.text("abc_", min_size=1, max_size=8), "arguments": texts}),
        }
    ),
    max_size=3,
)
messages = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | texts},
    optional={"refusal": st.none() | texts, "tool_calls": tool_calls},
)
reasons = st.sampled_from(["stop", "length", "tool_calls", "content_filter"])


@given(st.lists(st.tuples(messages, reasons), min_size=1, max_size=4), st.integers(0, 3), st.booleans())
def test_every_completion_reads_back_as_it_was(
    said: list[tuple[dict[str, object], str]], beats: int, usage: bool
) -> None:
    """Parsed by the official client, a replayed stream has the messages, finish reasons and usage of the completion."""
    choices = [
        {"index": index, "finish_reason": reason, "message": message, "logprobs": None}
        for index, (message, reason) in enumerate(said)
    ]
    read = read_back(stream(completion_of(*choices), usage=usage, beats=beats))
    assert len(read.choices) == len(said)
    for choice, (message, reason) in zip(sorted(read.choices, key=lambda each: each.index), said, strict=True):
        found = choice.message.model_dump(include={"role", "content", "refusal"})
        calls = [
            {
                "id": call.id,
                "type": call.type,
                "function": {"name": call.function.name, "arguments": call.function.arguments},
            }
            for call in choice.message.tool_calls or []
        ]
        assert as_told({**found, "tool_calls": calls}) == as_told(message)
        assert choice.finish_reason == reason
    assert (read.usage is not None) is usage
