"""What comes before what: the commit before the word, the claim before the download, the proof before the verdict."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config import Cache as CacheSettings
from gateway.config import Retries
from gateway.errors import Ambiguous, LedgerError, Retryable
from gateway.pipeline.collector import Collector
from gateway.pipeline.reconciler import Reconciler
from gateway.records import BatchState, RemoteBatch, RemoteState
from gateway.store.cache import Cache
from gateway.store.shipping import BatchRow
from gateway.testing import FakeProvider
from tests.unit.pipeline.rig import Rig, claimed, open_rig, sealed
from tests.unit.pipeline.stages import create, poller_of, reconciler_of
from tests.unit.pipeline.test_collector import open_case, rows
from tests.unit.store.scenery import CANCELLED


async def fails(*_: object) -> None:
    """A write that the ledger cannot make."""
    raise LedgerError("the disk is on fire")


async def test_nobody_is_told_what_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller waits on when its answer cannot be committed, and gets it once it is."""
    async with open_case(tmp_path, 2, lambda case: [rows(case, 0, 1)]) as case:
        waiting = case.rig.waiters.attach(1)
        with monkeypatch.context() as broken:
            broken.setattr(case.rig.ledger.batches, "settle", fails)
            assert (await case.collect()).state is BatchState.ENDED
        assert not waiting.done()
        await case.rig.clock.advance(600)
        await case.collect()
        assert b"answer 0" in waiting.result().body


async def test_the_rows_are_kept_until_the_batch_is_collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was downloaded once need not be there a second time: it goes when nobody will read it again."""
    async with open_case(tmp_path, 2, lambda case: [rows(case, 0, 1)]) as case:
        with monkeypatch.context() as broken:
            broken.setattr(case.rig.ledger.batches, "collected", fails)
            assert (await case.collect()).state is BatchState.ENDED
        assert case.rig.upstream.spool.rows(case.marker).exists()
        await case.rig.clock.advance(600)
        assert (await case.collect()).state is BatchState.COLLECTED
        assert case.files.made == 1


async def test_whoever_was_overtaken_downloads_nothing(tmp_path: Path) -> None:
    """A process that was paused does not exchange the file that its successor reads."""
    async with open_case(tmp_path, 1, lambda case: [rows(case, 0)]) as case:
        batches = case.rig.ledger.batches
        stale = await claimed(case.rig)
        await batches.release(stale, retry_at=0.0)
        await claimed(case.rig)
        await case.rig.upstream.guard(stale, case.collector.collect(stale))
        assert case.files.made == 0


async def test_an_unwanted_batch_is_cancelled_at_the_provider(tmp_path: Path) -> None:
    """Once nobody wants a line of it, the next poll asks the provider to stop, long before it is overdue."""
    async with open_rig(tmp_path) as rig:
        await create(rig, await sealed(rig, "a"))
        await rig.ledger.requests.cancel(1, rig.clock.now(), CANCELLED)
        await rig.ledger.batches.mark_cancelling(await claimed(rig), rig.clock.now())
        await poller_of(rig).poll(await claimed(rig))
        assert rig.remote.calls["cancel"] == 1


async def test_a_quarantine_of_nothing_still_takes_two_listings(tmp_path: Path) -> None:
    """Whatever is configured, one empty listing is not believed: lists lag."""
    async with open_rig(tmp_path, retries=Retries(quarantine_seconds=0.0)) as rig:
        rig.remote.before["submit"].append(Ambiguous("timeout"))
        await create(rig, await sealed(rig, "a"))
        reconciler = reconciler_of(rig)
        assert (await looked(rig, reconciler)).state is BatchState.RECONCILING
        assert (await looked(rig, reconciler)).state is BatchState.SEALED


class Nameless(FakeProvider):
    """Has no place for a marker, and its rows name no lines."""

    marked = False

    async def fetch(self, remote: RemoteBatch, to: Path) -> None:
        """Rows that nobody can read."""
        to.write_bytes(b'{"error": "archived"}\n')


async def test_rows_without_names_prove_nothing(tmp_path: Path) -> None:
    """A candidate whose rows cannot be read may be ours: it is neither taken, nor sent again, however long that lasts."""
    async with open_rig(tmp_path, plugin=Nameless) as rig:
        rig.remote.after["submit"].append(Ambiguous("timeout"))
        await create(rig, await sealed(rig, "a"))
        reconciler = reconciler_of(rig)
        for _ in range(4):
            await rig.clock.advance(1000)
            assert (await looked(rig, reconciler)).state is BatchState.RECONCILING
        assert rig.remote.duplicates() == {}


async def test_two_that_looked_together_open_one_create(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without markers one create of an account is open at a time, also where both have seen that none was."""
    async with open_rig(tmp_path, plugin=Nameless) as rig:
        batches = [await sealed(rig, "a"), await sealed(rig, "b")]
        look, looks, both = rig.ledger.batches.open_beside, Counter[int](), asyncio.Event()

        async def look_together(batch: BatchRow) -> list[BatchRow]:
            found = await look(batch)
            looks[batch.id] += 1
            if looks[batch.id] == 2:
                if min(looks[each.id] for each in batches) == 2:
                    both.set()
                await both.wait()
            return found

        monkeypatch.setattr(rig.ledger.batches, "open_beside", look_together)
        rig.remote.after["submit"].append(Ambiguous("timeout"))
        await asyncio.gather(*(create(rig, batch) for batch in batches))
        assert rig.remote.calls["submit"] == 1


