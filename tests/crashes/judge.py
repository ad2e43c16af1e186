"""What must be true after a case, whatever died in it: what callers heard, what the provider saw, what was booked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.crashes.life import Ended, Stage, notes_of
from tests.crashes.scenario import Question
from tests.crashes.world import Report

#: Events of the log that stand for a bug in the gateway, whatever dies around it.
NEVER_LOGGED = (
    "worker_died",
    "errand_failed",
    "request_failed",
    "batch_step_failed",
    "completion_failed",
    "plugin_fault",
    "library_message",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """All that is known after a case."""

    lives: Sequence[Ended]
    notes: Mapping[str, Mapping[str, object]]
    report: Report
    log: str

    @property
    def last(self) -> Ended:
        """The life that came to its end."""
        return self.lives[-1]


def told_by(stage: Stage, lives: Sequence[Ended], report: Report) -> Told:
    """Gather what a case has left."""
    log = stage.log.read_text(encoding="utf-8", errors="replace")
    return Told(lives=lives, notes=notes_of(stage), report=report, log=log)


def complaints(stage: Stage, told: Told, whole: Told) -> Iterator[str]:
    """What is wrong; `whole` is what the same scenario came to without a crash."""
    if told.last.crashed:
        yield "the last life did not come to its end"
        return
    yield from told.last.faults
    yield from (f"the log has {name}" for name in NEVER_LOGGED if f'"event":"{name}"' in told.log.replace(": ", ":"))
    for question in stage.scenario.questions:
        yield from _heard(question, told.notes.get(question.name, {}))
    if told.last.bills[0] != told.last.bills[1]:
        yield f"the bill changed when requests were forgotten: {told.last.bills}"
    if stage.kind.batch:
        yield from _batches(stage, told, whole)
    else:
        yield from _single(stage, told, whole)


def _heard(question: Question, heard: Mapping[str, object]) -> Iterator[str]:
    if heard.get("status") not in question.ends:
        yield f"{question.name} ended with {heard.get('status')}: {heard.get('answer')}"
    if heard.get("status") == 200:
        said = texts(heard["answer"])
        if len(said) != question.times or not all(question.text in text for text in said):
            yield f"{question.name} got {said}"


def texts(answer: object) -> list[str]:
    """The words of every choice of a completion."""
    choices = answer.get("choices", []) if isinstance(answer, Mapping) else []
    return [str(choice["message"]["content"]) for choice in choices]


def _batches(stage: Stage, told: Told, whole: Told) -> Iterator[str]:
    report, bill = told.report, told.last.bills[0]
    if report.running:
        yield f"{report.running} batches were left running at the provider"
    # Children of a family ask the same question, and may be in two batches at once.
    together = {times for times in (question.times for question in stage.scenario.questions) if times > 1}
    if len(report.together) > len(together) or any(
        most > max(together, default=1) for most in report.together.values()
    ):
        yield f"lines were in several live batches at once: {report.together}"
    if told.last.duplicates:
        yield f"{told.last.duplicates} batches were made twice"
    paid = round(report.input_tokens + 2 * report.output_tokens, 3)
    if bill[1] != paid:
        yield f"booked {bill[1]} millionths of a dollar, the provider counted {paid}"
    if bill[2] or bill[3] or bill[4]:
        yield f"lines were paid in vain, or at no price: {bill}"
    answered = whole.report.answers
    if stage.scenario.certain and (report.answers != answered or bill != whole.last.bills[0]):
        yield f"{report.answers} answers for {bill}, and without a crash {answered} for {whole.last.bills[0]}"
    if not stage.scenario.certain:
        heard = sum(note.get("status") == 200 for note in told.notes.values())
        if heard != report.answers:
            yield f"{report.answers} answers were paid, {heard} were heard"


def _single(stage: Stage, told: Told, whole: Told) -> Iterator[str]:
    """Without batches nobody can look what became of a call: what was being asked is asked again, and counted."""
    again = sum(life.asked_again for life in told.lives)
    calls, before = sum(told.report.asked.values()), sum(whole.report.asked.values())
    if not before <= calls <= before + again:
        yield f"{calls} calls, {before} without a crash, {again} counted as asked again"
    if again > stage.kind.concurrency * (len(told.lives) - 1):
        yield f"{again} were asked again, with {stage.kind.concurrency} at once"
    if told.last.bills[0] != whole.last.bills[0]:
        yield f"the bill says {told.last.bills[0]}, without a crash {whole.last.bills[0]}"
