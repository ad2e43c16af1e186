"""What a simulated model says to a chat body of OpenAI's shape, before any wire format writes it."""

from __future__ import annotations

import orjson
import pytest

from gateway.sandbox import Directive, FaultKind, body_hash, chat_answer, distorted, last_text, tokens_of

HELLO = [{"role": "user", "content": "Hello"}]
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {"city": {}}}}}
    for name in ("first", "second")
]


def body(**fields: object) -> dict[str, object]:
    """A greeting with `fields`."""
    return {"model": "m", "messages": HELLO, **fields}


def test_an_answer_names_its_question() -> None:
    """The text ends in the hash of the body, and the counts add up."""
    answer = chat_answer(body(), "m-1")
    [choice] = answer.choices

    assert choice.text.endswith(f"#{body_hash(body())}")
    assert choice.finish == "stop"
    assert answer.usage["total_tokens"] == answer.asked + tokens_of(len(choice.text))


def test_only_samples_differ_from_line_to_line() -> None:
    """The same body gets the same text in every line, unless a temperature asks for samples."""
    plain = {chat_answer(body(), line).choices[0].text for line in ("m-1", "m-2")}
    samples = {chat_answer(body(temperature=1), line).choices[0].text for line in ("m-1", "m-2")}

    assert (len(plain), len(samples)) == (1, 2)


def test_each_choice_is_another() -> None:
    """`n` gives as many choices, in order, none like the other."""
    choices = chat_answer(body(n=3), "m-1").choices

    assert [choice.index for choice in choices] == [0, 1, 2]
    assert len({choice.text for choice in choices}) == 3


def test_ids_belong_to_one_line() -> None:
    """Two lines of one body have ids of their own, of the wanted length."""
    first, second = chat_answer(body(), "m-1"), chat_answer(body(), "m-2")

    assert first.unique(8) != second.unique(8)
    assert (len(first.unique(8)), len(first.unique(16))) == (16, 32)


@pytest.mark.parametrize(
    ("choice", "required", "called"),
    [
        ("required", ("required",), "first"),
        ("any", ("required",), None),
        ("any", ("any", "required"), "first"),
        ({"type": "function", "function": {"name": "second"}}, ("required",), "second"),
        ({"type": "function", "function": {"name": "third"}}, ("required",), None),
        ("auto", ("required",), None),
    ],
)
def test_a_function_is_called_where_one_has_to_be(
    choice: object, required: tuple[str, ...], called: str | None
) -> None:
    """The arguments fit the function's schema; where the model is free it writes text."""
    [said] = chat_answer(body(tools=TOOLS, tool_choice=choice), "m-1", required=required).choices

    assert said.called is (called is not None)
    assert said.finish == ("tool_calls" if called else "stop")
    if called:
        function = said.call["function"]
        assert isinstance(function, dict)
        assert function["name"] == called
        assert orjson.loads(function["arguments"]).keys() == {"city"}


@pytest.mark.parametrize(
    ("wanted", "keys"),
    [
        ({"type": "json_object"}, {"answer"}),
        ({"type": "json_schema", "json_schema": {"schema": {"properties": {"a": {"type": "integer"}}}}}, {"a"}),
    ],
)
def test_a_wanted_format_is_kept(wanted: object, keys: set[str]) -> None:
    """JSON where JSON is wanted, of the schema that is given."""
    [said] = chat_answer(body(response_format=wanted), "m-1").choices

    assert orjson.loads(said.text).keys() == keys


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_limit_cuts(field: str) -> None:
    """An answer longer than its limit is cut, and says so."""
    [said] = chat_answer(body(**{field: 3}), "m-1").choices

    assert (said.tokens, said.finish) == (3, "length")


def test_a_refusal_is_told_apart() -> None:
    """A line that was told to be refused calls nothing and is not cut, so each wire format can put it where it belongs."""
    asked = body(tools=TOOLS, tool_choice="required", max_tokens=1)
    [said] = chat_answer(asked, "m-1", Directive(word="refusal")).choices

    assert (said.refused, said.called, said.finish) == (True, False, "stop")


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "a"),
        ([{"role": "system", "content": "s"}], "s"),
        ([{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url"}]}], "x"),
        ([{"role": "user", "content": None}, 7], ""),
        (None, ""),
    ],
)
def test_the_prompt_is_the_users_last_word(messages: object, text: str) -> None:
    """Texts of parts count; who has said nothing is answered all the same."""
    assert last_text(messages) == text


def test_rows_are_damaged_as_ordered() -> None:
    """Another name, no status, no choices; and an error row that has no choices to lose stays as it is."""
    row = orjson.dumps({"custom_id": "m-1", "response": {"status_code": 200, "body": {"choices": [1]}}})
    failed = orjson.dumps({"custom_id": "m-1", "error": {"code": "late"}})

    assert orjson.loads(distorted(row, FaultKind.ROW_UNKNOWN_ID))["custom_id"] != "m-1"
    assert orjson.loads(distorted(row, FaultKind.ROW_STATUS_0))["response"] == {"status_code": 0, "body": None}
    assert orjson.loads(distorted(row, FaultKind.ROW_NO_CHOICES))["response"]["body"] == {"choices": []}
    assert distorted(failed, FaultKind.ROW_NO_CHOICES) == failed
