"""A restored ledger is older than what was sent: every open batch is looked for first, and what nobody knows is shown."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.cli.orphans import look_back, orphans
from gateway.cli.restoring import Listing, Outcome, Restorer
from gateway.clock import as_datetime
from gateway.config import Polling, ProviderTable, Retries
from gateway.errors import Retryable
from gateway.pipeline.reconciler import Reconciler
from gateway.pipeline.submitter import Submitter
from gateway.records import BatchState, RemoteBatch, RemoteState, new_marker
from gateway.store.checks import BatchName
from gateway.store.lock import DirectoryLock
from gateway.store.shipping import BatchRow, Cut
from gateway.store.sqlite import SqliteDatabase
from gateway.testing import FakeClock, FakeProvider, FakeRemote
from tests.unit.pipeline.rig import Rig, open_rig

DAY = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Site:
    """A gateway's stages on the ledger in `directory`, before a provider that remembers everything."""

    rig: Rig
    remote: FakeRemote
    restorer: Restorer
    submitter: Submitter
    reconciler: Reconciler

    async def seal(self, *texts: str) -> BatchRow:
        """Ask, and seal what waits."""
        await self.rig.admit(*texts, provider="sim")
        return await self.seal_waiting()

    async def seal_waiting(self) -> BatchRow:
        """Seal what waits."""
        [window] = await self.rig.ledger.lanes.windows()
        home = self.rig.router.providers["sim"].home
        batch = await self.rig.ledger.batches.seal(window.lane_id, Cut(), new_marker(), "", home, self.rig.clock.now())
        assert batch is not None
        return batch

    async def send(self, batch: BatchRow) -> None:
        """One go of the submitter."""
        claimed = await self.rig.ledger.batches.claim_one(batch.id)
        assert claimed is not None
        await self.submitter.submit(claimed)

    async def look(self) -> list[Outcome]:
        """Look for every open batch."""
        return [await self.restorer.look(batch) for batch in await self.restorer.open_batches()]

    async def list_orphans(self, days: float | None = None) -> Listing:
        """What the provider has that the ledger does not know."""
        return await self.restorer.list_orphans(self.rig.router.providers["sim"], 30.0, days)

    async def run(self) -> None:
        """What a gateway does next with open batches, until the quarantine is long over."""
        for _ in range(30):
            await self.submitter.tick()
            await self.reconciler.tick()
            while self.rig.tasks.names():
                await asyncio.sleep(0.001)
            await self.rig.clock.advance(61)


