"""How much a model shall think, and how its thoughts come back to it."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic_lab import (
    MODEL,
    NEWEST,
    OLDER,
    called,
    chat,
    refused,
    result,
    sent,
    succeeded,
    text,
    tool,
    user,
    written,
)

from gateway_anthropic.decode import decode_row
from gateway_anthropic.layout import arranged, noted

THOUGHT = {"type": "thinking", "thinking": "", "signature": "c2lnbmVk"}
SECOND = {"type": "thinking", "thinking": "Then \U0001f600", "signature": "c2lnbmVkMg=="}
SECRET = {"type": "redacted_thinking", "data": "ZGF0YQ=="}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}}
OTHER = {"type": "tool_use", "id": "toolu_2", "name": "weather", "input": {}}


def answered(*blocks: dict[str, Any]) -> dict[str, Any]:
    """What an application keeps of an answer made of `blocks`."""
    body: Any = decode_row(succeeded(*blocks, stop_reason="tool_use")).body
    message: dict[str, Any] = body["choices"][0]["message"]
    return {key: message[key] for key in ("role", "content", "tool_calls")}


def replayed(message: dict[str, Any], **fields: object) -> list[dict[str, Any]]:
    """The blocks of that turn as they go back to the provider."""
    results = [result(call["id"]) for call in message["tool_calls"]]
    body = chat(user("x"), message, *results, tools=[tool()], **fields)
    blocks: list[dict[str, Any]] = sent(body)["messages"][1]["content"]
    return blocks


def test_words_and_calls_that_a_client_keeps_apart_are_one_turn() -> None:
    """The words stand once, behind the thought that led to them."""
    message = answered(THOUGHT, text("I look."), CALL)
    calls = {"role": "assistant", "content": None, "tool_calls": message["tool_calls"]}
    words = {"role": "assistant", "content": "I look."}
    body = chat(user("x"), words, calls, result(message["tool_calls"][0]["id"]), tools=[tool()])

    assert sent(body)["messages"][1]["content"] == [THOUGHT, text("I look."), CALL]


@pytest.mark.parametrize(
    ("asked", "effort"),
    [
        ("minimal", "low"),
        ("low", "low"),
        ("medium", "medium"),
        ("high", "high"),
        ("xhigh", "xhigh"),
        ("max", "max"),
    ],
)
def test_effort_is_adaptive_thinking(asked: str, effort: str) -> None:
    """Each effort has its word; the least one shares it with the next."""
    params = sent(chat(reasoning_effort=asked))

    assert params["thinking"] == {"type": "adaptive"}
    assert params["output_config"] == {"effort": effort}


@pytest.mark.parametrize(
    ("model", "config"),
    [
        (MODEL, {"type": "disabled"}),
        (OLDER, {"type": "disabled"}),
        ("claude-sonnet-5-5", {"type": "between_tools"}),
        ("claude-3-haiku-20240307", None),
    ],
)
def test_no_effort_is_no_thinking(model: str, config: object) -> None:
    """`none` switches thinking off, in the word that the model takes."""
    assert sent(chat(model=model, reasoning_effort="none")).get("thinking") == config


def test_models_that_always_think_say_so() -> None:
    """`none` is refused for them, rather than by the provider hours later."""
    assert refused(chat(model=NEWEST, reasoning_effort="none")) == "reasoning_effort"


def test_older_models_think_by_budget() -> None:
    """Effort is a number of tokens there: configured, at most half of all, never under the least there is."""
    assert sent(chat(model=OLDER, reasoning_effort="low"))["thinking"] == {"type": "enabled", "budget_tokens": 2_048}
    short = sent(chat(model=OLDER, reasoning_effort="high", max_tokens=3_000))
    assert short["thinking"]["budget_tokens"] == 1_500
    least = sent(chat(model=OLDER, reasoning_effort="high", max_tokens=1_025))
    assert least["thinking"]["budget_tokens"] == 1_024
    own = sent(chat(model=OLDER, reasoning_effort="low"), thinking_budgets={"low": 1_111})
    assert own["thinking"]["budget_tokens"] == 1_111
    assert refused(chat(model=OLDER, reasoning_effort="high", max_tokens=1_024)) == "reasoning_effort"


def test_models_that_do_not_think_are_not_asked_to() -> None:
    """The effort is left out and reported."""
    body = chat(model="claude-3-haiku-20240307", reasoning_effort="high")

    assert "thinking" not in sent(body)
    assert written(body).dropped == ("reasoning_effort",)


def test_a_new_model_can_be_described() -> None:
    """What the plugin does not know of a model, configuration says."""
    models = {"claude-next": {"thinking": "budget", "forced_tools": False}}

    assert sent(chat(model="claude-next", reasoning_effort="low"), models=models)["thinking"]["type"] == "enabled"
    demanded = chat(model="claude-next", tools=[tool()], tool_choice="required")
    assert refused(demanded, models=models) == "tool_choice"


def test_demanded_calls_and_thoughts() -> None:
    """A demanded call is refused beside a budget of thoughts, and on models that refuse it always; adaptive thinking takes it."""
    fields: dict[str, Any] = {"tools": [tool()], "tool_choice": "required"}

    assert refused(chat(model=OLDER, reasoning_effort="low", **fields)) == "tool_choice"
    assert refused(chat(model=NEWEST, **fields)) == "tool_choice"
    assert sent(chat(model=OLDER, **fields))["tool_choice"] == {"type": "any"}
    assert sent(chat(reasoning_effort="low", **fields))["tool_choice"] == {"type": "any"}


def test_sampling_beside_a_budget_is_refused() -> None:
    """The provider does not take both."""
    body = chat(model=OLDER, reasoning_effort="low", temperature=0.5)

    assert refused(body, api_version="2023-06-01") == "temperature"


def test_thoughts_can_be_asked_for_as_text() -> None:
    """`thinking_display` goes along with both ways of thinking."""
    for model in (MODEL, OLDER):
        shown = sent(chat(model=model, reasoning_effort="low"), thinking_display="summarized")
        assert shown["thinking"]["display"] == "summarized"


@pytest.mark.parametrize(
    "blocks",
    [
        [THOUGHT, CALL],
        [THOUGHT, text("One moment."), CALL],
        [SECRET, THOUGHT, text("One \U0001f600"), SECOND, CALL, OTHER],
        [THOUGHT, CALL, SECOND, OTHER],
        [text("First"), THOUGHT, text("second"), CALL],
        [{**THOUGHT, "novelty": {"a": [1]}}, CALL],
    ],
)
def test_a_turn_comes_back_as_it_was(blocks: list[dict[str, Any]]) -> None:
    """Thoughts, words and calls of an answer go back unchanged and in the order they came."""
    assert replayed(answered(*blocks), reasoning_effort="high") == blocks


def test_thoughts_travel_in_the_first_call_only() -> None:
    """The others keep the provider's own id."""
    first, second = answered(THOUGHT, CALL, OTHER)["tool_calls"]

    assert first["id"].startswith("toolu_1__bw1_")
    assert second["id"] == "toolu_2"


