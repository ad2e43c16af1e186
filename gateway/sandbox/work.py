"""The two passes over a batch's lines: checking them, and answering them into result files.

Nothing runs in the background: a pass is made when somebody first looks at a batch whose time has come, in slices
that let the loop breathe. A batch is never in memory; what is kept for a line while a pass is running is its name or
its place.
"""

from __future__ import annotations

import asyncio
import math
import mmap
import random
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from gateway.sandbox.answers import body_hash
from gateway.sandbox.directives import MAGIC, Directive, Tries, directive
from gateway.sandbox.faults import FaultBook, FaultKind
from gateway.sandbox.ledger import SubmissionLedger, entry
from gateway.sandbox.lifecycle import Life, Stage
from gateway.sandbox.records import Line, Outcome, Problem, StoredBatch, StoredFile, Yield
from gateway.sandbox.rows import WORD_FAULTS, RowFile, ordered_damage
from gateway.sandbox.settings import SandboxSettings
from gateway.sandbox.store import Store

#: Lines between two moments in which the loop may do something else.
SLICE = 100
#: A provider names the first problems, not all of them.
MAX_PROBLEMS = 100


class WireFormat(Protocol):
    """What the passes need to know of a provider's formats; `Simulator` leaves these to its subclass."""

    settings: SandboxSettings
    faults: FaultBook

    def read_line(self, line: bytes, batch: StoredBatch) -> Line:
        """Parse and validate one input line."""
        ...

    def answer(self, line: Line, told: Directive | None) -> Outcome:
        """Answer one line."""
        ...

    def failure(self, status: int) -> Outcome:
        """A line that fails with `status`."""
        ...

    def row(self, line: Line, outcome: Outcome, batch: StoredBatch) -> bytes:
        """The row of the result file, without its newline; empty where this provider writes none."""
        ...

    def new_file_id(self) -> str:
        """The id of a new result file."""
        ...

    def distort(self, row: bytes, fault: FaultKind) -> bytes:
        """The row as it looks under a fault of the wire format."""
        ...


async def check(
    wire: WireFormat, store: Store, ledger: SubmissionLedger, tries: Tries, batch: StoredBatch
) -> StoredBatch:
    """Read all lines of `batch` as a provider validates them, enter them in the ledger, and return the checked record."""
    problems: list[Problem] = [batch.plan.refusal] if batch.plan.refusal is not None else []
    seen: set[str] = set()
    count = 0
    with store.path(batch.file_id).open("rb") as file, ledger.writer(batch.id) as entries:
        for count, raw in enumerate(file, start=1):
            if count % SLICE == 0:
                await asyncio.sleep(0)
            line = wire.read_line(raw, batch)
            entries.write(entry(line.custom_id, body_hash(line.body)))
            problem = line.problem or _common_problem(line, batch, seen) or _poison(raw, line, tries)
            seen.add(line.custom_id)
            if problem is not None and len(problems) < MAX_PROBLEMS:
                problems.append(replace(problem, line=None) if problem.line == 0 else replace(problem, line=count))
    problems.extend(_whole(wire.settings, count, store.files.get(batch.file_id)))
    return replace(batch, checked=True, total=count, problems=tuple(problems))


def _common_problem(line: Line, batch: StoredBatch, seen: set[str]) -> Problem | None:
    """What every provider refuses: a name that came before, another model than the first line's."""
    if line.custom_id in seen:
        return Problem(
            code="duplicate_custom_id",
            message=f"The custom_id '{line.custom_id[:64]}' for this request is a duplicate.",
            param="custom_id",
        )
    if line.model != batch.model:
        message = f"Each batch must have one model; expected '{batch.model[:64]}', found '{line.model[:64]}'."
        return Problem(code="model_mismatch", message=message, param="body.model")
    return None


def _poison(raw: bytes, line: Line, tries: Tries) -> Problem | None:
    """The refusal that a directive asks for; line 0 stands for: do not name it."""
    told = directive(raw) if MAGIC in raw else None
    if told is None or told.word != "poison" or not tries.strikes(told, "poison " + body_hash(line.body)):
        return None
    message = "This line is poisoned: the sandbox was told to refuse it."
    return Problem(code="invalid_request", message=message, line=None if told.numbered else 0)


def _whole(settings: SandboxSettings, count: int, file: StoredFile | None) -> Iterator[Problem]:
    if count == 0:
        yield Problem(code="empty_file", message="The input file is empty.")
    if count > settings.max_requests:
        message = f"The input file has {count} lines, the limit is {settings.max_requests}."
        yield Problem(code="too_many_tasks", message=message)
    if file is not None and file.size > settings.max_bytes:
        message = f"The input file has {file.size} bytes, the limit is {settings.max_bytes}."
        yield Problem(code="file_too_large", message=message)