async def test_without_room_what_is_not_here_is_left_alone(tmp_path: Path) -> None:
    """While the disk is short a batch whose results would have to be fetched is not even claimed: each claim is a write."""
    async with open_case(tmp_path, 1, lambda case: [rows(case, 0)]) as case:
        case.rig.ledger.database._disk._min_free_bytes = 1 << 60  # type: ignore[attr-defined]
        before = await case.rig.batch()
        assert await case.collector.tick() == 0
        assert await case.rig.batch() == before


async def test_without_room_what_is_here_is_found_among_many_that_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk is short a batch whose results are on it is settled, however many have ended since without room."""
    async with open_case(tmp_path, 1, lambda case: [rows(case, 0)]) as case:
        rig = case.rig
        with monkeypatch.context() as broken:
            broken.setattr(rig.ledger.batches, "settle", fails)
            assert (await case.collect()).fetched
        for n in range(100):
            now, batch = rig.clock.now(), await sealed(rig, f"later {n}")
            remote = RemoteBatch(remote_id=f"r{n}", state=RemoteState.ENDED, total=1, done=1)
            await rig.ledger.batches.submitted(await rig.ledger.batches.intend(batch, now), remote, now, now)
            await rig.ledger.batches.ended(await claimed(rig), remote, now)
        await rig.clock.advance(600)
        monkeypatch.setattr(rig.ledger.database, "has_room", lambda: False)
        assert await case.collector.tick() == 1
        await rig.errands()
        batch_now = await rig.ledger.batches.get(case.batch_id)
        assert batch_now is not None
        assert batch_now.state is BatchState.COLLECTED


async def test_lowered_limits_take_nothing_apart_that_was_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that was sent once may be there, however large it is by the limits of today: it is looked for."""
    async with open_rig(tmp_path) as rig:
        rig.remote.before["submit"].append(Retryable("429"))
        await create(rig, await sealed(rig, "a", "b", "c"))
        rig.remote.create(rig.upstream.view(await rig.batch()))
        provider = rig.router.providers["fake"]
        monkeypatch.setattr(provider, "limits", replace(provider.limits, max_requests=1))
        await rig.clock.advance(10)
        await create(rig, await claimed(rig))
        assert (await rig.batch()).state is BatchState.SUBMITTED
        assert rig.remote.duplicates() == {}


async def looked(rig: Rig, reconciler: Reconciler) -> BatchRow:
    """The batch after one look for it."""
    batch = await claimed(rig)
    await rig.upstream.guard(batch, reconciler.reconcile(batch))
    return await rig.batch()


async def test_a_row_of_no_line_is_on_no_bill(tmp_path: Path) -> None:
    """A row with our marker and a number beyond our lines is counted as unknown, and not booked."""
    async with open_case(tmp_path, 2, lambda case: [rows(case, 0, 1, 2, 77)]) as case:
        assert (await case.collect()).state is BatchState.COLLECTED
        [bill] = await case.rig.ledger.bills.totals()
        assert (bill.lines, bill.wasted_lines) == (2, 0)
        assert b'unknown_lines_total{provider="fake"} 2.0' in case.rig.metrics.render()


async def test_a_download_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    """Half a download is deleted: on a full disk it would stand in the way of everything else."""
    async with open_case(tmp_path, 1, lambda case: [rows(case, 0)]) as case:

        async def breaks_off(_remote: RemoteBatch, to: Path) -> None:
            to.write_bytes(b'{"half')
            raise Retryable("the connection broke")

        plugin = case.rig.router.providers["fake"].instance
        plugin.fetch = breaks_off  # type: ignore[union-attr,method-assign]
        await case.collect()
        assert list(case.rig.upstream.spool.directory.glob("*")) == []


async def test_what_was_adopted_is_no_copy_of_itself(tmp_path: Path) -> None:
    """A batch whose creation was in doubt, and that was made once, is collected without a word of copies."""
    async with open_rig(tmp_path) as rig:
        rig.remote.after["submit"].append(Ambiguous("timeout"))
        await create(rig, await sealed(rig, "a"))
        assert (await looked(rig, reconciler_of(rig))).state is BatchState.SUBMITTED
        await rig.clock.advance(3600)
        await poller_of(rig).poll(await claimed(rig))
        cache = Cache.open(tmp_path / "cache", CacheSettings())
        collector = Collector(rig.upstream, rig.waiters, cache, rig.retries, rig.tasks, ended=asyncio.Event())
        await collector.collect(await claimed(rig))
        cache.close()
        assert (await rig.batch()).state is BatchState.COLLECTED
        assert b"duplicate_batches_total{" not in rig.metrics.render()


async def test_a_breaker_holds_what_is_sealed_already(tmp_path: Path) -> None:
    """When the create of one batch fails, the next one is not tried before the pause is over."""
    async with open_rig(tmp_path) as rig:
        rig.remote.before["submit"].append(Retryable("503"))
        await create(rig, await sealed(rig, "a"))
        await create(rig, await sealed(rig, "b"))
        assert rig.remote.calls["submit"] == 1
        await rig.clock.advance(10)
        await create(rig, await claimed(rig))
        assert rig.remote.calls["submit"] == 2


async def test_a_file_is_uploaded_once(tmp_path: Path) -> None:
    """A create that is tried again takes the file of the first time: no second one is left at the provider."""
    async with open_rig(tmp_path) as rig:
        rig.remote.before["submit"].append(Retryable("429"))
        await create(rig, await sealed(rig, "a"))
        await rig.clock.advance(10)
        await create(rig, await claimed(rig))
        assert (await rig.batch()).state is BatchState.SUBMITTED
        assert rig.remote.uploads == 1
