"""What a caller's body becomes on Together's wire, and what is refused or left out."""

from __future__ import annotations

import orjson
import pytest
from together_lab import call, chat

from gateway import Unsupported
from gateway.chat import carry
from gateway_together.encode import dropped_fields, encode_line, sent_body


def sent(**fields: object) -> dict[str, object]:
    """What is sent of these fields, model and messages apart."""
    body = sent_body(call(chat("x", **fields)))
    return {key: field for key, field in body.items() if key not in ("model", "messages")}


def sent_messages(*messages: object) -> object:
    """What is sent of these messages."""
    return sent_body(call({"model": "m", "messages": list(messages)}))["messages"]


def test_a_line_is_an_id_and_a_body() -> None:
    """The stored payload is one JSON object with the body alone, on one line."""
    payload = encode_line(call(chat("two\nlines\u2028here", temperature=0.5)))

    assert b"\n" not in payload
    assert orjson.loads(payload) == {"body": chat("two\nlines\u2028here", temperature=0.5)}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_completion_tokens": 7}, {"max_tokens": 7}),
        ({"max_completion_tokens": 7, "max_tokens": 9}, {"max_tokens": 7}),
        ({"max_tokens": 9}, {"max_tokens": 9}),
        ({"stop": "END"}, {"stop": ["END"]}),
        ({"stop": ["a", "b"]}, {"stop": ["a", "b"]}),
        ({"stop": []}, {}),
        ({"logprobs": True}, {"logprobs": 1}),
        ({"logprobs": True, "top_logprobs": 0}, {"logprobs": 1}),
        ({"logprobs": True, "top_logprobs": 5}, {"logprobs": 5}),
        ({"logprobs": False, "top_logprobs": 0}, {}),
        ({"logprobs": 3}, {"logprobs": 3}),
        ({"reasoning_effort": "none"}, {"reasoning": {"enabled": False}}),
        ({"reasoning_effort": "none", "reasoning": {"enabled": True}}, {"reasoning": {"enabled": True}}),
        ({"reasoning_effort": "minimal"}, {"reasoning_effort": "low"}),
        ({"reasoning_effort": "medium"}, {"reasoning_effort": "medium"}),
        ({"reasoning_effort": "xhigh"}, {"reasoning_effort": "high"}),
        ({"modalities": ["text"]}, {}),
        ({"temperature": None, "audio": None, "stop": None}, {}),
        ({"n": 3, "seed": 1, "logit_bias": {"5": 1}}, {"n": 3, "seed": 1, "logit_bias": {"5": 1}}),
        ({"top_k": 5, "min_p": 0.1, "brand_new": {"a": 1}}, {"top_k": 5, "min_p": 0.1, "brand_new": {"a": 1}}),
        (
            {"prompt_cache_key": "k", "parallel_tool_calls": False},
            {"prompt_cache_key": "k", "parallel_tool_calls": False},
        ),
        ({"stream": True, "stream_options": {"include_usage": True}, "metadata": {"a": "b"}}, {}),
        ({"service_tier": "flex", "store": False}, {}),
        ({"functions": []}, {}),
    ],
)
def test_fields_in_the_schemas_words(fields: dict[str, object], expected: dict[str, object]) -> None:
    """Each field goes as Together's schema has it, or not at all where it says nothing."""
    assert sent(**fields) == expected


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"audio": {"voice": "a"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"moderation": {"model": "m"}}, "moderation"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"tools": [{"type": "function"}, {"type": "custom", "custom": {}}]}, "tools[1].type"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"logprobs": "yes"}, "logprobs"),
        ({"top_logprobs": 5}, "top_logprobs"),
        ({"logprobs": False, "top_logprobs": 5}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": "2"}, "top_logprobs"),
        ({"seed": 2**80}, "seed"),
    ],
)
def test_what_changes_the_answer_is_refused(fields: dict[str, object], refused: str) -> None:
    """A field that Together cannot express, and whose loss would change the answer, is refused by name."""
    with pytest.raises(Unsupported) as caught:
        encode_line(call(chat("x", **fields)))

    assert caught.value.field == refused


def test_only_chat_completions_are_batched() -> None:
    """Another endpoint is refused at admission, not by a batch that fails."""
    with pytest.raises(Unsupported) as caught:
        encode_line(call(chat("x"), endpoint="/v1/embeddings"))

    assert caught.value.field == "endpoint"