async def run(wire: WireFormat, store: Store, tries: Tries, batch: StoredBatch, ended: Life) -> Yield:
    """Answer the lines of `batch` that were done when it ended, tell of the others, and return its result files."""
    output, errors = wire.new_file_id(), wire.new_file_id()
    damage = ordered_damage(wire.faults)
    runner = _Run(
        wire=wire,
        tries=tries,
        batch=batch,
        reason="cancelled" if ended.stage is Stage.CANCELLED else "expired",
        output=RowFile(store.path(output), wire.distort, damage),
        errors=RowFile(store.path(errors), wire.distort, Counter()),
    )
    await runner.all(store.path(batch.file_id), math.floor(batch.total * ended.done))
    cut_row = wire.faults.take(FaultKind.LAST_ROW_TRUNCATED) is not None
    cut_half = wire.faults.take(FaultKind.FILE_TRUNCATED) is not None
    sizes = (runner.output.close(cut_last_row=cut_row, cut_half=cut_half), runner.errors.close())
    made = ended.ended_at or batch.created
    expires = None if batch.output_seconds is None else made + batch.output_seconds
    for file_id, rows, size in zip((output, errors), (runner.output, runner.errors), sizes, strict=True):
        if rows.rows:
            name = f"{batch.id}_{'output' if rows is runner.output else 'error'}.jsonl"
            store.put_file(
                StoredFile(id=file_id, filename=name, purpose="batch_output", size=size, created=made, expires=expires)
            )
    return Yield(
        output_file_id=output if runner.output.rows else "",
        error_file_id=errors if runner.errors.rows else "",
        succeeded=runner.output.rows,
        failed=runner.errors.rows,
        input_tokens=runner.input_tokens,
        output_tokens=runner.output_tokens,
    )


@dataclass(slots=True, kw_only=True)
class _Run:
    """One pass that answers."""

    wire: WireFormat
    tries: Tries
    batch: StoredBatch
    #: Why a line that was not done has no answer.
    reason: str
    output: RowFile
    errors: RowFile
    input_tokens: int = 0
    output_tokens: int = 0

    async def all(self, path: Path, done: int) -> None:
        """Write a row for every line; only the first `done` in the order of answering were answered."""
        if self.batch.total == 0:
            return
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            starts = await _starts(text)
            order = _order(self.batch.total, f"{self.wire.settings.seed} {self.batch.id}", self.wire.settings.shuffle)
            for rank, n in enumerate(order):
                if rank % SLICE == 0:
                    await asyncio.sleep(0)
                self._line(text[starts[n] : starts[n + 1]], answered=rank < done)

    def _line(self, raw: bytes, *, answered: bool) -> None:
        line = self.wire.read_line(raw, self.batch)
        told: Directive | None = None
        outcome = Outcome(status=None, reason=self.reason)
        if answered:
            outcome, told = self._outcome(raw, line)
        row = self.wire.row(line, outcome, self.batch)
        if not row:
            return
        self.input_tokens += outcome.input_tokens
        self.output_tokens += outcome.output_tokens
        fault = WORD_FAULTS.get(told.word) if told is not None else None
        (self.output if outcome.status == 200 else self.errors).write(row, fault)

    def _outcome(self, raw: bytes, line: Line) -> tuple[Outcome, Directive | None]:
        """What becomes of a line that is run, and what it was told."""
        failing = self.batch.plan.failing_status
        if failing is not None:
            return self.wire.failure(failing), None
        told = struck(self.wire.faults, self.tries, raw, line)
        if told is None:
            return self.wire.answer(line, None), None
        if told.status is not None:
            return self.wire.failure(told.status), told
        if told.word in ("expired", "timeout"):
            return Outcome(status=None, reason=told.word), told
        return self.wire.answer(line, told), told


def struck(faults: FaultBook, tries: Tries, raw: bytes, line: Line) -> Directive | None:
    """What a line that is run has been told, by an ordered fault or by its own text; used up."""
    if faults and (fault := faults.take(FaultKind.LINE, text=raw.decode("utf-8", "replace"))):
        return Directive(status=fault.status)
    told = directive(raw) if MAGIC in raw else None
    if told is None or told.word == "poison" or not tries.strikes(told, body_hash(line.body)):
        return None
    return told


async def _starts(text: mmap.mmap) -> array[int]:
    """Where each line starts, and where the last one ends."""
    starts = array("Q", [0])
    at = text.find(b"\n")
    while at >= 0:
        starts.append(at + 1)
        if len(starts) % 5000 == 0:
            await asyncio.sleep(0)
        at = text.find(b"\n", at + 1)
    if starts[-1] != len(text):
        starts.append(len(text))
    return starts


def _order(count: int, seed: str, shuffle: bool) -> Iterator[int]:  # noqa: FBT001 - private, called once
    """Every number below `count` once; shuffled, not in their own order, by a walk of constant steps that needs no list."""
    if not shuffle or count < 3:
        yield from range(count)
        return
    chance = random.Random(seed)
    step = chance.randrange(1, count)
    while math.gcd(step, count) != 1:
        step = chance.randrange(1, count)
    start = chance.randrange(1, count)
    yield from ((start + step * rank) % count for rank in range(count))
