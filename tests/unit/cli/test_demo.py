"""The demonstration's job, and its bill."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
from openai.types.chat import ChatCompletion

from gateway.cli.demo.bill import Totals, bill_lines
from gateway.cli.demo.walk import MODEL, faults, wrong_answers
from gateway.cli.demo.workload import Task, labelling_job


@pytest.mark.parametrize("count", [4, 300, 3000])
def test_every_question_is_asked_once(count: int) -> None:
    """However large the job, no two of its questions are alike, so that a repeated line is a fault of the gateway."""
    assert len({task.prompt for task in labelling_job(count)}) == count


def test_the_job_is_the_same_at_every_run() -> None:
    """A second pass asks the same questions, and a longer job begins with the shorter one."""
    assert labelling_job(40) == labelling_job(60)[:40]


def test_the_job_has_four_kinds_and_many_labels() -> None:
    """Each kind is asked as often as the others, and no label answers most of them."""
    job = labelling_job(300)
    labels = Counter(task.expected(MODEL) for task in job)

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
            "model": MODEL,
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}},
            ],
            "usage": {"prompt_tokens": tokens, "completion_tokens": 1, "total_tokens": tokens + 1},
        }
    )


def right(task: Task) -> ChatCompletion:
    """What the simulated provider says to it."""
    return answer(task.expected(MODEL), task.prompt_tokens)


def test_somebody_elses_answer_is_noticed() -> None:
    """An answer of another question shows by its label, or by the tokens it was billed for."""
    job = labelling_job(8)
    answers = [right(task) for task in job]
    swapped = [answers[1], answers[0], *answers[2:]]

    assert wrong_answers(job, answers) == 0
    assert wrong_answers(job, swapped) == 2


def test_an_unknown_price_stays_unknown() -> None:
    """A bill with lines of unknown price names no sum for them."""
    bill = Totals(requests=1, batches=1, lines=1, repeated=0, cost_usd=None, saved_usd=None, wasted_usd=0.0)
    lines = dict(bill_lines(bill))

    assert lines["cost"] == lines["saved"] == lines["a synchronous run would have cost"] == "unknown"


def test_a_synchronous_run_costs_what_was_paid_and_saved() -> None:
    """The list price is what was paid plus what was saved."""
    bill = Totals(requests=2, batches=1, lines=2, repeated=0, cost_usd=1.0, saved_usd=1.0, wasted_usd=0.0)
    lines = dict(bill_lines(bill))

    assert lines["a synchronous run would have cost"] == "$2.000000"
    assert lines["saved"] == "$1.000000 (50%)"


def test_whatever_is_off_is_found() -> None:
    """A wrong answer, one that changed, a repeated, missing or superfluous line each make the demonstration fail."""
    job = labelling_job(4)
    answers = [right(task) for task in job]
    other = [answers[1], *answers[1:]]
    good = Totals(requests=4, batches=1, lines=4, repeated=0, cost_usd=None, saved_usd=None, wasted_usd=0.0)

    assert faults(job, answers, answers, good) == []
    assert len(faults(job, other, other, good)) == 1
    assert len(faults(job, answers, other, good)) == 1
    for change in ({"repeated": 1}, {"lines": 5}, {"lines": 3}, {"requests": 3}):
        assert len(faults(job, answers, answers, dataclasses.replace(good, **change))) == 1
