"""An answer in OpenAI's words."""

from __future__ import annotations

import math
from typing import cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from gateway.chat import Called, ChatUsage, Choice, Finish, Token, completion
from gateway.prices import read_usage

_TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
_TOKENS = st.builds(
    Token,
    token=_TEXTS,
    logprob=st.floats(),
    top=st.lists(st.builds(Token, token=_TEXTS, logprob=st.floats())).map(tuple),
)
_CHOICES = st.builds(
    Choice,
    finish=st.sampled_from(Finish),
    content=st.none() | _TEXTS,
    tool_calls=st.lists(st.builds(Called, id=_TEXTS, name=_TEXTS, arguments=_TEXTS), max_size=2).map(tuple),
    refusal=st.none() | _TEXTS,
    reasoning=st.none() | _TEXTS,
    logprobs=st.lists(_TOKENS, max_size=2).map(tuple),
    index=st.integers(0, 9),
)
_COUNTS = st.integers(0, 10**9)
_USAGES = st.builds(
    ChatUsage,
    prompt=_COUNTS,
    completion=_COUNTS,
    cached=_COUNTS,
    cache_written=_COUNTS,
    reasoning=_COUNTS,
    audio=_COUNTS,
)


def read(body: dict[str, object]) -> ChatCompletion:
    """The body as OpenAI's own SDK understands it, once core has added what is its own."""
    whole = orjson.loads(orjson.dumps({"id": "chatcmpl-1", "created": 1, **body}))
    return ChatCompletion.model_validate(whole, strict=True)


def message(choice: Choice) -> dict[str, object]:
    """The message of a completion with one choice."""
    choices = cast("list[dict[str, dict[str, object]]]", completion([choice], None, model="m")["choices"])
    return choices[0]["message"]


@given(st.lists(_CHOICES, max_size=3), st.none() | _USAGES)
def test_every_completion_is_one_for_openais_sdk(choices: list[Choice], usage: ChatUsage | None) -> None:
    """Whatever is answered, the official SDK reads it, strictly, with the same words and calls."""
    found = read(completion(choices, usage, model="m"))
    assert [choice.index for choice in found.choices] == [choice.index for choice in choices]
    assert [choice.finish_reason for choice in found.choices] == [choice.finish for choice in choices]
    assert [len(choice.message.tool_calls or ()) for choice in found.choices] == [len(c.tool_calls) for c in choices]
    assert (found.usage is None) == (usage is None)


def test_created_and_id_are_left_to_core() -> None:
    """Neither is made up here; an id that the provider gave stays."""
    assert {"created", "id"}.isdisjoint(completion([], None, model="m"))
    assert completion([], None, model="m", id="msg_1")["id"] == "msg_1"


@pytest.mark.parametrize(
    ("choice", "content"),
    [
        (Choice(finish=Finish.STOP, content="sea"), "sea"),
        (Choice(finish=Finish.STOP), ""),
        (Choice(finish=Finish.LENGTH, reasoning="hm"), ""),
        (Choice(finish=Finish.TOOL_CALLS, tool_calls=(Called(id="c", name="f", arguments="{}"),)), None),
        (Choice(finish=Finish.TOOL_CALLS, content="so", tool_calls=(Called(id="c", name="f", arguments="{}"),)), "so"),
        (Choice(finish=Finish.CONTENT_FILTER, refusal="no"), None),
    ],
)
def test_content_is_null_only_beside_calls_or_a_refusal(choice: Choice, content: str | None) -> None:
    """Clients may rely on a string wherever the model could have said something."""
    assert message(choice)["content"] == content


def test_calls_thoughts_and_refusals_are_told_only_where_there_are_some() -> None:
    """A plain answer has no tool_calls, which clients would take for a wish, and no reasoning_content."""
    assert message(Choice(finish=Finish.STOP, content="sea")) == {
        "role": "assistant",
        "content": "sea",
        "refusal": None,
    }
    full = message(
        Choice(
            finish=Finish.TOOL_CALLS,
            reasoning="the sea",
            tool_calls=(Called(id="c1", name="look", arguments='{"at":1}'),),
        )
    )
    assert full["reasoning_content"] == "the sea"
    assert full["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":1}'}}
    ]


def test_log_probabilities_keep_their_rivals_and_stay_numbers() -> None:
    """Each token has its own and its rivals' log probability; what JSON cannot write is a very small number."""
    rival = Token(token="lake", logprob=-math.inf)
    choice = Choice(finish=Finish.STOP, content="sea", logprobs=(Token(token="sea", logprob=-0.5, top=(rival,)),))
    logprobs = read(completion([choice], None, model="m")).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert (logprobs.content[0].token, logprobs.content[0].logprob) == ("sea", -0.5)
    assert logprobs.content[0].top_logprobs[0].logprob == -9999.0


def test_usage_counts_as_prices_read_it() -> None:
    """What a plugin counted is what the caller sees and what the gateway prices."""
    usage = ChatUsage(prompt=100, completion=20, cached=60, cache_written=30, reasoning=15)
    body = completion([], usage, model="m")
    counted = read_usage(body["usage"])
    assert counted is not None
    assert (counted.input, counted.cached, counted.written, counted.output) == (100, 60, 30, 20)
    seen = read(body).usage
    assert seen is not None
    assert seen.total_tokens == 120
    assert seen.completion_tokens_details is not None
    assert seen.completion_tokens_details.reasoning_tokens == 15
