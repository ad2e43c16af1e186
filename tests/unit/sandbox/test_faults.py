"""Orders, directives, pages and result files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sandbox import Fault, FaultBook, FaultKind, Operation, page
from gateway.sandbox.directives import Directive, Tries, directive
from gateway.sandbox.rows import WORD_FAULTS, RowFile


def test_an_order_strikes_as_often_as_ordered() -> None:
    """`times` is counted down, None stays, and other operations are left alone."""
    book = FaultBook()
    book.order(Fault(kind=FaultKind.STATUS, operation=Operation.POLL, times=2, status=503))
    taken = [book.take(FaultKind.STATUS, operation=operation) for operation in (Operation.LIST, *[Operation.POLL] * 3)]

    assert [fault is not None for fault in taken] == [False, True, True, False]
    assert not book
    book.order(Fault(kind=FaultKind.CUT, times=None))
    assert all(book.take(FaultKind.CUT, operation=Operation.POLL) for _ in range(5))


def test_an_order_can_let_calls_pass() -> None:
    """`skip` counts calls that the order fits, and no others; orders strike one after the other."""
    book = FaultBook()
    for skip in (1, 0):
        book.order(Fault(kind=FaultKind.CUT, operation=Operation.UPLOAD, skip=skip))
    struck = [
        book.take(FaultKind.CUT, operation=operation) is not None
        for operation in (Operation.UPLOAD, Operation.POLL, Operation.UPLOAD, Operation.UPLOAD, Operation.UPLOAD)
    ]
    assert struck == [False, False, True, True, False]


def test_an_order_can_wait_for_a_text() -> None:
    """`contains` and `when` choose what is struck."""
    book = FaultBook()
    book.order(Fault(kind=FaultKind.STATUS, when="after", contains="cat"))

    assert book.take(FaultKind.STATUS, when="before", text="a cat") is None
    assert book.take(FaultKind.STATUS, when="after", text="a dog") is None
    assert book.take(FaultKind.STATUS, when="after", text="a cat") is not None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"x [sandbox: status=429 times=1] y", Directive(status=429, times=1)),
        (b"[sandbox: poison]", Directive(word="poison")),
        (b"[sandbox: poison line=no]", Directive(word="poison", numbered=False)),
        (b"[sandbox: refusal]", Directive(word="refusal")),
        (b"[sandbox: nothing known]", None),
        (b"[sandbox: status=many]", None),
        (b"[sandbox]", None),
    ],
)
def test_directives_are_read(text: bytes, told: Directive | None) -> None:
    """A directive is read from raw bytes; one that cannot be understood does nothing."""
    assert directive(text) == told


def test_tries_are_counted_by_body() -> None:
    """A directive with `times` strikes that often for each body."""
    tries = Tries()
    told = Directive(status=500, times=2)

    assert [tries.strikes(told, name) for name in "aabab"] == [True, True, True, False, True]


@dataclass(frozen=True)
class Item:
    id: str


@given(st.integers(0, 30), st.integers(1, 7))
def test_pages_cover_everything_once(count: int, limit: int) -> None:
    """Following the cursor gives every item once, in order, and says when it is over."""
    items = [Item(str(n)) for n in range(count)]
    seen: list[Item] = []
    after = None
    while True:
        part = page(items, after=after, limit=limit)
        assert part is not None
        seen.extend(part.items)
        if not part.has_more:
            break
        after = part.items[-1].id

    assert seen == items
    assert page(items, after="nobody", limit=limit) is None


def test_every_row_fault_has_its_word() -> None:
    """Each fault of a row can be asked for from a prompt too."""
    assert set(WORD_FAULTS) == {
        *("duplicate", "missing", "malformed", "unknown-id", "invalid-utf8", "status-0", "no-choices")
    }


def test_a_result_file_without_rows_is_none(tmp_path: Path) -> None:
    """A file to which nothing was written is not left behind."""
    file = RowFile(tmp_path / "rows", lambda row, _: row, Counter())

    assert file.close() == 0
    assert not file.path.exists()


def test_damage_strikes_as_many_rows_as_ordered(tmp_path: Path) -> None:
    """Two rows are left out, the third is written, and the count is of rows that should be there."""
    file = RowFile(tmp_path / "rows", lambda row, _: row, Counter({FaultKind.ROW_MISSING: 2}))
    for row in (b"1", b"2", b"3"):
        file.write(row)
    file.close()

    assert (file.rows, file.path.read_bytes()) == (3, b"3\n")
