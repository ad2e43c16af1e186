"""What the table says of one guard, and how the table is read.

The table is the TOML files in `table/`, one for each part of the house. An entry:

    [[guard]]
    name = "batch-settles-a-line-once"          # what `python -m tests.guards NAME` takes
    promise = "P5"                              # the promise in docs/promises.md that falls without it
    why = "One sentence: what would happen."
    file = "gateway/store/sqlite/schema.sql"
    take = 'UNIQUE (batch, n)'                  # stands once in the file, and is taken away ...
    leave = 'CHECK (1)'                         # ... and this is left in its place; "" where nothing is said
    tests = ["tests/unit/...::test_..."]        # each of these must fail then
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).parent / "table"
#: For a run of the tests of one guard, unless it says otherwise.
USUAL_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """A piece of the code that keeps a promise, and the tests that miss it."""

    name: str
    promise: str
    why: str
    #: From the root of the project.
    file: str
    take: str
    leave: str = ""
    tests: tuple[str, ...]
    #: Longer than this is a hang.
    seconds: float = USUAL_SECONDS
    #: Without it the tests wait for ever: a hang is the red light.
    hangs: bool = False

    def removed_from(self, text: str) -> str | None:
        """`text` of the guard's file without the guard; None: it does not stand there exactly once."""
        return text.replace(self.take, self.leave) if text.count(self.take) == 1 else None


def load_guards(files: str = "*.toml") -> list[Guard]:
    """Every guard of the table, or of some files of it, in its order.

    Raises `TypeError` for an entry with a word too many or too few.
    """
    entries = [entry for path in sorted(TABLE.glob(files)) for entry in tomllib.loads(path.read_text())["guard"]]
    return [Guard(**entry | {"tests": tuple(entry["tests"])}) for entry in entries]
