"""A ledger that an earlier Batchway left is taken up with all its work; a step of the schema is whole or not there."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import orjson
import pytest

from gateway.app import Gateway
from gateway.config import Batching, Configuration, Polling, Retries, Route, Server, Storage
from gateway.errors import StorageFull
from gateway.listening import listen
from gateway.records import BatchState, RequestState
from gateway.routing import build_router
from gateway.store.disk import DiskRoom
from gateway.store.migrations import migrate
from gateway.store.queries import schema_statements
from gateway.store.rows import Ending
from gateway.store.sqlite import FILE_NAME, MIGRATIONS, SqliteDatabase
from gateway.testing import FakeClock, FakeRemote
from tests.fixtures.stored import fixture_of, kinds, moment_of, remote_of, tables, unpack
from tests.unit.pipeline.single import Server as SingleServer

#: Every schema of which somebody may have a ledger.
STORED = [number for number in range(1, len(MIGRATIONS) + 1) if fixture_of(number).exists()]
#: Questions that were asked again with good reason before the process died: their lines had failed or were lost.
ASKED_AGAIN = {"comes back", "lost line", "comes back soon"}
#: What nobody wants any more.
UNWANTED = {"unwanted", "unwanted at work"}


@dataclass(frozen=True, kw_only=True)
class Left:
    """What a stored ledger says before anything touches it."""

    requests: Mapping[int, str]
    states: Mapping[int, RequestState]
    endings: Mapping[int, bytes]
    parents: frozenset[int]
    batch_states: frozenset[BatchState]
    billed: dict[str, float]


def left_in(directory: Path) -> Left:
    """Read with nothing but SQL."""
    with closing(sqlite3.connect(directory / FILE_NAME)) as rows:
        texts = dict(rows.execute("SELECT seq, json_extract(metadata, '$.said') FROM payloads WHERE metadata NOTNULL"))
        states = dict(rows.execute("SELECT seq, state FROM requests WHERE parent IS NULL"))
        bodies = "SELECT r.seq, q.body FROM requests r JOIN results q ON q.id = r.result WHERE r.ended_at NOTNULL"
        billed = rows.execute("SELECT provider, cost_usd FROM bills").fetchall()
        return Left(
            requests=texts,
            states={seq: RequestState(state) for seq, state in states.items()},
            endings=dict(rows.execute(bodies + " AND r.parent IS NULL")),
            parents=frozenset(seq for (seq,) in rows.execute("SELECT DISTINCT parent FROM requests WHERE parent NOTNULL")),
            batch_states=frozenset(BatchState(state) for (state,) in rows.execute("SELECT state FROM batches")),
            billed=dict(billed),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class House:
    """A gateway of today on a stored ledger, and the providers it had to do with."""

    gateway: Gateway
    clock: FakeClock
    remote: FakeRemote
    server: SingleServer

    async def finish(self) -> dict[int, Ending]:
        """Let time pass until every request has ended."""
        requests = self.gateway.ledger.requests
        async with asyncio.timeout(60):
            while True:
                tally = await requests.tally()
                if not tally[RequestState.QUEUED] + tally[RequestState.BATCHED]:
                    break
                await self.clock.advance(15)
                await asyncio.sleep(0.005)
        return await requests.endings([request.seq for request in await requests.listed(None, limit=1000)])


@asynccontextmanager
async def open_house(directory: Path) -> AsyncIterator[House]:
    """Start on `directory`, some seconds after the stored gateway was killed."""
    clock = FakeClock(moment_of(directory) + 20)
    remote, server = remote_of(directory, clock), SingleServer()
    server.open.set()
    configuration = Configuration(
        server=Server(port=0),
        storage=Storage(directory=directory, reserve_bytes=0),
        batching=Batching(window_seconds=1.0, idle_seconds=0.1),
        polling=Polling(min_seconds=5, max_seconds=60),
        retries=Retries(quarantine_seconds=300.0),
        providers=MappingProxyType(tables(remote, server, returned=True)),
        routes=(Route(model="*", provider="paid"),),
    )
    router = build_router(configuration, kinds(), clock=clock, directory=directory / "providers")
    faults: list[str] = []
    database = SqliteDatabase.open(directory)
    gateway = Gateway(configuration, router, database, clock, fail=lambda: faults.append("a worker died"))
    await gateway.start(listen("127.0.0.1", 0))
    try:
        yield House(gateway=gateway, clock=clock, remote=remote, server=server)
    finally:
        await gateway.stop()
    assert not faults


@pytest.fixture(params=STORED, ids=lambda number: f"schema-{number}")
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a stored ledger."""
    unpack(fixture_of(request.param), tmp_path)
    return tmp_path


