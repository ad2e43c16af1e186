"""What was submitted to a simulator, and how often: the proof that nothing is asked twice.

Every line that was ever in a created batch is on record with the batch and the hash of its body, also after its file
has been deleted. Two lines with one hash are the same question asked twice, whatever their ids.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec
import orjson

from gateway.sandbox.store import replace_file

#: In `lines/`, what was asked synchronously.
_SYNCHRONOUS = "completions"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmittedLine:
    """One line of one created batch; or one synchronous call, with an empty `batch_id`."""

    batch_id: str
    custom_id: str
    #: `body_hash` of its body.
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Submissions:
    """The ledger added up."""

    #: Operations by name: how many calls of each arrived, refused ones included.
    calls: dict[str, int]
    #: Batches that were created.
    batches: int
    #: Batches among them that failed in validation: nothing of them was run.
    refused_batches: int
    #: Lines of all batches, and of those that were not refused.
    lines: int
    accepted_lines: int
    #: Different bodies in accepted batches.
    distinct: int
    #: Rows of result files that hold an answer.
    answered: int
    #: Hash of a body -> in how many accepted lines it was, for those that were in more than one.
    repeated: dict[str, int]


class SubmissionLedger:
    """Counts of calls, and a file of lines for each batch."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "lines"
        self._counts_path = directory / "records" / "counts"
        self.calls: Counter[str] = Counter()
        if self._counts_path.exists():
            self.calls.update(orjson.loads(self._counts_path.read_bytes()))

    def count(self, operation: str) -> None:
        """One more call of `operation`; polls and synchronous calls reach the disk with the next call of another kind."""
        self.calls[str(operation)] += 1
        if operation not in ("poll", "complete", "list"):
            self.save()

    def save(self) -> None:
        """Bring the counts to disk."""
        replace_file(self._counts_path, msgspec.json.encode(self.calls))

    @contextmanager
    def writer(self, batch_id: str) -> Iterator[BinaryIO]:
        """A file that takes `entry` lines of one batch, from the start."""
        with (self._directory / batch_id).open("wb") as file:
            yield file

    def completed(self, custom_id: str, body_hash: str) -> None:
        """Record one synchronous call."""
        with (self._directory / _SYNCHRONOUS).open("ab") as file:
            file.write(entry(custom_id, body_hash))

    def lines(self) -> Iterator[SubmittedLine]:
        """Every line of every batch that has been checked, and every synchronous call."""
        for path in sorted(self._directory.iterdir()):
            batch_id = "" if path.name == _SYNCHRONOUS else path.name
            with path.open("rb") as file:
                for row in file:
                    body_hash, _, custom_id = row.rstrip(b"\n").partition(b" ")
                    yield SubmittedLine(
                        batch_id=batch_id, custom_id=orjson.loads(custom_id), hash=body_hash.decode("ascii")
                    )

    def clear(self) -> None:
        """Forget everything; the files of lines are the store's to remove."""
        self.calls.clear()
        self.save()

    def summary(self, refused: set[str], batches: int, answered: int) -> Submissions:
        """Add up; `refused` are the ids of batches of which nothing was run."""
        lines: dict[str, int] = defaultdict(int)
        hashes: Counter[str] = Counter()
        for line in self.lines():
            if line.batch_id:
                lines[line.batch_id] += 1
                if line.batch_id not in refused:
                    hashes[line.hash] += 1
        return Submissions(
            calls=dict(self.calls),
            batches=batches,
            refused_batches=len(refused),
            lines=sum(lines.values()),
            accepted_lines=hashes.total(),
            distinct=len(hashes),
            answered=answered,
            repeated={body_hash: times for body_hash, times in hashes.items() if times > 1},
        )


def entry(custom_id: str, body_hash: str) -> bytes:
    """One row of a file of lines."""
    return b"%b %b\n" % (body_hash.encode("ascii"), orjson.dumps(custom_id))
