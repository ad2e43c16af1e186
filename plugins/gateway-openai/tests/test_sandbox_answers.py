"""What the simulated model says, whole completions at a time."""

from __future__ import annotations

import orjson
import pytest
from openai.types.chat import ChatCompletion
from openai_lab import chat

from gateway.sandbox import Directive, body_hash
from gateway_openai.simulated.chat import completion

TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


def answer(body: dict[str, object], line_id: str = "line-1", told: Directive | None = None) -> ChatCompletion:
    """The completion in the SDK's type, strictly checked."""
    return ChatCompletion.model_validate(completion(body, line_id, 1_800_000_000, told).body)


def test_samples_differ_and_certainties_do_not() -> None:
    """With a temperature above 0 two lines of one body differ; without, they are the same but for their ids."""
    texts = [
        [answer(chat("x", **fields), line).choices[0].message.content for line in ("l-1", "l-2")]
        for fields in ({"temperature": 1}, {"temperature": 0}, {})
    ]

    assert [len(set(pair)) for pair in texts] == [2, 1, 1]


def test_each_choice_is_its_own() -> None:
    """`n` gives as many choices, numbered and different."""
    choices = answer(chat("x", n=3)).choices

    assert [choice.index for choice in choices] == [0, 1, 2]
    assert len({choice.message.content for choice in choices}) == 3


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_required_tool_is_called(choice: object) -> None:
    """A tool that has to be called is called with arguments that fit its schema."""
    body = chat("x", tools=[TOOL], tool_choice=choice)
    [made] = answer(body).choices

    assert made.finish_reason == "tool_calls"
    assert made.message.content is None
    assert made.message.tool_calls is not None
    call = made.message.tool_calls[0]
    assert (call.function.name, orjson.loads(call.function.arguments)) == ("weather", {"city": body_hash(body)})


def test_a_schema_is_followed() -> None:
    """A JSON schema is filled with a small instance that names the request; json_object gives an object."""
    schema = {
        "type": "object",
        "properties": {
            "label": {"enum": ["spam", "ham"]},
            "score": {"type": "number", "minimum": 2},
            "why": {"type": "string"},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}},
            "maybe": {"anyOf": [{"type": "null"}, {"type": "string"}]},
            "sure": {"type": "boolean"},
        },
        "$defs": {"tag": {"const": "news"}},
    }
    body = chat("x", response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": schema}})
    free = chat("x", response_format={"type": "json_object"})

    assert orjson.loads(answer(body).choices[0].message.content or "") == {
        "label": "spam",
        "score": 2,
        "why": body_hash(body),
        "tags": ["news"],
        "maybe": None,
        "sure": True,
    }
    assert orjson.loads(answer(free).choices[0].message.content or "") == {"answer": body_hash(free)}


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_small_limit_cuts_the_answer(field: str) -> None:
    """An answer over the token limit is cut and says so."""
    [choice] = answer(chat("a longer question", **{field: 2})).choices

    assert choice.finish_reason == "length"
    assert len(choice.message.content or "") == 8


def test_a_refusal_can_be_asked_for() -> None:
    """The directive `refusal` gives a refusal in place of content."""
    [choice] = answer(chat("x"), told=Directive(word="refusal")).choices

    assert choice.message.content is None
    assert choice.message.refusal


def test_usage_grows_with_the_prompt() -> None:
    """Prompt tokens are about a quarter of the prompt's bytes."""
    usage = answer(chat("x" * 4_000)).usage

    assert usage is not None
    assert 1_000 <= usage.prompt_tokens <= 1_050
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
