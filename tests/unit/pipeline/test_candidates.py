"""A provider without a place for a marker: what may be ours is held, proven by its lines, and never sent twice."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest

from gateway.config import Cache as CacheSettings
from gateway.config import Polling, Retries
from gateway.errors import Missing, Retryable
from gateway.pipeline.collector import Collector
from gateway.pipeline.poller import Poller
from gateway.records import Batch, BatchState, RemoteBatch, RequestState, Result
from gateway.store.cache import Cache
from gateway.store.shipping import BatchRow
from gateway.testing import FakeBatch, FakeProvider
from tests.unit.pipeline.rig import Rig, claimed, open_rig, sealed
from tests.unit.pipeline.stages import doubted, look, reconciler_of, submitter_of


class UnmarkedProvider(FakeProvider):
    """Its list shows when a batch was made and how many lines it has, and nothing of ours."""

    marked = False
    #: While it is not set, creates take their time.
    gate: ClassVar[asyncio.Event]

    async def submit(self, batch: Batch) -> RemoteBatch:
        """Create the batch, once the gate is open."""
        created = await super().submit(batch)
        await self.gate.wait()
        return created

    async def find(self, batch: Batch) -> list[RemoteBatch]:
        """Every batch of the right time and total, oldest first."""
        self.remote.enter("find")
        since = batch.first_sent - timedelta(hours=1) if batch.first_sent is not None else None
        seen = [self._seen(each) for each in self.remote.batches.values()]
        return [
            remote
            for remote in seen
            if remote.total == batch.count
            and (since is None or (remote.created is not None and remote.created >= since))
        ]


@pytest.fixture(autouse=True)
def open_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Creates go through at once unless a test closes the gate."""
    gate = asyncio.Event()
    gate.set()
    monkeypatch.setattr(UnmarkedProvider, "gate", gate, raising=False)


def stranger(rig: Rig, remote_id: str, lines: int, turnaround_seconds: float = 60.0) -> FakeBatch:
    """A batch that somebody else made on the account, with as many lines as ours."""
    now = rig.clock.now()
    rig.remote.batches[remote_id] = FakeBatch(
        remote_id=remote_id,
        marker="z" * 20,
        model="m",
        lines=[b'{"custom_id":"theirs-%d","body":{"messages":[{"content":"x"}]}}' % n for n in range(lines)],
        created=now,
        due=now + turnaround_seconds,
    )
    return rig.remote.batches[remote_id]


async def test_a_candidate_is_held_until_it_ends_and_then_proven(tmp_path: Path) -> None:
    """A lost response: the one batch that may be ours is waited for, however long, and taken when its lines are ours."""
    async with open_rig(tmp_path, plugin=UnmarkedProvider) as rig:
        rig.remote.turnaround_seconds = 10_000
        await doubted(rig, "a", "b", created=True)
        reconciler = reconciler_of(rig)
        for _ in range(3):
            held = await look(rig, reconciler, 1_000)
            assert (held.state, held.submissions) == (BatchState.RECONCILING, 1)
            assert "may be this one" in (held.parked_reason or "")
        taken = await look(rig, reconciler, 10_000)
        assert (taken.state, taken.remote_id) == (BatchState.SUBMITTED, "fake-1")
        assert rig.remote.duplicates() == {}


async def test_a_strangers_batch_is_told_by_its_lines(tmp_path: Path) -> None:
    """A batch of the same time and total that is not ours delays us until it ends, and is never taken, stopped or read twice."""
    async with open_rig(tmp_path, plugin=UnmarkedProvider) as rig:
        await doubted(rig, "a", "b", created=False)
        theirs = stranger(rig, "fake-theirs", lines=2)
        reconciler = reconciler_of(rig)
        assert (await look(rig, reconciler, 0)).state is BatchState.RECONCILING
        assert (await look(rig, reconciler, 100)).state is BatchState.RECONCILING
        assert (await look(rig, reconciler, 100)).state is BatchState.RECONCILING
        again = await look(rig, reconciler, 1_000)
        assert again.state is BatchState.SEALED
        assert rig.remote.calls["fetch"] == 1
        assert not theirs.cancelled


async def test_of_two_candidates_the_proven_one_is_taken(tmp_path: Path) -> None:
    """Ours stands beside a stranger's of the same total: each is told by its lines, whichever is older."""
    async with open_rig(tmp_path, plugin=UnmarkedProvider) as rig:
        stranger(rig, "fake-theirs", lines=2, turnaround_seconds=5_000)
        await doubted(rig, "a", "b", created=True)
        taken = await look(rig, reconciler_of(rig), 100)
        assert (taken.state, taken.remote_id) == (BatchState.SUBMITTED, "fake-2")


