"""How much the database has to do for a query: by the plan it makes of it, and by the steps it takes on a ledger with a past."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from types import MappingProxyType

import pytest

from gateway.records import BatchState
from gateway.store.database import Value
from gateway.store.queries import load_queries, schema_statements
from gateway.store.sqlite import MIGRATIONS
from gateway.store.sqlite_session import Query

#: Tables, and what queries call them, that may have a million rows.
LARGE = {"requests", "r", "c", "s", "payloads", "p", "results", "q", "lines", "i", "runs", "u", "batches", "b"}
#: Indexes that hold only what is under way, or what is rare, whatever the size of their table.
SMALL = {"batches_live", "requests_told", "lines_wasted"}
#: What people and doctors ask for, and what counts by an index: never in the loop, and not the writer.
READ_ALL = {"batch_names", "bills", "count_ended", "listed_requests", "wasted"}
#: What takes a window or a batch as a whole into its next state: one transaction each.
MOVE_A_BATCH = {"cut", "seal", "part_totals", "reseal_part", "members_cancelled", "return_members"}
#: What looks through one, or counts it by an index: never in the loop, and not the writer.
READ_A_BATCH = {"cancelled_whole", "unwanted", "count_batched", "count_returned", "listed_requests", "recount"}
#: What is put right once, at a start that finds the machine's clock set back.
ONCE = {"set_back_batches", "set_back_leftovers", "set_back_lanes", "set_back_window", "set_back_returned"}
NOW = 1e9
#: The database calls back whenever it has taken so many steps.
STEPS = 10
OPEN = [BatchState.SEALED, BatchState.SUBMITTING, BatchState.SUBMITTED, BatchState.RECONCILING, BatchState.ENDED]
#: Of every batch, and of every request here.
BATCH: Mapping[str, Value] = MappingProxyType(
    {"lane": 1, "account": "acc", "base_url": "http://api", "count": 2, "size": 100, "tokens": 10}
)
REQUEST: Mapping[str, Value] = MappingProxyType({
    "token": "t", "client": "", "job": "", "named": 0, "detached": 0, "lane": 1, "attempts": 1, "permanent": 0,
    "size": 10, "tokens": 1, "deliveries": 1, "no_cache": 0, "no_store": 0, "due": 0, "fresh": 0,
})  # fmt: skip
#: What queries are asked with, whatever they call for.
USUAL: Mapping[str, Value] = MappingProxyType({
    "now": NOW, "since": NOW - 3_600, "before": NOW - 86_400, "at": NOW, "retry_at": NOW, "not_before": NOW + 60,
    "batch": 3, "id": 3, "epoch": 1, "part": 2, "lane": 1, "boot": 2, "seq": 1_000, "parent": 7, "n": 0,
    "provider": "one", "endpoint": "/v1/chat/completions", "model": "m-1", "base_url": "http://api",
    "kind": "", "unknown": "", "rehearsal": 0,
    "client": "", "job": "", "run": "night", "name": "x", "fingerprint": b"f", "token": "t", "ordinal": 0,
    "state": "submitted", "states": '["submitted"]', "but_of": '["acc"]', "among": '["remote-1","remote-200"]',
    "seqs": "[1000]", "places": "[0,1]", "ordinals": "[0,1]", "limit": 5, "after_n": -1, "after_seq": 0, "after_id": 0,
    "count": 10**9, "max_requests": 10**9, "max_bytes": 10**12, "max_tokens": 10**12, "troubles": 0, "low": 0,
})  # fmt: skip


@pytest.fixture
def ledger() -> Iterator[sqlite3.Connection]:
    """In memory, with a batch in every state before the last two, and two boots, the first of which is over."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for step in MIGRATIONS:
            for statement in schema_statements("sqlite", step):
                connection.execute(statement)
        insert(connection, "lanes", provider="one", endpoint="/v1/chat/completions", model="m-1", due_count=1)
        insert(connection, "boots", id=1, started_at=1, alive_until=2, ended_at=2)
        insert(connection, "boots", id=2, started_at=2, alive_until=NOW + 15)
        for number, state in enumerate(OPEN, start=1):
            insert_batch(connection, number, state, retry_at=NOW - 1, sealed_at=NOW - 9, epoch=1)
        yield connection


def insert(ledger: sqlite3.Connection, table: str, **columns: Value) -> None:
    """One row."""
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    ledger.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(columns.values()))


def insert_batch(ledger: sqlite3.Connection, number: int, state: BatchState, **columns: Value) -> None:
    """One of the lane that there is."""
    names: Mapping[str, Value] = {"marker": f"m-{number}", "remote_id": f"remote-{number}"}
    insert(ledger, "batches", id=number, state=state.value, **names, **BATCH, **columns)