@asynccontextmanager
async def open_site(directory: Path, remote: FakeRemote, clock: FakeClock) -> AsyncIterator[Site]:
    """Open the ledger in `directory`; closed like a gateway that was stopped."""
    settings = {"api_key": "fake-key", "remote": remote}
    tables = {"sim": ProviderTable(name="sim", kind="fake", settings=settings)}
    async with open_rig(directory, tables=tables, clock=clock) as rig:
        events = [asyncio.Event() for _ in range(2)]
        yield Site(
            rig=rig,
            remote=remote,
            restorer=Restorer(rig.upstream, rig.waiters, rig.retries, Polling(), rig.tasks),
            submitter=Submitter(rig.upstream, rig.waiters, rig.tasks, submitted=events[0], doubted=events[1]),
            reconciler=Reconciler(
                rig.upstream, rig.waiters, rig.retries, rig.tasks, doubted=events[1], submitted=events[0]
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Past:
    """What a backup holds, and what happened after it was made."""

    name: str
    before: Callable[[Site], Awaitable[None]]
    after: Callable[[Site], Awaitable[None]]


async def _nothing(site: Site) -> None:
    """Nobody did anything."""


async def _sealed(site: Site) -> None:
    await site.seal("one", "two")


async def _intended(site: Site) -> None:
    batch = await site.rig.ledger.batches.claim_one((await site.seal("one", "two")).id)
    assert batch is not None
    await site.rig.ledger.batches.intend(batch, site.rig.clock.now())


async def _sent(site: Site) -> None:
    [batch] = await site.restorer.open_batches()
    await site.send(batch)


async def _submitted(site: Site) -> None:
    await _sealed(site)
    await _sent(site)


async def _found(site: Site) -> None:
    """The process that was killed had sent it; its next start found that out."""
    [batch] = await site.restorer.open_batches()
    view = site.rig.upstream.view(batch)
    plugin = site.rig.router.providers["sim"].instance
    assert isinstance(plugin, FakeProvider)
    site.remote.files["sent"] = b'{"custom_id":"%b-0","body":{"messages":[]}}\n' % batch.marker.encode()
    await plugin.submit(replace(view, file_id="sent"))


PASTS = (
    Past(name="sealed, sent since", before=_sealed, after=_sent),
    Past(name="being sent, arrived since", before=_intended, after=_found),
    Past(name="sent before", before=_submitted, after=_nothing),
)


async def restored(past: Past, tmp_path: Path, remote: FakeRemote, clock: FakeClock) -> Path:
    """The directory of a gateway whose ledger was lost, and put back from a backup of yesterday."""
    async with open_site(tmp_path / "house", remote, clock) as site:
        await past.before(site)
    shutil.copytree(tmp_path / "house", tmp_path / "backup")
    async with open_site(tmp_path / "house", remote, clock) as site:
        await past.after(site)
    await clock.advance(DAY)
    return tmp_path / "backup"


@pytest.fixture
def clock() -> FakeClock:
    """Time that stands still."""
    return FakeClock()


@pytest.fixture
def remote(clock: FakeClock) -> FakeRemote:
    """A provider whose batches take two days."""
    return FakeRemote(clock=clock, turnaround_seconds=2 * DAY)


@pytest.mark.parametrize("past", PASTS, ids=lambda past: past.name)
async def test_what_was_sent_after_the_backup_is_taken_up(
    past: Past, tmp_path: Path, remote: FakeRemote, clock: FakeClock
) -> None:
    """Whatever the ledger believes of a batch, it is found at the provider, and the gateway does not send it again."""
    directory = await restored(past, tmp_path, remote, clock)
    async with open_site(directory, remote, clock) as site:
        [outcome] = await site.look()
        orphans = (await site.list_orphans()).orphans
        await site.run()
        [batch] = await site.restorer.open_batches()

    assert (outcome.batch.state, outcome.batch.remote_id, outcome.left) == (BatchState.SUBMITTED, "fake-1", False)
    assert "fake-1" in outcome.said
    # The provider's list is read back to then: not only to the moment at which the operator looks.
    assert (outcome.batch.first_sent_at or clock.now()) <= remote.batches["fake-1"].created
    assert orphans == ()
    assert (batch.state, len(remote.batches)) == (BatchState.SUBMITTED, 1)


async def test_without_looking_the_batch_would_be_paid_twice(
    tmp_path: Path, remote: FakeRemote, clock: FakeClock
) -> None:
    """The test of the test: a gateway that starts on the restored ledger at once sends the sealed batch once more."""
    directory = await restored(PASTS[0], tmp_path, remote, clock)
    async with open_site(directory, remote, clock) as site:
        await site.run()

    assert len(remote.batches) == 2


async def test_what_was_not_sent_is_sent_once_after_the_quarantine(
    tmp_path: Path, remote: FakeRemote, clock: FakeClock
) -> None:
    """A batch that nobody sent stays in doubt, is looked for again by the gateway, and goes out once."""
    past = Past(name="sealed, nothing since", before=_sealed, after=_nothing)
    directory = await restored(past, tmp_path, remote, clock)
    async with open_site(directory, remote, clock) as site:
        [outcome] = await site.look()
        sent_by_the_command = len(remote.batches)
        await site.run()
        [batch] = await site.restorer.open_batches()

    assert (outcome.before, outcome.batch.state) == (BatchState.SEALED, BatchState.RECONCILING)
    assert ("not there yet" in outcome.said, outcome.left) == (True, False)
    assert (sent_by_the_command, len(remote.batches), batch.state) == (0, 1, BatchState.SUBMITTED)


async def test_where_doubt_is_to_fail_the_operator_is_told(
    tmp_path: Path, remote: FakeRemote, clock: FakeClock
) -> None:
    """With `ambiguous = "fail"` what stays away is not sent: its requests fail, and nobody may read anything else."""
    retries = Retries(ambiguous="fail")
    async with open_site(tmp_path, remote, clock) as site:
        await site.seal("one")
        rig = site.rig
        restorer = Restorer(rig.upstream, rig.waiters, retries, Polling(), rig.tasks)
        [batch] = await restorer.open_batches()
        outcome = await restorer.look(batch)

    assert outcome.batch.state is BatchState.RECONCILING
    assert "fails its requests" in outcome.said
    assert "sends it" not in outcome.said


async def test_a_batch_that_no_ledger_knows_is_shown_and_stopped(
    tmp_path: Path, remote: FakeRemote, clock: FakeClock
) -> None:
    """Requests that the backup holds for queued were sealed and sent since: that batch is an orphan, and can be stopped."""

    async def ask(site: Site) -> None:
        await site.rig.admit("one", "two", provider="sim")

    async def seal_and_send(site: Site) -> None:
        await site.send(await site.seal_waiting())

    directory = await restored(Past(name="", before=ask, after=seal_and_send), tmp_path, remote, clock)
    async with open_site(directory, remote, clock) as site:
        outcomes = await site.look()
        [orphan] = (await site.list_orphans()).orphans
        trouble = await site.restorer.cancel(orphan)
        [after] = (await site.list_orphans()).orphans

    assert outcomes == []
    assert (orphan.remote.remote_id, orphan.remote.total, orphan.certain, orphan.copy_of) == ("fake-1", 2, True, None)
    assert (orphan.running, trouble, after.running) == (True, None, False)


async def test_a_second_batch_of_one_marker_is_shown_as_a_copy(
    tmp_path: Path, remote: FakeRemote, clock: FakeClock
) -> None:
    """The remote batch that the ledger knows is none; the other one says whose copy it is."""
    async with open_site(tmp_path, remote, clock) as site:
        await _submitted(site)
        [batch] = await site.restorer.open_batches()
        plugin = await site.rig.router.providers["sim"].ready()
        assert plugin is not None
        await plugin.submit(site.rig.upstream.view(batch))
        [orphan] = (await site.list_orphans()).orphans

    assert (orphan.remote.remote_id, orphan.copy_of) == ("fake-2", batch.id)


@pytest.mark.parametrize("state", BatchState)
@pytest.mark.parametrize("remote_id", [None, "an-earlier-one"])
def test_a_marker_of_ours_is_an_orphans_only_where_the_gateway_does_not_look(
    state: BatchState, remote_id: str | None
) -> None:
    """What may still be taken up for a batch is never stopped; what runs for one that was given up is seen."""
    name = BatchName(id=7, marker="m", remote_id=remote_id, state=state, discarded=False)
    remote = RemoteBatch(remote_id="r", state=RemoteState.RUNNING, marker="m")
    looked_for = {BatchState.SEALED, BatchState.SUBMITTING, BatchState.RECONCILING}

    assert [orphan.copy_of for orphan in orphans("sim", [remote], [name])] == ([] if state in looked_for else [7])


def test_what_a_refused_batch_left_over_is_no_orphan() -> None:
    """The provider keeps what it refused: nothing of it runs, or was paid."""
    name = BatchName(id=7, marker="m", remote_id=None, state=BatchState.DISSOLVED, discarded=True)

    assert orphans("sim", [RemoteBatch(remote_id="r", state=RemoteState.REFUSED, marker="m")], [name]) == []


async def test_what_cannot_be_looked_for_is_left_to_the_operator(
    tmp_path: Path, remote: FakeRemote, clock: FakeClock
) -> None:
    """A provider that does not answer: the batch stays in doubt, never sealed, and the command says so."""
    async with open_site(tmp_path, remote, clock) as site:
        await _sealed(site)
        remote.before["find"].append(Retryable("no route to host"))
        remote.before["list_ours"].append(Retryable("no route to host"))
        [outcome] = await site.look()
        listing = await site.list_orphans()

    assert (outcome.batch.state, outcome.left) == (BatchState.RECONCILING, True)
    assert "no route to host" in outcome.said
    assert (listing.reason, listing.unable) == ("Retryable: no route to host", False)


async def test_a_batch_that_has_ended_is_left_to_the_gateway(
    tmp_path: Path, remote: FakeRemote, clock: FakeClock
) -> None:
    """What is over at its provider is seen to be over; its results are fetched by the gateway, from where it is."""
    async with open_site(tmp_path, remote, clock) as site:
        await _submitted(site)
        await clock.advance(3 * DAY)
        [seen] = await site.look()
        [again] = await site.look()

    assert [each.batch.state for each in (seen, again)] == [BatchState.ENDED] * 2
    assert again.batch.epoch == seen.batch.epoch
    assert seen.batch.remote_state is RemoteState.ENDED


def test_lists_are_read_as_far_back_as_the_ledger_calls_for() -> None:
    """A week; or a day before the ledger was last written; or as the operator says; never beyond what it remembers."""
    now = as_datetime(1_800_000_000.0)
    stamp = now.timestamp()

    assert look_back(stamp, None, 30.0, None) == now - timedelta(days=7)
    assert look_back(stamp, stamp - 10 * DAY, 30.0, None) == now - timedelta(days=11)
    assert look_back(stamp, stamp - 10 * DAY, 30.0, 2.0) == now - timedelta(days=2)
    assert look_back(stamp, stamp - 90 * DAY, 30.0, None) == now - timedelta(days=30)


def run(directory: Path, *arguments: str) -> tuple[int, str, str]:
    """`batchway reconcile` with a simulated provider."""
    config = directory / "config.toml"
    config.write_text(
        f'[storage]\ndirectory = "{directory / "data"}"\n[providers.openai]\nkind = "openai"\nsandbox = true\n',
        encoding="utf-8",
    )
    done = CliRunner().invoke(main, ["reconcile", "--config", str(config), *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_a_running_gateway_is_left_alone(tmp_path: Path) -> None:
    """While somebody holds the directory nothing is looked for, and it is said who does."""
    asyncio.run(SqliteDatabase.open(tmp_path / "data").close())
    with DirectoryLock.acquire(tmp_path / "data"):
        status, stdout, stderr = run(tmp_path, "--all")

    assert (status, stdout) == (1, "")
    assert "in use by process" in stderr
    assert "looks for its batches by itself" in stderr


def test_an_empty_ledger_has_nothing_to_look_for(tmp_path: Path) -> None:
    """Success, in words and as JSON; the directory is free afterwards."""
    asyncio.run(SqliteDatabase.open(tmp_path / "data").close())
    status, stdout, _ = run(tmp_path, "--all")
    again = run(tmp_path, "--all", "--json")

    assert (status, stdout) == (0, "no open batch\nthe providers have nothing that the ledger does not know of\n")
    assert (again[0], json.loads(again[1])) == (0, [])
    DirectoryLock.acquire(tmp_path / "data", wait_seconds=0).release()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "name batches"),
        (["--all", "7"], "leave out the numbers"),
        (["7", "--cancel-orphans"], "go with --all"),
        (["7"], "no open batch has the number 7"),
    ],
)
def test_a_wrong_wish_is_refused(words: list[str], says: str, tmp_path: Path) -> None:
    """What cannot be meant is said, and nothing is done."""
    asyncio.run(SqliteDatabase.open(tmp_path / "data").close())
    status, stdout, stderr = run(tmp_path, *words)

    assert status
    assert stdout == ""
    assert says in stderr


def test_without_a_ledger_there_is_nothing_to_restore(tmp_path: Path) -> None:
    """No ledger is made by looking for one."""
    status, _, stderr = run(tmp_path, "--all")

    assert status == 1
    assert "put the backup there first" in stderr
    assert not (tmp_path / "data").exists()
