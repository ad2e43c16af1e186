"""A ledger that an earlier Batchway left is taken up with all its work; a step of the schema is whole or not there."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import orjson
import pytest

from gateway.app import Gateway
from gateway.config import Batching, Configuration, Polling, Retries, Route, Server, Storage
from gateway.listening import listen
from gateway.records import BatchState, RequestState
from gateway.routing import build_router
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
