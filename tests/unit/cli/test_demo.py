"""The demonstration's job, and its bill."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest
from openai.types.chat import ChatCompletion

from gateway.cli.demo.bill import Totals, bill_lines, whole
from gateway.cli.demo.cast import Part, parts
from gateway.cli.demo.oracle import Oracle, Said
from gateway.cli.demo.walk import faults, right_answers, wrong_answers
from gateway.cli.demo.workload import dealt, labelling_job
from gateway.clock import SystemClock


@pytest.mark.parametrize("count", [4, 300, 3000])
def test_every_question_is_asked_once(count: int) -> None:
    """However large the job, no two of its questions are alike, so that a repeated line is a fault of the gateway."""
    assert len({task.prompt for task in labelling_job(count)}) == count


def test_the_job_is_the_same_at_every_run() -> None:
    """A second pass asks the same questions, and a longer job begins with the shorter one."""
    assert labelling_job(40) == labelling_job(60)[:40]


async def test_the_job_has_four_kinds_and_many_labels(tmp_path: Path) -> None:
    """Each kind is asked as often as the others, and no label answers most of them."""
    job = dealt(labelling_job(300), ["openai"])
    labels = Counter(said.text for said in await right_answers(job, parts(["openai"]), tmp_path))

    assert set(Counter(task.kind for task in job).values()) == {75}
    assert labels.keys() == {"yes", "no", "entailment", "neutral", "contradiction", "positive", "negative"}
    assert max(labels.values()) < 150


def answer(text: str, tokens: int) -> ChatCompletion:
    """A completion as the client parses it."""
    return ChatCompletion.model_validate(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}},
            ],
            "usage": {"prompt_tokens": tokens, "completion_tokens": 1, "total_tokens": tokens + 1},
        }
    )


def right(said: Said) -> ChatCompletion:
    """What the simulated provider says."""
    return answer(said.text, said.prompt_tokens)


SAID = [Said(text=text, prompt_tokens=tokens) for text, tokens in (("yes", 3), ("no", 3), ("no", 4), ("maybe", 5))]


def test_somebody_elses_answer_is_noticed() -> None:
    """An answer of another question shows by its label, or by the tokens it was billed for."""
    answers = [right(said) for said in SAID]

    assert wrong_answers(SAID, answers) == 0
    assert wrong_answers(SAID, [answers[1], answers[0], *answers[2:]]) == 2
    assert wrong_answers(SAID, [answers[0], answers[2], answers[1], answers[3]]) == 2


def test_the_job_is_dealt_to_all_providers_alike() -> None:
    """Every provider gets as many tasks as the others, of every kind."""
    job = dealt(labelling_job(240), ["a", "b", "c"])

    assert Counter(task.provider for task in job) == {"a": 80, "b": 80, "c": 80}
    assert all({task.kind for task in job if task.provider == name} == {t.kind for t in job} for name in "abc")


@pytest.mark.parametrize("part", parts([]), ids=lambda part: part.kind)
async def test_every_simulated_provider_says_different_things(part: Part, tmp_path: Path) -> None:
    """Of whichever kind, two questions get two answers, and one question the same answer twice: so a mix-up shows."""
    oracle = Oracle(part.provider_class, part.simulator_class, SystemClock(), tmp_path)
    first, second = [{"messages": [{"role": "user", "content": text}]} for text in ("What is it?", "Who was it?")]

    assert "What is it?" in oracle.says(part.model, first).text
    assert oracle.says(part.model, first) == oracle.says(part.model, first)
    assert oracle.says(part.model, first) != oracle.says(part.model, second)
    await oracle.provider.aclose()


def test_unknown_prices_are_left_out_of_the_sum_and_named() -> None:
    """Of two providers the one without a price is named beside what the other cost; if none has one, there is no sum."""
    known = Totals(
        provider="a", requests=1, batches=1, lines=1, repeated=0, cost_usd=1.0, saved_usd=1.0, wasted_usd=0.0
    )
    unknown = dataclasses.replace(known, provider="b", cost_usd=None, saved_usd=None)

    assert whole([known, unknown]).cost_usd == 1.0
    assert dict(bill_lines(whole([known, unknown]), ["b"]))["not in these sums, price unknown"] == "b"
    assert whole([unknown]).cost_usd is None


def test_an_unknown_price_stays_unknown() -> None:
    """A bill with lines of unknown price names no sum for them."""
    bill = Totals(requests=1, batches=1, lines=1, repeated=0, cost_usd=None, saved_usd=None, wasted_usd=0.0)
    lines = dict(bill_lines(bill))

    assert lines["cost"] == lines["saved"] == lines["a synchronous run would have cost"] == "unknown"


def test_what_is_asked_one_by_one_is_said_to_be_undiscounted() -> None:
    """The bill of a server without batches says that nothing was discounted, and how much that concerns."""
    bill = Totals(
        requests=3, batches=0, lines=3, repeated=0, cost_usd=None, saved_usd=0.0, wasted_usd=0.0, undiscounted=3
    )
    lines = dict(bill_lines(bill))

    assert (lines["asked one by one: nothing was discounted"], lines["saved"]) == ("3", "$0.000000")


def test_a_synchronous_run_costs_what_was_paid_and_saved() -> None:
    """The list price is what was paid plus what was saved."""
    bill = Totals(requests=2, batches=1, lines=2, repeated=0, cost_usd=1.0, saved_usd=1.0, wasted_usd=0.0)
    lines = dict(bill_lines(bill))

    assert lines["a synchronous run would have cost"] == "$2.000000"
    assert lines["saved"] == "$1.000000 (50%)"


def test_whatever_is_off_is_found() -> None:
    """A wrong answer, one that changed, a repeated, missing or superfluous line each make the demonstration fail."""
    answers = [right(said) for said in SAID]
    other = [answers[1], *answers[1:]]
    good = Totals(requests=4, batches=1, lines=4, repeated=0, cost_usd=None, saved_usd=None, wasted_usd=0.0)

    assert faults(SAID, answers, answers, [good]) == []
    assert len(faults(SAID, other, other, [good])) == 1
    assert len(faults(SAID, answers, other, [good])) == 1
    for change in ({"repeated": 1}, {"lines": 5}, {"lines": 3}, {"requests": 3}):
        assert len(faults(SAID, answers, answers, [dataclasses.replace(good, **change)])) == 1
