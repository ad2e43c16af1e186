"""The ledger: is the file sound, does what it says hold together, and what stands still in it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from gateway.cli.checkup.findings import Finding, Status, lasting, note, ok, problem
from gateway.cli.reading import ReadOnlyDatabase
from gateway.clock import Clock
from gateway.config import Configuration
from gateway.errors import LedgerError
from gateway.records import BatchState
from gateway.run import SAFE_SQLITE
from gateway.store.checks import (
    BatchName,
    batch_names,
    broken_rules,
    check_queries,
    lane_differences,
    last_alive,
    parked_lanes,
    recount_lanes,
    waiting,
)
from gateway.store.lanes import TOKEN_LIMIT
from gateway.store.ledger import Ledger
from gateway.store.migrations import schema_version
from gateway.store.queries import load_queries
from gateway.store.shipping import BatchRow
from gateway.store.sqlite import DIALECT, FILE_NAME, MIGRATIONS
from gateway.store.sqlite_file import refuse_foreign_file, refuse_foreign_tables
from gateway.store.sqlite_session import SqliteSession, connect_reader, connect_writer, errors_translated, prepared

_CACHE_BYTES = 16 << 20
_DAY = 86_400.0
_RESTORE = "stop the gateway, keep the file, put a backup in its place, then batchway reconcile --all"
_OVER = (BatchState.COLLECTED, BatchState.DISSOLVED)
#: Named one by one; of more only the number is said.
_NAMED = 20


@dataclass(slots=True, kw_only=True)
class Reading:
    """What was found in the ledger, and what other checks need of it."""

    findings: list[Finding] = field(default_factory=list)
    #: None: the ledger could not be read so far.
    names: list[BatchName] | None = None
    last_alive: float | None = None
    #: The file is whole, and its rows hold together.
    sound: bool = False
    #: Lanes whose totals are not what their rows say.
    differences: int = 0


def read_ledger(configuration: Configuration, clock: Clock, *, running: bool) -> Reading:
    """Look at everything in the ledger; one fault does not hide another."""
    reading = Reading()
    path = configuration.storage.directory / FILE_NAME
    reading.findings.append(_library())
    if not path.exists():
        reading.findings.append(note("ledger", f"there is no {path}", "the first start makes it"))
        reading.names = []
        return reading
    try:
        with errors_translated():
            _examine(path, reading, clock, running=running)
        if reading.names is not None:
            reading.findings += _standing(configuration, path, clock)
    except (LedgerError, OSError) as error:
        reading.findings.append(problem("ledger", f"{path} cannot be read: {error}", _RESTORE))
    return reading


def known_names(path: Path) -> list[BatchName] | None:
    """What the batches are called by now; None: the ledger cannot be read."""
    if not path.exists():
        return []
    try:
        with errors_translated(), closing(connect_reader(path, cache_bytes=_CACHE_BYTES)) as connection:
            return batch_names(_session(connection))
    except (LedgerError, OSError):
        return None


def recount(path: Path) -> int:
    """Write into every lane what its rows say; how many lanes there are. With the directory locked."""
    with (
        errors_translated(),
        closing(connect_writer(path, durability="full", page_size=8192, cache_bytes=_CACHE_BYTES)) as connection,
    ):
        connection.execute("BEGIN IMMEDIATE")
        count = recount_lanes(_session(connection))
        connection.execute("COMMIT")
        return count


def _library() -> Finding:
    version = sqlite3.sqlite_version
    if tuple(map(int, version.split("."))) < SAFE_SQLITE:
        safe = ".".join(map(str, SAFE_SQLITE))
        return note(
            "sqlite",
            f"version {version}: before {safe} two connections that write at once can damage a file; the gateway has one",
            "let nothing else write to the ledger",
        )
    return ok("sqlite", f"version {version}")


def _session(connection: sqlite3.Connection) -> SqliteSession:
    return SqliteSession(connection, prepared({**load_queries(DIALECT), **check_queries(DIALECT)}))


def _examine(path: Path, reading: Reading, clock: Clock, *, running: bool) -> None:
    refuse_foreign_file(path)
    with closing(connect_reader(path, cache_bytes=_CACHE_BYTES)) as connection:
        refuse_foreign_tables(connection, path)
        reading.findings.append(_integrity(connection, path))
        version = schema_version(connection)
        if version != len(MIGRATIONS):
            reading.findings.append(_other_schema(version))
            return
        reading.findings.append(ok("schema", f"{version}, as this version has it"))
        # One moment for all: beside a running gateway the rows change between two queries.
        connection.execute("BEGIN")
        session = _session(connection)
        reading.findings += _rows(session, reading)
        reading.sound = all(each.status is not Status.PROBLEM for each in reading.findings if each.check != "totals")
        reading.findings += _waiting(session, clock.now(), running=running)
        reading.names, reading.last_alive = batch_names(session), last_alive(session)
        connection.execute("COMMIT")


def _integrity(connection: sqlite3.Connection, path: Path) -> Finding:
    faults = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(5)") if row[0] != "ok"]
    faults += [f"row {row[1]} of {row[0]} has no {row[2]}" for row in connection.execute("PRAGMA foreign_key_check")]
    if faults:
        return problem("ledger", f"{path} is damaged: {'; '.join(faults)[:300]}", _RESTORE)
    return ok("ledger", f"{path} is sound")


def _other_schema(version: int) -> Finding:
    if version > len(MIGRATIONS):
        return problem(
            "schema", f"{version}: a later version of Batchway wrote it", "run that version, or a later one, on it"
        )
    return note(
        "schema",
        f"{version}: an earlier version wrote it, and what is in it is not looked at",
        f"the next start copies it to {FILE_NAME}.before-{version + 1} and takes it to {len(MIGRATIONS)}",
    )


def _rows(session: SqliteSession, reading: Reading) -> Iterator[Finding]:
    broken = broken_rules(session)
    if broken:
        yield problem("rows", "; ".join(broken), f"this should not be: please report it; {_RESTORE}")
    else:
        yield ok("rows", "what they say of each other holds")
    differences = lane_differences(session)
    reading.differences = len(differences)
    for each in differences:
        yield problem(
            "totals",
            f"lane {each.provider}, {each.model}: {each.counted} requests counted, {each.rows} there",
            "batchway doctor --repair counts them again, while the gateway is stopped",
        )
    if not differences:
        yield ok("totals", "the lanes' counts are those of their rows")


def _waiting(session: SqliteSession, now: float, *, running: bool) -> Iterator[Finding]:
    count, oldest = waiting(session)
    said = f"{count} requests wait to be sent"
    if oldest is not None:
        said += f", the oldest for {lasting(now - oldest)}"
    if count and not running:
        yield note("requests", said, "start the gateway: batchway serve")
    else:
        yield ok("requests", said)
    for lane in parked_lanes(session):
        said = f"{lane.provider}, {lane.model}: {lane.waiting} requests wait: {lane.reason}"
        again = f"it is tried again in {lasting(lane.retry_at - now)}"
        if lane.reason == TOKEN_LIMIT:
            yield note("lane", said, f"{again}, or when one of its batches ends")
        elif lane.waiting:
            yield problem("lane", said, f"mend that; {again}")


def _standing(configuration: Configuration, path: Path, clock: Clock) -> list[Finding]:
    """Open batches: those that are on their way, and each that stands still."""
    ledger = Ledger(ReadOnlyDatabase(path), clock)
    states = [state for state in BatchState if state not in _OVER]
    batches: Sequence[BatchRow] = asyncio.run(ledger.batches.listed(states, 100_000))
    quarantine = configuration.retries.quarantine_seconds
    judged = [(batch, _judged(batch, clock.now(), quarantine)) for batch in batches]
    findings = [finding for _, finding in judged if finding is not None]
    rest = len(batches) - len(findings)
    if len(findings) > _NAMED:
        more = len(findings) - _NAMED
        findings = [*findings[:_NAMED], problem("batch", f"{more} more stand still", "batchway batches --open")]
    return [ok("batches", f"{rest} of {len(batches)} open batches are on their way"), *findings]


def _judged(batch: BatchRow, now: float, quarantine: float) -> Finding | None:
    """What stands in the way of a batch; None: nothing."""
    name = f"batch {batch.id} ({batch.lane.provider}, {batch.lane.model}, {batch.count} requests)"
    again = f"it is tried again in {lasting(batch.retry_at - now)}"
    doubtful = batch.state is BatchState.RECONCILING
    if doubtful or batch.state is BatchState.SUBMITTING:
        since = now - (batch.last_sent_at or batch.sealed_at)
        said = f"{name}: whether the provider has it is not known for {lasting(since)}"
        why = f" ({batch.parked_reason})" if batch.parked_reason else ""
        if since < 2 * quarantine:
            return note("batch", said + why, "the gateway finds out: it lists what is there, twice, a quarantine apart")
        return problem("batch", said + why, f"see that the provider can be reached with this key; {again}")
    if batch.parked_reason is not None:
        parked = (
            "since before the upgrade" if batch.parked_since is None else f"for {lasting(now - batch.parked_since)}"
        )
        return problem("batch", f"{name} is parked {parked}: {batch.parked_reason}", f"mend that; {again}")
    age = now - (batch.submitted_at or now)
    if batch.state is BatchState.SUBMITTED and age > 2 * _DAY:
        return note(
            "batch", f"{name} has been with the provider for {lasting(age)}", "it is cancelled when it is overdue"
        )
    return None
