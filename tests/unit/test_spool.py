"""Files of batches: whole or not there, split on newline bytes only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.spool import Spool, in_slices, read_rows, write_whole

#: Everything Unicode or Python may take for the end of a line, but the newline byte.
SEPARATORS = "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"

rows_of_json = st.lists(
    st.text(alphabet=st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(SEPARATORS))).map(orjson.dumps)
)


@given(rows_of_json)
def test_what_was_written_is_read_back_row_by_row(tmp_path_factory: pytest.TempPathFactory, rows: list[bytes]) -> None:
    """Every row comes back byte for byte, whatever separators of Unicode stand in it."""
    path = tmp_path_factory.mktemp("spool") / "x.rows"
    size = write_whole(path, rows)
    assert size == path.stat().st_size == sum(len(row) + 1 for row in rows)
    assert list(read_rows(path)) == rows


def test_unicode_separators_do_not_split_a_row(tmp_path: Path) -> None:
    """U+2028 and its like inside an answer are part of the row."""
    path = tmp_path / "x.rows"
    row = f'{{"text": "a{SEPARATORS[1:]}b"}}'.encode()
    path.write_bytes(row + b"\n" + row + b"\n")
    assert list(read_rows(path)) == [row, row]


def test_line_ends_of_other_systems_and_empty_rows_are_left_out(tmp_path: Path) -> None:
    """CRLF files and blank lines give the same rows."""
    path = tmp_path / "x.rows"
    path.write_bytes(b'{"a":1}\r\n\r\n\n{"b":2}\r\n')
    assert list(read_rows(path)) == [b'{"a":1}', b'{"b":2}']


def broken_after(lines: int) -> Iterator[bytes]:
    """Lines of a plugin that breaks down."""
    for n in range(lines):
        yield b"line %d" % n
    raise RuntimeError("the plugin broke down")


def test_a_write_that_breaks_off_leaves_nothing_to_send(tmp_path: Path) -> None:
    """A spool is there whole or not at all, and what was written of it does not fill the disk."""
    spool = Spool(directory=tmp_path)
    with pytest.raises(RuntimeError):
        spool.write_lines("m" * 20, broken_after(3))
    assert not spool.lines("m" * 20).exists()
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_breaks_off_leaves_the_earlier_file(tmp_path: Path) -> None:
    """What was whole before stays whole."""
    path = tmp_path / "x.jsonl"
    write_whole(path, [b"old"])
    with pytest.raises(RuntimeError):
        write_whole(path, broken_after(1))
    assert path.read_bytes() == b"old\n"


def test_the_folder_is_the_owners_alone(tmp_path: Path) -> None:
    """Prompts lie in the spool: nobody else may look."""
    spool = Spool(directory=tmp_path / "spool")
    spool.write_lines("m" * 20, [b"{}"])
    assert spool.directory.stat().st_mode & 0o077 == 0


def test_drop_removes_all_files_and_does_not_mind_none(tmp_path: Path) -> None:
    """A settled batch leaves nothing on disk, and may be dropped again."""
    spool = Spool(directory=tmp_path)
    spool.write_lines("m" * 20, [b"{}"])
    spool.rows("m" * 20).write_bytes(b"{}\n")
    # Left by a process that died while it read them.
    spool.proof("m" * 20).write_bytes(b"{}\n")
    spool.drop("m" * 20)
    spool.drop("m" * 20)
    assert list(tmp_path.iterdir()) == []


def test_slices_rest_and_lose_nothing() -> None:
    """Bulk work gives way to the loop every few milliseconds of CPU, and every item comes once, in order."""
    rests: list[float] = []
    busy = sum
    items = []
    for item in in_slices(range(50), rests.append):
        busy(range(20_000))
        items.append(item)
    assert items == list(range(50))
    assert rests
    assert set(rests) == {0.001}


def test_a_file_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever finds a file under its name after the loss of power finds all of it."""
    path = tmp_path / "x.jsonl"
    synced: list[tuple[bool, int]] = []
    monkeypatch.setattr("gateway.spool.sync", lambda each: synced.append((path.exists(), os.fstat(each).st_size)))
    write_whole(path, [b"a", b"b"])
    assert synced == [(False, len(b"a\nb\n"))]


def test_rows_are_on_disk_before_they_have_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a plugin has downloaded is synced whole before it counts as the rows of a batch."""
    spool = Spool(directory=tmp_path)
    fetched = tmp_path / "m.rows.part"
    fetched.write_bytes(b"{}\n")
    synced: list[tuple[bool, int]] = []
    monkeypatch.setattr(
        "gateway.spool.sync", lambda each: synced.append((spool.rows("m").exists(), os.fstat(each).st_size))
    )
    spool.adopt_rows("m", fetched)
    assert synced == [(False, 3)]
    assert list(read_rows(spool.rows("m"))) == [b"{}"]