def said(ending: Ending) -> list[str]:
    """The texts of all choices of an answer."""
    return [choice["message"]["content"] for choice in orjson.loads(ending.body)["choices"]]


def test_what_is_stored_has_every_state(stored: Path) -> None:
    """There is a request and a batch in every state there is, and a family, a claim, a hold, a bill, a parked batch."""
    left = left_in(stored)
    with closing(sqlite3.connect(stored / FILE_NAME)) as rows:
        counts = {
            name: rows.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            for name in (
                "completions",
                "bills",
                "runs WHERE held_by NOTNULL",
                "requests WHERE held_by NOTNULL AND state = 'queued'",
                "requests WHERE left_at NOTNULL",
                "requests WHERE state = 'queued' AND due = 0 AND fresh = 0",
                "requests WHERE cancel_at NOTNULL AND ended_at IS NULL",
                "requests WHERE parent NOTNULL AND ended_at NOTNULL",
                "requests WHERE deliveries > 0",
                "batches WHERE parked_reason NOTNULL",
                "batches WHERE state = 'ended' AND fetched = 1",
                "batches WHERE state = 'ended' AND ambiguous = 1",
                "batches WHERE owner NOTNULL",
                "lanes WHERE parked_reason NOTNULL",
                "lines WHERE batch IN (SELECT id FROM batches WHERE state = 'ended')",
            )
        }

    assert set(left.states.values()) == set(RequestState)
    assert left.batch_states == set(BatchState)
    assert left.parents
    assert {name: count for name, count in counts.items() if not count} == {}


async def test_all_work_of_a_stored_ledger_is_finished(stored: Path) -> None:
    """Every pending request gets the answer to its own question, what had ended stays, nothing is sent twice or billed twice."""
    left = left_in(stored)
    async with open_house(stored) as house:
        endings = await house.finish()
        bills = await house.gateway.ledger.bills.totals()
        totals = house.gateway.ledger.lanes
        assert await totals.queued() == {"paid": 0, "away": 0, "single": 0}

    assert {seq: ending.body for seq, ending in endings.items() if seq in left.endings} == left.endings
    pending = {seq for seq, state in left.states.items() if not state.ended}
    for seq in pending:
        text = left.requests[seq]
        if text in UNWANTED:
            continue
        assert endings[seq].state is RequestState.SUCCEEDED, text
        assert set(said(endings[seq])) == {f"echo: {text}"}
        assert (len(said(endings[seq])) > 1) == (seq in left.parents)
    prompts = {
        orjson.loads(payload)["messages"][-1]["content"]: count for payload, count in house.remote.submitted.items()
    }
    children = {left.requests[seq] for seq in left.parents}
    assert {text for text, count in prompts.items() if count > 1} - children == ASKED_AGAIN
    batched = sum(
        price(left.requests[seq]) * len(said(ending)) for seq, ending in answered(endings) if seq not in alone(left)
    )
    assert sum(bill.cost_usd for bill in bills if bill.provider != "single") == pytest.approx(
        left.billed["paid"] + batched
    )
    assert sum(bill.undiscounted_lines for bill in bills) == len(alone(left))
    assert sum(bill.wasted_lines for bill in bills) == 0


def answered(endings: Mapping[int, Ending]) -> list[tuple[int, Ending]]:
    """Requests with an answer."""
    return [(seq, ending) for seq, ending in endings.items() if ending.state is RequestState.SUCCEEDED]


def alone(left: Left) -> set[int]:
    """Requests that were asked one by one."""
    return {seq for seq, text in left.requests.items() if text.startswith("asked")}


def price(text: str) -> float:
    """What an answer to `text` costs: as many tokens as it has words go in, and one more comes out."""
    return (2 * len(text.split()) + 1) / 100


async def test_a_copy_is_made_before_the_schema_changes(stored: Path) -> None:
    """The ledger as it was lies beside the new one, its owner's alone; opening again makes no second one."""
    version, before = schema_of(stored / FILE_NAME), rows_of(stored / FILE_NAME)
    for _ in range(2):
        await SqliteDatabase.open(stored).close()
    copies = sorted(stored.glob("*.before-*"))

    assert [path.name for path in copies] == [f"ledger.sqlite.before-{version + 1}"]
    assert stat.S_IMODE(copies[0].stat().st_mode) == 0o600
    assert (schema_of(copies[0]), rows_of(copies[0])) == (version, before)
    assert schema_of(stored / FILE_NAME) == len(MIGRATIONS)
    assert rows_of(stored / FILE_NAME) == before
    with closing(sqlite3.connect(copies[0])) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_an_older_copy_stays(stored: Path) -> None:
    """Somebody who went back to the version before, and comes again, keeps the copy of the first time too."""
    older = stored / f"ledger.sqlite.before-{schema_of(stored / FILE_NAME) + 1}"
    older.write_bytes(b"of another day")
    await SqliteDatabase.open(stored).close()

    assert older.read_bytes() == b"of another day"
    assert rows_of(older.with_name(older.name + ".1")) == rows_of(stored / FILE_NAME)