def settle_past(ledger: sqlite3.Connection, numbers: Iterable[int]) -> None:
    """Batches that were collected and discarded yesterday, and every fifth dissolved; each had two requests, of a run."""
    for number in numbers:
        state = BatchState.COLLECTED if number % 5 else BatchState.DISSOLVED
        at = NOW - 10_000 + number
        times: Mapping[str, Value] = {"sealed_at": at, "first_sent_at": at, "last_sent_at": at, "collected_at": at}
        insert_batch(ledger, number, state, submissions=1, discarded=1, retry_at=at, **times)
        for n in range(2):
            seq, name = number * 10 + n, b"%d" % (number * 10 + n)
            ended: Mapping[str, Value] = {"state": "succeeded", "ended_at": at, "batch": number, "n": n, "result": seq}
            insert(
                ledger, "requests", seq=seq, ordinal=0, fingerprint=name, queued_at=at, ready_at=at, **ended, **REQUEST
            )
            insert(ledger, "payloads", seq=seq, body=b"x")
            insert(ledger, "results", id=seq, status=200, body=b"x")
            insert(ledger, "lines", batch=number, n=n, seq=seq, status=200, billed=1, wasted=int(number % 10 == n == 0))
            given: Mapping[str, Value] = {"client": "", "run": "night", "fingerprint": name, "ordinal": 0}
            insert(ledger, "runs", holders=0, delivered=1, given_at=at, **given)


def fill_batch(ledger: sqlite3.Connection, numbers: Iterable[int]) -> None:
    """For each a request in batch 3, one in the window of its lane, and one that comes back to it later."""
    for number in numbers:
        for kind, columns in enumerate(
            (
                {
                    "state": "batched",
                    "batch": 3,
                    "n": number - 1_000,
                    "cancel_at": NOW,
                    "queued_at": NOW,
                    "ready_at": NOW,
                },
                {"state": "queued", "due": 1, "queued_at": NOW - 5, "ready_at": NOW - 5},
                {"state": "queued", "queued_at": NOW - 9, "ready_at": NOW + 600},
            )
        ):
            seq = number + kind * 100_000
            insert(ledger, "requests", **{**REQUEST, "seq": seq, "fingerprint": b"%d" % seq, **columns})
            insert(ledger, "payloads", seq=seq, body=b"x")


def test_no_query_reads_a_large_table_from_end_to_end(ledger: sqlite3.Connection) -> None:
    """Every named query finds its rows by an index, but for small tables and for what people ask for."""
    scans = {}
    for name, statement in load_queries("sqlite").items():
        query = Query(statement)
        plan = ledger.execute("EXPLAIN QUERY PLAN " + query.sql, query.bind(defaultdict(int))).fetchall()
        steps = [row[3].split() for row in plan if row[3].startswith("SCAN ")]
        scans[name] = {step[1] for step in steps if step[1] in LARGE and step[-1] not in SMALL}
    found = {name: tables for name, tables in scans.items() if tables}

    # The counts read an index and no row. The last two take a bounded part of the lines of a batch.
    assert found == {
        "batch_names": {"batches"},
        "bills": {"i"},
        "count_batched": {"requests"},
        "count_returned": {"requests"},
        "keep_bill": {"i"},
        "learned_ratio": {"i"},
    }


def test_no_query_works_through_the_past(ledger: sqlite3.Connection) -> None:
    """Ten times as many batches that are over, with their requests, lines, and runs, make no query of the gateway slower."""
    settle_past(ledger, range(100, 300))
    before = all_steps(ledger)
    settle_past(ledger, range(300, 2_300))

    assert grown(before, all_steps(ledger)) == READ_ALL


def test_few_queries_work_through_a_batch(ledger: sqlite3.Connection) -> None:
    """Ten times as many requests in a batch, in a window, and on their way back make only those slower that take all of them."""
    fill_batch(ledger, range(1_000, 1_100))
    before = all_steps(ledger)
    fill_batch(ledger, range(1_100, 2_100))

    assert grown(before, all_steps(ledger)) == MOVE_A_BATCH | READ_A_BATCH


def grown(before: Mapping[str, int], after: Mapping[str, int]) -> set[str]:
    """Queries that took far more steps."""
    return {name for name, steps in after.items() if steps > 2 * before[name] + 100} - ONCE


def all_steps(ledger: sqlite3.Connection) -> dict[str, int]:
    """By query: the most it took under the usual parameters, for an account with a name and for one without."""
    return {
        name: max(steps_of(ledger, Query(text), {**USUAL, "account": account}) for account in ("", "acc"))
        for name, text in load_queries("sqlite").items()
    }


def steps_of(ledger: sqlite3.Connection, query: Query, params: Mapping[str, Value]) -> int:
    """What the database takes for one run of a query; nothing that it writes stays."""
    taken = 0

    def count() -> int:
        nonlocal taken
        taken += STEPS
        return 0

    ledger.execute("SAVEPOINT before")
    ledger.set_progress_handler(count, STEPS)
    # What it would write may be there already.
    with suppress(sqlite3.IntegrityError):
        ledger.execute(query.sql, query.bind(defaultdict(int, params))).fetchall()
    ledger.set_progress_handler(None, 0)
    ledger.execute("ROLLBACK TO before")
    ledger.execute("RELEASE before")
    return taken