async def test_a_row_of_nobody_disproves_nothing(tmp_path: Path) -> None:
    """A row that belongs to no line, whatever the order of the rows, does not hide that the others are ours."""

    class StrayProvider(UnmarkedProvider):
        async def fetch(self, remote: RemoteBatch, to: Path) -> None:
            """Another's row, then ours."""
            await super().fetch(remote, to)
            rows = to.read_bytes()
            stray = rows.splitlines(keepends=True)[0].replace(b'"custom_id":"', b'"custom_id":"not-')
            to.write_bytes(stray + rows)

    async with open_rig(tmp_path, plugin=StrayProvider) as rig:
        await doubted(rig, "a", "b", created=True)
        taken = await look(rig, reconciler_of(rig), 100)
        assert (taken.state, taken.remote_id) == (BatchState.SUBMITTED, "fake-1")


async def test_a_batch_known_to_be_another_of_ours_is_no_candidate(tmp_path: Path) -> None:
    """Remote batches that belong to other batches of ours are left out: the lost one is sent again after the quarantine."""
    async with open_rig(tmp_path, plugin=UnmarkedProvider) as rig:
        first = await sealed(rig, "a", "b")
        await rig.upstream.guard(first, submitter_of(rig).submit(first))
        assert (await rig.batch()).state is BatchState.SUBMITTED
        await doubted(rig, "c", "d", created=False)
        reconciler = reconciler_of(rig)
        await look(rig, reconciler, 0)
        await look(rig, reconciler, 1_000)
        assert (await rig.batches())[1].state is BatchState.SEALED
        assert rig.remote.calls["fetch"] == 0


async def test_results_that_cannot_be_read_prove_nothing(tmp_path: Path) -> None:
    """A candidate that ended and whose results are gone is held: neither taken, nor sent again."""
    async with open_rig(tmp_path, plugin=UnmarkedProvider) as rig:
        await doubted(rig, "a", "b", created=True)
        rig.remote.before["fetch"].extend([Missing("archived")] * 5)
        reconciler = reconciler_of(rig)
        for _ in range(4):
            held = await look(rig, reconciler, 1_000)
            assert held.state is BatchState.RECONCILING
        assert rig.remote.duplicates() == {}


async def test_a_plugin_that_fetches_no_file_is_at_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fetch that returns and has written nothing is a bug in the plugin, counted and named as the reason; the disk is not."""
    async with open_rig(tmp_path, plugin=UnmarkedProvider) as rig:
        await doubted(rig, "a", created=True)

        async def nothing(*_: object) -> None:
            """Like a function without its last line."""

        monkeypatch.setattr(UnmarkedProvider, "fetch", nothing)
        after = await look(rig, reconciler_of(rig), 100)
        assert (after.state, after.parked_reason) == (
            BatchState.RECONCILING,
            "plugin of kind 'fake' wrote no file in fetch",
        )
        assert b'plugin_faults_total{provider="fake"} 1.0' in rig.metrics.render()


async def test_a_fetch_that_fails_is_tried_again(tmp_path: Path) -> None:
    """A proof that was cut off is no proof either way: it is read again."""
    async with open_rig(tmp_path, plugin=UnmarkedProvider) as rig:
        await doubted(rig, "a", "b", created=True)
        rig.remote.before["fetch"].append(Retryable("cut"))
        reconciler = reconciler_of(rig)
        assert (await look(rig, reconciler, 100)).state is BatchState.RECONCILING
        assert (await look(rig, reconciler, 400)).state is BatchState.SUBMITTED


@pytest.mark.parametrize("ambiguous", ["resubmit", "fail"])
async def test_no_wish_about_doubt_overrules_a_candidate(ambiguous: str, tmp_path: Path) -> None:
    """`ambiguous` says what to do when nothing is found; with a candidate at the provider it would pay twice."""
    retries = Retries(ambiguous=ambiguous)
    async with open_rig(tmp_path, retries=retries, plugin=UnmarkedProvider) as rig:
        rig.remote.turnaround_seconds = 5_000
        await doubted(rig, "a", "b", created=True)
        reconciler = reconciler_of(rig)
        await look(rig, reconciler, 0)
        assert (await look(rig, reconciler, 1_000)).state is BatchState.RECONCILING
        assert await rig.states() == [RequestState.BATCHED, RequestState.BATCHED]


async def test_a_plugin_that_fails_on_a_row_is_named(tmp_path: Path) -> None:
    """A bug in `decode` met while a candidate is proven is the plugin's fault, in log and metrics, and the batch is held."""

    class Broken(UnmarkedProvider):
        def decode(self, row: bytes) -> Result:
            raise ValueError("no such thing")

    async with open_rig(tmp_path, plugin=Broken) as rig:
        await doubted(rig, "a", "b", created=True)
        held = await look(rig, reconciler_of(rig), 100)

        assert held.state is BatchState.RECONCILING
        assert "raised ValueError in decode" in (held.parked_reason or "")
        assert b'plugin_faults_total{provider="fake"} 1.0' in rig.metrics.render()


