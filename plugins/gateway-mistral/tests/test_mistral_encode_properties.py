"""Bodies of all kinds: what is taken is taken by the provider, and nonsense is never a bug."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st
from mistral_lab import MODEL, call, chat, sent
from mistralai.client.models import ChatCompletionRequest

from gateway import Unsupported
from gateway_mistral.encode import encode_line
from gateway_mistral.simulated.schema import chat_problem

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


PARTS = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS}),
    st.fixed_dictionaries(
        {
            "type": st.just("image_url"),
            "image_url": TEXTS
            | st.fixed_dictionaries({"url": TEXTS}, optional={"detail": st.sampled_from(["low", "original", None])}),
        }
    ),
    st.fixed_dictionaries(
        {"type": st.just("input_audio"), "input_audio": st.fixed_dictionaries({"data": TEXTS, "format": TEXTS})}
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("file"),
            "file": st.fixed_dictionaries(
                {"file_data": TEXTS.map("data:application/pdf;base64,{}".format)}, optional={"filename": TEXTS}
            ),
        }
    ),
)


CONTENTS = TEXTS | st.lists(PARTS, max_size=3)


CALLS = st.fixed_dictionaries(
    {
        "id": TEXTS,
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": TEXTS, "arguments": st.just("{}") | st.just({"a": 1})}),
    }
)


MESSAGES = st.one_of(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "developer", "user"]), "content": CONTENTS}),
    st.fixed_dictionaries(
        {"role": st.just("assistant")},
        optional={
            "content": CONTENTS | st.none(),
            "tool_calls": st.lists(CALLS, max_size=2) | st.none(),
            "refusal": TEXTS | st.none(),
            "prefix": st.booleans(),
            "name": TEXTS,
        },
    ),
    st.fixed_dictionaries({"role": st.just("tool"), "tool_call_id": TEXTS, "content": CONTENTS}),
)


TOOLS = st.fixed_dictionaries(
    {
        "type": st.just("function"),
        "function": st.fixed_dictionaries(
            {"name": TEXTS},
            optional={
                "description": TEXTS | st.none(),
                "parameters": st.none() | st.just({"type": "object"}),
                "strict": st.booleans() | st.none(),
            },
        ),
    }
)


NUMBERS = st.integers(-3, 3) | st.floats(-3, 3) | st.none()


BODIES = st.fixed_dictionaries(
    {"model": st.just(MODEL), "messages": st.lists(MESSAGES, min_size=1, max_size=4)},
    optional={
        **dict.fromkeys(["temperature", "top_p", "presence_penalty", "frequency_penalty", "n", "seed"], NUMBERS),
        **dict.fromkeys(["max_tokens", "max_completion_tokens", "top_logprobs"], NUMBERS),
        **dict.fromkeys(
            ["stream", "logprobs", "parallel_tool_calls", "store", "safe_prompt"], st.booleans() | st.none()
        ),
        "stop": TEXTS | st.lists(TEXTS, max_size=2) | st.none(),
        "tools": st.lists(TOOLS, max_size=2) | st.none(),
        "tool_choice": st.sampled_from(
            ["auto", "none", "any", "required", None, {"type": "function", "function": {"name": "f"}}]
        ),
        "response_format": st.sampled_from(
            [{"type": "text"}, {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": None}}]
        ),
        "reasoning_effort": st.sampled_from(["none", "minimal", "high", "max", "most", None]),
        "service_tier": st.sampled_from(["auto", "default", "scale", None]),
        "metadata": st.dictionaries(TEXTS, TEXTS, max_size=2),
        "prediction": st.fixed_dictionaries({"type": st.just("content"), "content": TEXTS}),
        "user": TEXTS,
        "modalities": st.sampled_from([["text"], ["audio"], None]),
        "prompt_cache_key": TEXTS,
    },
)


@given(BODIES)
def test_what_is_taken_is_taken_by_the_provider(body: dict[str, object]) -> None:
    """Any body that is not refused fits the SDK's own types, and the simulator's schema, which forbids extra keys."""
    try:
        taken = sent(body)
    except Unsupported:
        return
    ChatCompletionRequest.model_validate(taken)

    assert chat_problem(taken) is None


NONSENSE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=8,
)


FIELDS = ["messages", "tools", "tool_choice", "response_format", "stop", "prediction", "modalities", "logit_bias", "x"]


@given(NONSENSE, st.sampled_from(FIELDS))
def test_nonsense_is_refused_or_taken_but_never_a_bug(content: object, field: str) -> None:
    """Whatever stands in a field, the answer is a line or a refusal."""
    try:
        assert orjson.loads(encode_line(call(chat("x") | {field: content})))
    except Unsupported as refused:
        assert refused.field  # noqa: PT017 - either is right
