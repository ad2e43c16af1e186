"""What a simulated model says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sandbox import answer_text, body_hash, instance, sampled
from gateway.sandbox.answers import listed_options


def test_a_hash_names_what_is_asked() -> None:
    """Order and fields that a gateway drops do not change a hash; what is asked does."""
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}

    assert body_hash(body) == body_hash({**dict(reversed(body.items())), "stream": True, "metadata": {"a": "b"}})
    assert body_hash(body) != body_hash(body | {"temperature": 1})


def test_the_answer_tells_whose_it_is() -> None:
    """The text ends in the hash, and holds the line's name only for samples."""
    assert answer_text("hello", "abc") == "You said: hello #abc"
    assert answer_text("hello", "abc", "m-1") == "You said: hello sample m-1 #abc"


@pytest.mark.parametrize(
    ("prompt", "options"),
    [
        ("Is it red? Answer with one word: yes or no.", ["yes", "no"]),
        ("Choose one of: positive, negative, or neutral", ["positive", "negative", "neutral"]),
        ("Reply with one of the following: 'A' / 'B' / 'C'.", ["A", "B", "C"]),
        ("Labels: entailment | contradiction | neutral\n", ["entailment", "contradiction", "neutral"]),
        ("Say what you like.", []),
        ("Note: this is, or was, a sentence", []),
    ],
)
def test_listed_options_are_found(prompt: str, options: list[str]) -> None:
    """Options after a colon are read in their own spelling; prose is not taken for them."""
    assert listed_options(prompt) == options


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("I loved it, an excellent film. Answer with one word: positive or negative.", "positive"),
        ("Terrible service and a broken door. Answer with one word: positive or negative.", "negative"),
        ("The harbour froze in January. Did the harbour freeze in January? Answer with one word: yes or no.", "yes"),
        ("The harbour froze in January. Do penguins eat apples? Answer with one word: Yes or No.", "No"),
    ],
)
def test_easy_questions_get_plausible_answers(prompt: str, answer: str) -> None:
    """A labelling demo looks real: where a glance at the words is enough, the label fits."""
    assert answer_text(prompt, "0" * 16) == answer


@given(st.lists(st.from_regex(r"[a-z]{2,9}", fullmatch=True), min_size=2, max_size=8, unique=True), st.text())
def test_the_answer_is_one_of_the_options(options: list[str], before: str) -> None:
    """Whatever the question, the answer is a listed option, and the same one each time."""
    prompt = f"{before}\nAnswer with one word: {', '.join(options)}."
    name = body_hash({"prompt": prompt.encode("utf-8", "replace").decode()})

    assert answer_text(prompt, name) in listed_options(prompt)
    assert answer_text(prompt, name) == answer_text(prompt, name)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [({}, False), ({"temperature": 0}, False), ({"temperature": 0.1}, True), ({"temperature": "x"}, False)],
)
def test_only_an_explicit_temperature_asks_for_samples(body: dict[str, object], wanted: bool) -> None:
    """Without a temperature above 0 the answer is one and the same."""
    assert sampled(body) is wanted


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["type", "properties", "items", "anyOf", "$ref", "enum", "minItems", "minimum", "const"]
                ),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_no_schema_can_break_it(schema: object) -> None:
    """Any JSON given as a schema, self-referring ones too, gives some value."""
    instance(schema, "x")
    instance({"type": "object", "properties": {"again": {"$ref": "#"}}}, "x")
