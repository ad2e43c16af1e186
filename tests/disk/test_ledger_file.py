"""What may lie where the ledger should be: each is refused in words, and stays byte by byte as it was."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from gateway.errors import LedgerError, LedgerLocked
from gateway.store.ledger import Ledger
from gateway.store.lock import DirectoryLock
from gateway.store.sqlite import FILE_NAME, SqliteDatabase
from gateway.testing import FakeClock
from tests.acceptance.stand import COMMAND
from tests.unit.store.scenery import Desk, arrival


async def opened(directory: Path) -> Desk:
    """A ledger that has begun."""
    clock = FakeClock()
    ledger = await Ledger.open(SqliteDatabase.open(directory), clock)
    await ledger.begin(exclusive=True)
    return Desk(ledger, clock)


@pytest.fixture
async def directory(tmp_path: Path) -> Path:
    """Of a ledger with something in it, closed."""
    desk = await opened(tmp_path)
    await desk.admit(*(arrival(f"question {n}" + "x" * 5_000) for n in range(50)))
    await desk.ledger.close()
    return tmp_path


def _not_sqlite(path: Path) -> None:
    path.write_bytes(b"somebody's notes, long enough to look at\n" * 100)


def _short_text(path: Path) -> None:
    path.write_bytes(b"?")


def _cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _cut_in_the_header(path: Path) -> None:
    os.truncate(path, 50)


def _emptied_beside_its_log(path: Path) -> None:
    os.truncate(path, 0)
    path.with_name(path.name + "-wal").write_bytes(b"what was committed last" * 10)


def _another_applications(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 252006673")
        connection.execute("CREATE TABLE boots (id INTEGER)")


def _without_a_name(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
        connection.execute("INSERT INTO recipes VALUES ('soup')")
        connection.commit()


ACCIDENTS = {
    _not_sqlite: "not an SQLite database",
    _short_text: "not an SQLite database",
    _cut_off: "cut off",
    _cut_in_the_header: "not an SQLite database",
    _emptied_beside_its_log: "its log is not",
    _another_applications: "another application",
    _without_a_name: r"another application \(recipes\)",
}


@pytest.mark.parametrize(("harm", "reason"), ACCIDENTS.items())
async def test_what_is_not_a_ledger_is_refused_and_left_as_it_is(
    directory: Path, harm: Callable[[Path], None], reason: str
) -> None:
    """The message names the file, what is wrong with it and what to do; not a byte in the directory has changed."""
    harm(directory / FILE_NAME)
    before = {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "lock"}
    with pytest.raises(LedgerError, match=f"{directory / FILE_NAME}.*{reason}.*left untouched.*directory"):
        SqliteDatabase.open(directory)

    assert {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "lock"} == before
    DirectoryLock.acquire(directory, wait_seconds=0).release()


async def test_pages_that_are_only_in_the_log_are_not_missed(directory: Path) -> None:
    """A file that the log must still complete, as a kill in the middle of a checkpoint leaves it, is opened."""
    desk = await opened(directory)
    await desk.admit(*(arrival(f"more {n}" + "x" * 5_000) for n in range(200)))
    files = {path.name: path.read_bytes() for path in directory.iterdir()}
    await desk.ledger.close()
    header = (directory / FILE_NAME).read_bytes()[:8192]
    for name, content in files.items():
        (directory / name).write_bytes(content)
    with (directory / FILE_NAME).open("r+b") as file:
        file.write(header)
    again = await opened(directory)
    rows = await again.ledger.requests.listed(None, limit=1_000)
    await again.ledger.close()

    assert len(rows) == 250


async def test_a_ledger_of_an_early_version_gets_its_name(directory: Path) -> None:
    """A ledger that does not say what it is yet is taken for what it is, and says so from then on."""
    with closing(sqlite3.connect(directory / FILE_NAME)) as connection:
        connection.execute("PRAGMA application_id = 0")
    desk = await opened(directory)
    rows = await desk.ledger.requests.listed(None)
    await desk.ledger.close()
    with closing(sqlite3.connect(directory / FILE_NAME)) as connection:
        [[name]] = connection.execute("PRAGMA application_id").fetchall()

    assert len(rows) == 50
    assert name.to_bytes(4, "big") == b"bway"


def _a_file(path: Path) -> None:
    path.write_text("a file where the directory should be")


def _read_only(path: Path) -> None:
    path.mkdir()
    path.chmod(0o500)
    if os.access(path, os.W_OK):
        path.rmdir()
        pytest.skip("this user may write everywhere")


@pytest.mark.parametrize("harm", [_a_file, _read_only])
def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    """Not a traceback: which directory, why, and which setting names it."""
    place = tmp_path / "place"
    harm(place)
    with pytest.raises(LedgerError, match=rf"{place} cannot be used \(.*\).*\[storage\] directory"):
        DirectoryLock.acquire(place)


@pytest.mark.parametrize("harm", [_not_sqlite, _another_applications])
async def test_serve_ends_with_one_line(directory: Path, harm: Callable[[Path], None]) -> None:
    """The command says what is wrong with the ledger in one line and a status, without a traceback."""
    harm(directory / FILE_NAME)
    config = directory / "config.toml"
    config.write_text(f'[server]\nport = 0\n[storage]\ndirectory = "{directory}"\n')
    ended = subprocess.run(
        [COMMAND, "serve", "--config", config], check=False, capture_output=True, text=True, timeout=60
    )

    assert ended.returncode == 1
    assert "cannot be used as the ledger" in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_a_ledger_in_use_is_refused_by_serve(directory: Path) -> None:
    """Whoever starts a second gateway on one directory is told which process has it."""
    held = os.open(directory / "lock", os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(LedgerLocked, match=f"{directory} is in use by process [0-9]+"):
        SqliteDatabase.open(directory)
    os.close(held)