def test_thoughts_of_an_answer_without_calls_are_not_carried() -> None:
    """They have no place and need none."""
    result = decode_row(succeeded(THOUGHT, text("Hi")))

    assert "__bw1_" not in str(result.body)


def test_words_that_were_edited_do_not_lose_the_thoughts() -> None:
    """When the caller changed the text, the thoughts come first, all of them, in their order."""
    message = answered(THOUGHT, text("One moment."), SECOND, CALL)
    message["content"] = "Edited"

    assert replayed(message) == [THOUGHT, SECOND, text("Edited"), CALL]


def test_words_that_were_left_out_come_back() -> None:
    """Some clients keep no text beside calls: the turn is whole all the same."""
    blocks = [THOUGHT, text("One "), SECOND, text("moment."), CALL]
    message = answered(*blocks)
    assert message["content"] == "One moment."

    for left in (None, ""):
        assert replayed({**message, "content": left}) == blocks


def test_a_call_that_is_missing_does_not_lose_the_thoughts() -> None:
    """When the caller kept only the first of two calls, the thoughts come first."""
    message = answered(THOUGHT, CALL, SECOND, OTHER)
    message["tool_calls"] = message["tool_calls"][:1]

    assert replayed(message) == [THOUGHT, SECOND, CALL]


@pytest.mark.parametrize(
    "notes",
    [None, 7, {"a": 1}, [THOUGHT, 1], [THOUGHT, True], [THOUGHT, False], [THOUGHT, {}], ["abc", 0], [THOUGHT, [0]]],
)
def test_notes_that_make_no_sense_are_none(notes: object) -> None:
    """What a caller made up is not sent on."""
    assert arranged(notes, "abc", [CALL]) == [text("abc"), CALL]


def test_only_turns_with_thoughts_are_noted() -> None:
    """Nothing is carried where there is nothing to carry."""
    assert noted([text("a"), CALL]) == []
    assert noted([{"type": "thinking", "thinking": "unsigned"}, CALL]) == []


def test_a_budget_is_given_up_when_the_thoughts_are_gone() -> None:
    """A model that thinks by budget refuses calls without the thoughts before them: then it is not asked to, and that is told."""
    history = [user("x"), called("a"), result("a")]
    body = chat(*history, model=OLDER, reasoning_effort="high", tools=[tool()])
    kept = chat(user("x"), answered(THOUGHT, CALL), model=OLDER, reasoning_effort="high", tools=[tool()])
    calls: Any = kept["messages"]
    calls.append(result(calls[1]["tool_calls"][0]["id"]))

    assert sent(body)["thinking"] == {"type": "disabled"}
    assert written(body).dropped == ("reasoning_effort",)
    assert sent(kept)["thinking"]["type"] == "enabled"
    assert written(kept).dropped == ()


def test_adaptive_thinking_goes_on_without_old_thoughts() -> None:
    """It does not want them before every call, and some of its models cannot be switched off."""
    body = chat(user("x"), called("a"), result("a"), model=NEWEST, reasoning_effort="high", tools=[tool()])

    assert sent(body)["thinking"] == {"type": "adaptive"}
    assert written(body).dropped == ()


def test_stale_thoughts_can_be_read_over() -> None:
    """With `stale_thoughts = "drop"`, the provider is asked to, wherever a model may think; nothing else is changed by it."""
    binding = {"prefix_mismatch_behavior": "drop_block"}
    history = answered(THOUGHT, CALL)
    going_on: Any = [user("x"), history, result(history["tool_calls"][0]["id"])]
    silent = chat(*going_on, model=NEWEST, tools=[tool()])

    for model in (MODEL, OLDER):
        config = sent(chat(model=model, reasoning_effort="low"), stale_thoughts="drop")["thinking"]
        assert config["block_binding"] == binding
    assert sent(silent, stale_thoughts="drop")["thinking"] == {"type": "adaptive", "block_binding": binding}
    assert "thinking" not in sent(silent)
    assert "thinking" not in sent({**silent, "model": MODEL}, stale_thoughts="drop")
    assert "block_binding" not in sent(chat(reasoning_effort="none"), stale_thoughts="drop")["thinking"]
