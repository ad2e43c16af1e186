"""The table of guards keeps up with the code, and the runner judges as it says."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store.queries import named_statements, schema_statements
from gateway.store.sqlite import MIGRATIONS
from tests.guards.records import ROOT, Guard, load_guards
from tests.guards.runs import Run, Verdict, judged

#: Where classes of tests inherit tests from.
SUITES = ("tests/unit/store/conformance*.py", "gateway/testing/contract/*.py")
GUARDS = load_guards()


def text_of(path: str) -> str:
    """A file of the project; empty where there is none."""
    file = ROOT / path
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def test_names_are_unique() -> None:
    """Each guard can be asked for by its name."""
    assert [name for name, count in Counter(guard.name for guard in GUARDS).items() if count > 1] == []
    assert [guard.name for guard in GUARDS if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", guard.name)] == []


def test_every_guard_stands_in_its_file_once() -> None:
    """Where the text of a guard has moved, its entry moves with it: `make guards NAME=...` shows that it is still watched."""
    lost = [f"{guard.name}: {guard.file}" for guard in GUARDS if guard.removed_from(text_of(guard.file)) is None]

    assert lost == []


def test_every_guard_makes_a_difference() -> None:
    """What is left in a guard's place is something else, and says in a sentence what would happen."""
    assert [guard.name for guard in GUARDS if guard.take == guard.leave] == []
    assert [guard.name for guard in GUARDS if not re.fullmatch(r"[^.].+\.", guard.why, re.DOTALL)] == []
    assert [guard.name for guard in GUARDS if not guard.tests] == []


def test_every_promise_has_guards() -> None:
    """None of the twelve is kept by good luck."""
    assert {guard.promise for guard in GUARDS} == {f"P{number}" for number in range(1, 13)}


def test_the_tests_of_the_table_exist() -> None:
    """Each is in its file, or in a suite that its class inherits."""
    suites = "".join(path.read_text(encoding="utf-8") for suite in SUITES for path in sorted(ROOT.glob(suite)))
    missing = [
        f"{guard.name}: {test}"
        for guard in GUARDS
        for test in guard.tests
        if not re.search(
            rf"\b{name_of(test)}(\(| = )", text_of(test.partition("::")[0]) + (suites if in_class(test) else "")
        )
    ]

    assert missing == []


def name_of(test: str) -> str:
    """The function, without file, class and parameters."""
    return test.partition("[")[0].rpartition("::")[2]


def in_class(test: str) -> bool:
    """Whether the test is a method."""
    return test.partition("[")[0].count("::") == 2


def without_guards(suffix: str) -> Iterator[tuple[Guard, str]]:
    """Each guard of files that end so, with its file as it is without it."""
    for guard in GUARDS:
        after = guard.removed_from(text_of(guard.file)) if guard.file.endswith(suffix) else None
        if after is not None:
            yield guard, after


def test_python_without_a_guard_is_python() -> None:
    """A file that does not compile makes every test red and shows nothing."""
    for guard, after in without_guards(".py"):
        compile(after, f"{guard.file} without {guard.name}", "exec")


def test_sql_without_a_guard_is_sql() -> None:
    """So does a statement that the database does not take."""
    with sqlite3.connect(":memory:") as connection:
        for step in MIGRATIONS:
            for statement in schema_statements("sqlite", step):
                connection.execute(statement)
        for guard, after in without_guards(".sql"):
            for name, statement in named_statements(after):
                parameters = dict.fromkeys(re.findall(r":([a-z_]+)", statement))
                assert connection.execute(f"EXPLAIN {statement}", parameters).fetchone(), f"{guard.name}: {name}"
    connection.close()


A_GUARD = Guard(name="a", promise="P1", why="Why.", file="f.py", take="if x:\n", leave="", tests=("t::one", "t::two"))


@pytest.mark.parametrize(
    ("run", "verdict"),
    [
        (Run(ran=frozenset({"t::one", "t::two"}), failed=frozenset({"t::one", "t::two"})), Verdict.RED),
        (Run(ran=frozenset({"t::one", "t::two"}), failed=frozenset({"t::one"})), Verdict.GREEN),
        (Run(ran=frozenset({"t::one"}), failed=frozenset({"t::one"})), Verdict.BROKEN),
        (Run(words="SyntaxError"), Verdict.BROKEN),
        (Run(hung=True), Verdict.BROKEN),
    ],
)
def test_a_guard_is_watched_by_every_test_of_its_entry(run: Run, verdict: Verdict) -> None:
    """One that passes all the same is a find, and what did not run shows nothing."""
    assert judged(A_GUARD, run)[0] is verdict


def test_a_guard_against_waiting_may_hang() -> None:
    """Where the entry says so, a test that never ends is the red light."""
    hanging = Guard(name="a", promise="P2", why="Why.", file="f.py", take="x", tests=("t::one",), hangs=True)

    assert judged(hanging, Run(hung=True))[0] is Verdict.RED


def test_a_text_that_is_not_there_once_is_no_match() -> None:
    """Neither nothing nor half of it is taken away."""
    assert A_GUARD.removed_from("a\nif x:\nb\n") == "a\nb\n"
    assert A_GUARD.removed_from("a\n") is None
    assert A_GUARD.removed_from("if x:\nif x:\n") is None


def test_the_table_is_read_from_files_of_ten_lines_an_entry() -> None:
    """No file of the table is longer than a person reads at once."""
    table = Path(__file__).parent / "table"
    assert [path.name for path in table.glob("*.toml") if len(path.read_text().splitlines()) > 600] == []
