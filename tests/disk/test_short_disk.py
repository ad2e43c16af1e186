"""The disk gets short under a running gateway: what is refused, what goes on, and that all goes on when there is room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.candidates import weigh
from gateway.pipeline.submitter import Submitter
from gateway.records import BatchState, RemoteBatch, RemoteState, RequestState
from gateway.sandbox import Fault, FaultKind, Operation, SandboxSettings
from gateway.store.database import Database
from gateway.store.shipping import BatchRow
from gateway.store.sqlite import SqliteDatabase
from tests.integration.house import House, open_house
from tests.integration.test_cache import forget
from tests.unit.pipeline.rig import claimed, open_rig, sealed
from tests.unit.pipeline.single import open_shop
from tests.unit.pipeline.test_collector import Case, open_case, rows

#: Long enough for a few polls.
SLOW = SandboxSettings(validating_seconds=0.0, running_seconds=1.2, finalizing_seconds=0.0)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A gateway in front of a simulator."""
    async with open_house(tmp_path, SLOW) as house:
        yield house


def shorten(house: House, least: int = 1 << 60) -> None:
    """From now on the gateway wants more free space than any disk has; 0: there is room again."""
    shorten_database(house.gateway.ledger.database, least)


def shorten_database(database: Database, least: int = 1 << 60) -> None:
    """As `shorten`."""
    assert isinstance(database, SqliteDatabase)
    database._disk._min_free_bytes = least


async def batch_in(house: House, *states: BatchState) -> BatchRow:
    """The newest batch, once it is in one of these states."""
    found: list[BatchRow] = []

    async def there() -> bool:
        found[:] = await house.gateway.ledger.batches.listed(states)
        return bool(found)

    await house.until(there)
    return found[0]


async def calls(house: House, operation: str) -> int:
    """How many calls of it the simulator has seen."""
    return (await house.simulator.submissions()).calls.get(operation, 0)


async def test_new_work_is_refused_and_stored_answers_are_not(house: House) -> None:
    """A new question gets 503 with a hint; whatever is finished is served to any call and by name, out of the ledger or cache."""
    remembered = await house.ask("only the cache knows this")
    await forget(house)
    known = await house.ask("known")
    named = await house.ask("named", headers={"x-batchway-custom-id": "name"})
    shorten(house)

    refused = [
        await house.ask("new"),
        await house.ask("new and named", headers={"x-batchway-custom-id": "new"}),
        await house.ask("new and detached", headers={"prefer": "respond-async"}),
        await house.ask("new in a run", run="/run/one"),
    ]
    lines = await house.lines()
    again = [
        await house.ask("only the cache knows this"),
        await house.ask("known"),
        await house.ask("named", headers={"x-batchway-custom-id": "name"}),
    ]
    result = await house.http.get("/v1/results/name")

    assert {(each.status, each.code) for each in refused} == {(503, "storage_full")}
    assert all(0 < int(each.headers["retry-after"]) <= 60 for each in refused)
    assert [each.body for each in again] == [remembered.body, known.body, named.body]
    assert (result.status_code, result.json()) == (200, named.body)
    assert await house.lines() == lines


async def test_it_is_said_where_operators_look(house: House) -> None:
    """Readiness and a metric say so at once, the log once; and when there is room again, likewise."""
    with capture_logs() as logs:
        shorten(house)
        full = [await house.http.get(path) for path in ("/readyz", "/metrics")]
        await house.until(lambda: said(logs, "storage_full"))
        shorten(house, 0)
        room = [await house.http.get(path) for path in ("/readyz", "/metrics")]
        await house.until(lambda: said(logs, "storage_has_room"))

    assert (full[0].status_code, full[0].json()["status"]) == (503, "unavailable")
    assert "disk" in full[0].json()["faults"][0]
    assert "batchway_storage_full 1.0" in full[1].text
    assert room[0].status_code == 200
    assert "batchway_storage_full 0.0" in room[1].text
    assert [log["event"] for log in logs if log.get("room") == "upkeep"] == ["storage_full", "storage_has_room"]


async def said(logs: Sequence[Mapping[str, object]], event: str) -> bool:
    """Whether the log has it."""
    return event in {log["event"] for log in logs}


async def test_nothing_is_sealed_until_there_is_room(house: House) -> None:
    """What is queued stays queued, and leaves by itself when there is room."""
    asked = asyncio.ensure_future(house.ask("patience"))
    await house.until(lambda: queued(house))
    shorten(house)
    house.gateway.batcher.flush()
    for _ in range(3):
        house.clock.jump(60)
        await house.gateway.batcher.tick()
    sealed = await house.gateway.ledger.batches.listed()
    shorten(house, 0)
    answered = await asked

    assert sealed == []
    assert "patience" in answered.text


async def queued(house: House) -> bool:
    """Whether a request has been recorded."""
    return bool(await house.gateway.ledger.requests.listed(None))