def test_hints_are_left_out_and_named() -> None:
    """Hints without a place in the schema are not sent and are named; what the gateway keeps itself is not named."""
    fields = {"user": "u", "verbosity": "low", "prediction": {}, "safety_identifier": None, "store": True}
    body = chat("x", **fields, stream=True, metadata={"a": "b"}, service_tier="auto")

    assert sent_body(call(body)) == chat("x")
    assert sorted(dropped_fields(call(body))) == ["prediction", "store", "user", "verbosity"]
    assert dropped_fields(call(chat("x", store=False))) == ()


def test_roles_and_texts_in_the_schemas_words() -> None:
    """A developer is a system, lists of texts are one text, and what the user said keeps its parts."""
    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]
    given = [
        {"role": "developer", "content": [{"type": "text", "text": "be "}, {"type": "text", "text": "brief"}]},
        {"role": "user", "content": parts, "name": "ann"},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "42"}]},
        {"role": "tool", "tool_call_id": "c", "content": None},
    ]

    assert sent_messages(*given) == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": parts, "name": "ann"},
        {"role": "tool", "tool_call_id": "c", "content": "42"},
        {"role": "tool", "tool_call_id": "c", "content": ""},
    ]


def test_ids_lose_what_the_gateway_put_there() -> None:
    """A conversation that comes over from a provider of thoughts has the ids that this provider gave."""
    packed = carry("toolu_1", {"anthropic": ["a thought"]})
    call_ = {"id": packed, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    said, result = (
        {"role": "assistant", "content": None, "tool_calls": [call_]},
        {"role": "tool", "tool_call_id": packed},
    )
    sent = orjson.loads(orjson.dumps(sent_messages(said, result)))

    assert (sent[0]["tool_calls"][0]["id"], sent[1]["tool_call_id"]) == ("toolu_1", "toolu_1")


def test_an_answer_that_is_sent_back() -> None:
    """An assistant's message loses empty calls, nulls and what only an answer has; its calls are numbered; a refusal is text."""
    calls = [{"id": str(n), "type": "function", "function": {"name": "f", "arguments": "{}"}} for n in range(2)]
    given = [
        {"role": "assistant", "content": "hi", "tool_calls": [], "refusal": None, "annotations": [], "audio": None},
        {"role": "assistant", "content": None, "tool_calls": calls, "function_call": None},
        {"role": "assistant", "content": None, "refusal": "no"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "never"}], "reasoning_content": "why"},
    ]

    assert sent_messages(*given) == [
        {"role": "assistant", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [{**entry, "index": n} for n, entry in enumerate(calls)]},
        {"role": "assistant", "content": "no"},
        {"role": "assistant", "content": "never", "reasoning_content": "why"},
    ]


@pytest.mark.parametrize(
    ("message", "refused"),
    [
        ("hi", "messages[0]"),
        ({"content": "x"}, "messages[0].role"),
        ({"role": "function", "content": "x", "name": "f"}, "messages[0].role"),
        ({"role": "user", "content": 5}, "messages[0].content"),
        ({"role": "user", "content": ["x"]}, "messages[0].content[0].type"),
        ({"role": "user", "content": [{"type": "file", "file": {}}]}, "messages[0].content[0].type"),
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "mp3"}}]},
            "messages[0].content[0].input_audio.format",
        ),
        ({"role": "system", "content": [{"type": "image_url", "image_url": {}}]}, "messages[0].content[0].type"),
        ({"role": "system", "content": {"text": "x"}}, "messages[0].content"),
        ({"role": "assistant", "audio": {"id": "a"}}, "messages[0].audio"),
        ({"role": "assistant", "function_call": {"name": "f"}}, "messages[0].function_call"),
        ({"role": "assistant", "tool_calls": {"a": 1}}, "messages[0].tool_calls"),
        ({"role": "assistant", "tool_calls": [{"type": "custom"}]}, "messages[0].tool_calls[0].type"),
    ],
)
def test_messages_without_words_in_the_schema(message: object, refused: str) -> None:
    """What the schema of messages has no place for is refused with its place in the body."""
    with pytest.raises(Unsupported) as caught:
        sent_messages(message)

    assert caught.value.field == refused


def test_encoding_twice_changes_nothing() -> None:
    """A stored body that is asked for at the synchronous endpoint is encoded again, and stays what it was."""
    body = chat(
        "x", max_completion_tokens=5, logprobs=True, top_logprobs=2, stop="E", reasoning_effort="none", user="u"
    )
    once = sent_body(call(body))

    assert sent_body(call(once)) == once
