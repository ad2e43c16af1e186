"""The ledger as commands read it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.cli import reading
from gateway.cli.reading import latest_requests, open_ledger
from gateway.clock import SystemClock
from gateway.config import Storage
from gateway.errors import LedgerError, LedgerTooNew
from gateway.records import RequestState
from gateway.store.ledger import Ledger
from gateway.store.rows import Arrival, Ask, LaneKey
from gateway.store.sqlite import FILE_NAME, SqliteDatabase

ALL = tuple(RequestState)


def arrival(name: str, client: str = "") -> Arrival:
    """A call with a name."""
    return Arrival(
        client=client,
        custom_id=name,
        lane=LaneKey(provider="p", endpoint="/v1/chat/completions", model="m"),
        fingerprint=name.encode().ljust(32, b"."),
        body_hash=name.encode().ljust(32, b"."),
        payload=b"{}",
        size=10,
        tokens=1,
        ask=Ask(),
    )


async def fill(directory: Path, names: list[str], client: str = "") -> None:
    """Record calls as a gateway would, which then stops."""
    ledger = await Ledger.open(SqliteDatabase.open(directory), SystemClock())
    await ledger.begin(exclusive=True)
    await ledger.requests.admit([arrival(name, client) for name in names])
    await ledger.close()


async def names(ledger: Ledger, *, client: str | None = None, batch: int | None = None, limit: int = 100) -> list[str]:
    """The latest requests by their names."""
    found = await latest_requests(ledger, client=client, states=ALL, batch=batch, limit=limit)
    return [request.custom_id for request in found]


async def test_a_running_gateways_ledger_is_read(tmp_path: Path) -> None:
    """What is committed is seen while another process holds the lock, newer commits too."""
    owner = await Ledger.open(SqliteDatabase.open(tmp_path), SystemClock())
    await owner.begin(exclusive=True)
    ledger = open_ledger(Storage(directory=tmp_path))
    before = await names(ledger)
    await owner.requests.admit([arrival("a")])

    assert (before, await names(ledger)) == ([], ["a"])
    await owner.close()


async def test_a_stopped_gateways_ledger_is_read(tmp_path: Path) -> None:
    """The ledger can be read when nobody has it open, and opened by a gateway afterwards."""
    await fill(tmp_path, ["a"])
    ledger = open_ledger(Storage(directory=tmp_path))

    assert await names(ledger) == ["a"]
    await fill(tmp_path, ["b"])
    assert await names(ledger) == ["b", "a"]


async def test_the_latest_come_first_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are looked through at once, each request comes once, newest first, up to the limit."""
    monkeypatch.setattr(reading, "_BLOCK", 3)
    await fill(tmp_path, [f"r{n}" for n in range(10)])
    await fill(tmp_path, ["theirs"], client="team-b")
    ledger = open_ledger(Storage(directory=tmp_path))

    assert await names(ledger) == ["theirs", *(f"r{n}" for n in range(9, -1, -1))]
    assert await names(ledger, limit=4) == ["theirs", "r9", "r8", "r7"]
    assert await names(ledger, client="team-b") == ["theirs"]
    assert await names(ledger, batch=1) == []


async def test_nothing_is_written(tmp_path: Path) -> None:
    """A room that would write is refused before it reaches the file."""
    await fill(tmp_path, ["a"])
    ledger = open_ledger(Storage(directory=tmp_path))

    with pytest.raises(LedgerError, match="only read"):
        await ledger.lanes.unpark(1)
    with pytest.raises(LedgerError), ledger.database.reader() as session:
        session.run("unpark_lane", {"lane": 1})


def test_a_missing_ledger_is_said_to_be_missing(tmp_path: Path) -> None:
    """Reading makes no ledger where there is none, and says how that comes."""
    with pytest.raises(LedgerError, match="no gateway has run"):
        open_ledger(Storage(directory=tmp_path / "data"))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("version", "error"), [(99, LedgerTooNew), (0, LedgerError)])
def test_another_versions_ledger_is_not_read(tmp_path: Path, version: int, error: type[LedgerError]) -> None:
    """A schema this version does not know is refused, not misread."""
    asyncio.run(fill(tmp_path, []))
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")

    with pytest.raises(error, match="version of Batchway"):
        open_ledger(Storage(directory=tmp_path))


def test_another_kind_of_ledger_is_refused(tmp_path: Path) -> None:
    """An address of a database that this version cannot open is refused with the setting's name."""
    with pytest.raises(LedgerError, match=r"storage\.ledger"):
        open_ledger(Storage(directory=tmp_path, ledger="postgresql://somewhere"))


async def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Which file it was stands in the message, and what to do: there may be many on a machine."""
    (tmp_path / FILE_NAME).write_bytes(b"this is no database, and long enough to be looked at" * 40)

    with pytest.raises(LedgerError, match=rf"{FILE_NAME} cannot be read: .+ `batchway doctor`"):
        await names(open_ledger(Storage(directory=tmp_path)))