async def test_polls_are_kept_in_memory_and_nothing_is_fetched(house: House) -> None:
    """A batch is asked for without a write; its end is written; its results stay at the provider until there is room."""
    asked = asyncio.ensure_future(house.ask("far away"))
    await batch_in(house, BatchState.SUBMITTED)
    shorten(house)
    await let_go(house)
    before = await batch_in(house, BatchState.SUBMITTED)
    await polls(house, 3)
    during = await house.gateway.ledger.batches.get(before.id)
    await batch_in(house, BatchState.ENDED)
    await house.gateway.ledger.database.write(lambda _: None)
    await asyncio.sleep(0.1)
    fetched = await calls(house, "fetch")
    spool = list((house.gateway.configuration.storage.directory / "spool").glob("*.rows*"))
    shorten(house, 0)
    answered = await asked

    assert during == before
    assert (fetched, spool) == (0, [])
    assert "far away" in answered.text


async def let_go(house: House) -> None:
    """Return when nobody works on a batch: the poll that was under way when the disk got short is written down."""

    async def free() -> bool:
        with house.gateway.ledger.database.reader() as session:
            owned = session._connection.execute("SELECT 1 FROM batches WHERE owner IS NOT NULL")  # type: ignore[attr-defined]
            return owned.fetchone() is None

    await house.until(free)


async def polls(house: House, more: int) -> None:
    """Return when the provider has been asked so many times more."""
    seen = await calls(house, "poll")

    async def asked() -> bool:
        return await calls(house, "poll") >= seen + more

    await house.until(asked)


async def test_a_batch_that_is_refused_on_a_short_disk_is_told(house: House) -> None:
    """What a poll in memory learns is acted upon: a batch that failed at the provider lets its requests go."""
    house.simulator.faults.order(Fault(operation=Operation.CREATE, kind=FaultKind.REFUSED))
    asked = asyncio.ensure_future(house.ask("refused"))
    await batch_in(house, BatchState.SUBMITTED, BatchState.DISSOLVED)
    shorten(house)
    await batch_in(house, BatchState.DISSOLVED)
    shorten(house, 0)
    answered = await asked

    assert answered.status in {200, 400}


async def test_what_was_fetched_is_settled(tmp_path: Path) -> None:
    """Results that are on the disk already go to their callers, however short it is; they make room by it."""

    def downloads(case: Case) -> list[bytes | Exception]:
        return [rows(case, 0, 1)]

    async with open_case(tmp_path, 2, downloads) as case:
        batch = await claimed(case.rig)
        batch = await case.rig.ledger.batches.fetching(batch)
        case.rig.upstream.spool.rows(case.marker).parent.mkdir(exist_ok=True)
        case.rig.upstream.spool.rows(case.marker).write_bytes(rows(case, 0, 1))
        batch = await case.rig.ledger.batches.fetched(batch)
        await case.rig.ledger.batches.release(batch, retry_at=0.0)
        shorten_database(case.rig.ledger.database)
        begun = await case.collector.tick()
        await case.rig.ledger.database.write(lambda _: None)
        states = await settled_states(case)

    assert begun == 1
    assert states == [RequestState.SUCCEEDED] * 2


async def settled_states(case: Case) -> list[RequestState]:
    """Of all requests, once they have ended."""
    async with asyncio.timeout(10):
        while not all(state.ended for state in await case.rig.states()):
            await asyncio.sleep(0.01)
    return await case.rig.states()


async def test_results_are_not_fetched_to_a_short_disk(tmp_path: Path) -> None:
    """A claimed batch whose results are not here, or here no more, waits."""
    async with open_case(tmp_path, 1, lambda case: [rows(case, 0)]) as case:
        shorten_database(case.rig.ledger.database)
        begun = await case.collector.tick()
        after = await case.collect()
        left = list(case.files.downloads)

    assert (begun, after.state, len(left)) == (0, BatchState.ENDED, 1)


async def test_a_sealed_batch_waits_for_room(tmp_path: Path) -> None:
    """No spool is written to a short disk, and nothing is created; then it leaves as it would have."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a", "b")
        await rig.ledger.batches.release(batch, retry_at=0.0)
        submitter = Submitter(rig.upstream, rig.waiters, rig.tasks, submitted=asyncio.Event(), doubted=asyncio.Event())
        shorten_database(rig.ledger.database)
        begun = await submitter.tick(), list((tmp_path / "spool").glob("*"))
        shorten_database(rig.ledger.database, 0)
        then = await submitter.tick()

    assert begun == (0, [])
    assert then == 1


async def test_no_results_are_read_to_prove_a_candidate(tmp_path: Path) -> None:
    """Whose a remote batch is, is found out later: its results would have to be fetched."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a")
        side = await rig.upstream.side(batch)
        assert side is not None
        shorten_database(rig.ledger.database)
        remote = RemoteBatch(remote_id="r", state=RemoteState.ENDED, total=1, done=1)
        weighed = await weigh(rig.upstream, batch, side, [remote])

    assert (weighed.ours, weighed.open) == ((), (remote,))
    assert "disk" in str(weighed.unread)
    assert rig.remote.calls["fetch"] == 0


async def test_nobody_is_asked_one_by_one(tmp_path: Path) -> None:
    """Where the provider has no batches nothing is asked either, until there is room."""
    async with open_shop(tmp_path) as shop:
        await shop.queue("a")
        shorten_database(shop.rig.ledger.database)
        await shop.finish()
        short = list(shop.server.asked)
        shorten_database(shop.rig.ledger.database, 0)
        await shop.finish()

    assert (short, shop.server.asked) == ([], ["a"])