async def test_without_room_for_the_copy_nothing_is_changed(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start is refused, saying how much is missing; the ledger stays as the version before can read it."""
    before = rows_of(stored / FILE_NAME)
    monkeypatch.setattr(DiskRoom, "free_bytes", lambda _: 100_000)
    with pytest.raises(StorageFull, match=r"has to be copied .* 100000 are free. Nothing was changed"):
        SqliteDatabase.open(stored)

    assert schema_of(stored / FILE_NAME) < len(MIGRATIONS)
    assert rows_of(stored / FILE_NAME) == before
    assert list(stored.glob("*.before-*")) == []


KILLED = """
import os, signal, sqlite3, sys
from pathlib import Path
from gateway.store.migrations import copy_before, migrate
from gateway.store.queries import schema_statements
from gateway.store.sqlite import MIGRATIONS
from gateway.store.sqlite_session import connect_writer

path = Path(sys.argv[1])
connection = connect_writer(path, durability="full", page_size=8192, cache_bytes=1 << 20)
connection.create_function("die", 0, lambda: os.kill(os.getpid(), signal.SIGKILL))
steps = {name: schema_statements("sqlite", name) for name in MIGRATIONS}
steps["next.sql"] = [
    "CREATE TABLE more (id INTEGER PRIMARY KEY)",
    "UPDATE requests SET state = 'cancelled'",
    "DELETE FROM batches",
    "INSERT INTO more SELECT seq FROM requests",
    "SELECT die()",
]
migrate(connection, steps, lambda found, step: copy_before(found, path, step, 1 << 40))
"""


async def test_a_step_is_whole_or_not_there(stored: Path) -> None:
    """A process killed in the middle of a step leaves what was there before it; the next start goes on from there."""
    await SqliteDatabase.open(stored).close()
    before = rows_of(stored / FILE_NAME)
    for _ in range(2):
        child = subprocess.run(
            [sys.executable, "-c", KILLED, str(stored / FILE_NAME)], capture_output=True, check=False, timeout=60
        )
        assert child.returncode == -signal.SIGKILL, child.stderr

    assert schema_of(stored / FILE_NAME) == len(MIGRATIONS)
    assert rows_of(stored / FILE_NAME) == before
    assert [path.name for path in stored.glob(f"*.before-{len(MIGRATIONS) + 1}*")] == [
        f"ledger.sqlite.before-{len(MIGRATIONS) + 1}"
    ]
    async with open_house(stored) as house:
        assert await house.finish()


def test_a_step_that_fails_is_taken_back(stored: Path) -> None:
    """An error in the middle of a step: the earlier steps stay, nothing of this one does, and the error is seen."""
    with closing(sqlite3.connect(stored / FILE_NAME, isolation_level=None)) as connection:
        version = schema_of(stored / FILE_NAME)
        steps = {name: schema_statements("sqlite", name) for name in MIGRATIONS[:version]}
        wrong = ["CREATE TABLE more (id INTEGER)", "DELETE FROM requests", "INSERT INTO nowhere VALUES (1)"]
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            migrate(connection, {**steps, "wrong.sql": wrong}, lambda *_: None)

    assert schema_of(stored / FILE_NAME) == version
    assert left_in(stored).states


def test_every_step_before_the_last_has_a_stored_ledger() -> None:
    """Whoever adds a step keeps a ledger of the one before it: `python -m tests.fixtures.make_ledger`."""
    assert STORED[: len(MIGRATIONS) - 1] == list(range(1, len(MIGRATIONS)))


def schema_of(path: Path) -> int:
    """How many steps a ledger has had."""
    with closing(sqlite3.connect(path)) as rows:
        return int(rows.execute("PRAGMA user_version").fetchone()[0])


def rows_of(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Everything in the tables that every schema has, by the columns of the first one."""
    with closing(sqlite3.connect(path)) as rows:
        tables = ("boots", "requests", "payloads", "results", "completions", "lines", "runs", "bills")
        found = {name: rows.execute(f"SELECT * FROM {name}").fetchall() for name in tables}
        lanes = (
            "id, provider, endpoint, model, due_count, due_size, due_tokens, due_fresh, last_arrival_at, target_tokens"
        )
        rest = "token_factor, parked_reason, retry_at, park_steps"
        found["lanes"] = rows.execute(f"SELECT {lanes}, {rest} FROM lanes").fetchall()
        batches = rows.execute("SELECT id, marker, state, epoch, remote_id, parked_reason, retry_at FROM batches")
        return {**found, "batches": batches.fetchall()}