async def test_no_other_create_before_the_lost_one_was_looked_for(tmp_path: Path) -> None:
    """While a create is in doubt and nothing has been listed since, no other is made on the account; after a listing it is."""
    async with open_rig(tmp_path, plugin=UnmarkedProvider) as rig:
        rig.remote.turnaround_seconds = 5_000
        await doubted(rig, "a", "b", created=True)
        await rig.clock.advance(60)
        second = await sealed(rig, "c", "d")
        await rig.upstream.guard(second, submitter_of(rig).submit(second))
        waiting = (await rig.batches())[-1]
        assert (waiting.state, waiting.parked_reason, rig.remote.calls["submit"]) == (BatchState.SEALED, None, 1)
        await look(rig, reconciler_of(rig), 60)
        second = await claimed(rig)
        await rig.upstream.guard(second, submitter_of(rig).submit(second))
        assert (await rig.batches())[-1].state is BatchState.SUBMITTED


async def test_creates_of_one_account_go_one_after_the_other(tmp_path: Path) -> None:
    """Two batches without markers are never created at the same time, so at most one outcome is open."""
    async with open_rig(tmp_path, plugin=UnmarkedProvider) as rig:
        first = await sealed(rig, "a")
        under_way = await rig.ledger.batches.intend(first, rig.clock.now())
        second = await sealed(rig, "b")
        await rig.upstream.guard(second, submitter_of(rig).submit(second))
        assert rig.remote.calls["submit"] == 0
        await rig.ledger.batches.reseal(under_way, rig.clock.now())
        second = await claimed(rig)
        await rig.upstream.guard(second, submitter_of(rig).submit(second))
        assert rig.remote.calls["submit"] == 1


@pytest.mark.parametrize("slow_ledger", [False, True])
async def test_creates_that_begin_together_go_one_after_the_other(
    slow_ledger: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two batches prepared at once one is created and the other waits, also where a read of the ledger lets others run."""
    async with open_rig(tmp_path, plugin=UnmarkedProvider) as rig:
        if slow_ledger:
            read = rig.ledger.batches.open_beside

            async def slowly(batch: BatchRow) -> list[BatchRow]:
                found = await read(batch)
                for _ in range(20):
                    await asyncio.sleep(0)
                return found

            monkeypatch.setattr(rig.ledger.batches, "open_beside", slowly)
        batches = [await sealed(rig, "a"), await sealed(rig, "b")]
        submitter = submitter_of(rig)
        UnmarkedProvider.gate = asyncio.Event()
        together = asyncio.gather(*(rig.upstream.guard(batch, submitter.submit(batch)) for batch in batches))
        while BatchState.SEALED in {batch.state for batch in await rig.batches()} and not rig.remote.calls["submit"]:
            await asyncio.sleep(0)
        for _ in range(200):
            await asyncio.sleep(0)
            await rig.batches()
        assert rig.remote.calls["submit"] == 1
        UnmarkedProvider.gate.set()
        await together
        assert sorted(batch.state for batch in await rig.batches()) == [BatchState.SEALED, BatchState.SUBMITTED]


async def test_a_proven_copy_is_counted_before_collecting(tmp_path: Path) -> None:
    """A batch that was created twice after all is collected once; its copy is counted, and no stranger is stopped."""
    async with open_rig(tmp_path, plugin=UnmarkedProvider) as rig:
        lost = await doubted(rig, "a", "b", created=True)
        copy = rig.remote.batches["fake-1"]
        rig.remote.batches["fake-copy"] = FakeBatch(
            remote_id="fake-copy",
            marker=lost.marker,
            model="m",
            lines=copy.lines,
            created=copy.created,
            due=copy.due + 300,
        )
        running = stranger(rig, "fake-theirs", lines=2, turnaround_seconds=9_000)
        assert (await look(rig, reconciler_of(rig), 100)).state is BatchState.SUBMITTED
        poller = Poller(
            rig.upstream,
            rig.waiters,
            Polling(),
            rig.retries,
            rig.tasks,
            submitted=asyncio.Event(),
            ended=asyncio.Event(),
            doubted=asyncio.Event(),
        )
        assert rig.upstream.known_copies == set()
        await rig.clock.advance(300)
        batch = await claimed(rig)
        await rig.upstream.guard(batch, poller.poll(batch))
        cache = Cache.open(tmp_path / "cache", CacheSettings())
        collector = Collector(rig.upstream, rig.waiters, cache, rig.retries, rig.tasks, ended=asyncio.Event())
        batch = await claimed(rig)
        await rig.upstream.guard(batch, collector.collect(batch))
        cache.close()
        assert (await rig.batch()).state is BatchState.COLLECTED
        assert rig.upstream.known_copies == {"fake-copy"}
        assert not running.cancelled
