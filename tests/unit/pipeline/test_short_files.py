"""Results that are not whole: named late, not ours, of batches that run again; and those that will never be more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson
import pytest

from gateway.config import Cache as CacheSettings
from gateway.errors import Missing, Retryable
from gateway.pipeline.collector import Collector
from gateway.records import BatchState, RemoteBatch, RemoteState, RequestState
from gateway.store.cache import Cache
from gateway.store.shipping import BatchRow
from tests.unit.pipeline.rig import Rig, claimed, open_rig, sealed
from tests.unit.pipeline.test_collector import Case, open_case, rows
from tests.unit.pipeline.test_poller import poll

MINUTE, QUARTER = 60.0, 900.0


@dataclass(kw_only=True)
class Shown:
    """A provider that shows a batch as it is told to, and has rows only for a file that it has named."""

    marker: str
    remote: RemoteBatch
    #: Raised instead of telling how the batch is.
    error: Exception | None = None
    #: Lines with an answer in each file.
    files: dict[str, list[int]] = field(default_factory=dict)

    async def poll(self, _: RemoteBatch) -> RemoteBatch:
        """How it is now."""
        if self.error is not None:
            raise self.error
        return self.remote

    async def fetch(self, remote: RemoteBatch, to: Path) -> None:
        """The rows of the file that is known."""
        to.write_bytes(b"".join(self._row(n) for n in self.files.get(remote.where.get("output", ""), [])))

    def _row(self, n: int) -> bytes:
        body = {"choices": [{"message": {"content": f"answer {n}"}}]}
        row = {"custom_id": f"{self.marker}-{n}", "response": {"status_code": 200, "body": body}}
        return orjson.dumps(row) + b"\n"


@dataclass(frozen=True, kw_only=True)
class Stand:
    """A submitted batch of two, and the workers that bring it to its end."""

    rig: Rig
    collector: Collector
    shown: Shown

    async def look(self) -> BatchRow:
        """One step of whichever worker it waits for, and what it is then."""
        batch = await claimed(self.rig)
        if batch.state is BatchState.SUBMITTED:
            await poll(self.rig, batch)
        else:
            await self.rig.upstream.guard(batch, self.collector.collect(batch))
        return await self.rig.batch()

    async def later(self, seconds: float) -> BatchRow:
        """The same when so much time has gone by."""
        await self.rig.clock.advance(seconds)
        return await self.look()

    async def cancel(self) -> None:
        """Note that we have told the provider to stop it."""
        await self.rig.ledger.batches.mark_cancelling(await claimed(self.rig), self.rig.clock.now())

    async def fetched(self, *lines: int) -> BatchRow:
        """What it is when it was polled, and then fetched with a file of these lines."""
        self.shown.files["half"] = list(lines)
        await self.look()
        return await self.look()


@asynccontextmanager
async def open_stand(tmp_path: Path, **remote: object) -> AsyncIterator[Stand]:
    """`remote`: what the provider says of the batch."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a", "b")
        batch = await rig.ledger.batches.intend(batch, rig.clock.now())
        created = RemoteBatch(remote_id="r", state=RemoteState.RUNNING)
        await rig.ledger.batches.submitted(batch, created, rig.clock.now(), rig.clock.now())
        ended = RemoteBatch(remote_id="r", state=RemoteState.ENDED, **remote)  # type: ignore[arg-type]
        shown = Shown(marker=batch.marker, remote=ended, files={"whole": [0, 1]})
        plugin = rig.router.providers["fake"].instance
        plugin.poll, plugin.fetch = shown.poll, shown.fetch  # type: ignore[union-attr,method-assign]
        cache = Cache.open(tmp_path / "cache", CacheSettings())
        try:
            yield Stand(
                rig=rig,
                collector=Collector(rig.upstream, rig.waiters, cache, rig.retries, rig.tasks, ended=asyncio.Event()),
                shown=shown,
            )
        finally:
            cache.close()


@pytest.mark.parametrize("counts", [{}, {"done": 0}, {"total": 2, "done": 0}, {"total": 2, "done": 2}])
async def test_results_that_are_named_late_are_found(counts: dict[str, int], tmp_path: Path) -> None:
    """A batch that has ended before its counts or its files are shown is asked for again: no line of it is paid for twice."""
    async with open_stand(tmp_path, **counts) as stand:
        assert (await stand.look()).state is BatchState.ENDED
        after = await stand.look()
        assert (after.state, after.retry_at) == (BatchState.ENDED, stand.rig.clock.now() + MINUTE)
        stand.shown.remote = replace(stand.shown.remote, total=2, done=2, where={"output": "whole"})
        assert (await stand.later(MINUTE)).state is BatchState.COLLECTED
        assert await stand.rig.states() == [RequestState.SUCCEEDED] * 2


@pytest.mark.parametrize("cancelled", [True, False])
async def test_what_was_counted_on_the_way_says_nothing_of_the_end(cancelled: bool, tmp_path: Path) -> None:
    """A file with as many rows as were done while the batch ran is not whole for that, also if the batch was stopped."""
    async with open_stand(tmp_path, where={"output": "half"}) as stand:
        ended, stand.shown.files["half"] = stand.shown.remote, [0]
        stand.shown.remote = replace(ended, state=RemoteState.RUNNING, total=2, done=1)
        await stand.look()
        stand.shown.remote = ended
        await stand.look()
        if cancelled:
            await stand.cancel()
        assert (await stand.look()).state is BatchState.ENDED
        assert await stand.rig.states() == [RequestState.SUCCEEDED, RequestState.BATCHED]


@pytest.mark.parametrize("error", [None, Missing("deleted"), RuntimeError("a bug")])
async def test_a_file_that_was_named_stays_named(error: Exception | None, tmp_path: Path) -> None:
    """A second look that does not show the batch, or not its file, takes nothing away: what was named is fetched again."""
    async with open_stand(tmp_path, total=2, done=2, where={"output": "whole"}) as stand:
        stand.shown.files = {}
        await stand.look()
        await stand.look()
        stand.shown.files, stand.shown.error = {"whole": [0, 1]}, error
        stand.shown.remote = replace(stand.shown.remote, where={})
        assert (await stand.later(MINUTE)).state is BatchState.COLLECTED
        assert await stand.rig.states() == [RequestState.SUCCEEDED] * 2


async def test_nothing_counts_as_missing_while_nobody_answers(tmp_path: Path) -> None:
    """A provider that cannot be asked how the batch is, is asked again; no try to fetch is used up."""
    async with open_stand(tmp_path, total=2, done=2) as stand:
        await stand.look()
        stand.shown.error = Retryable("503")
        for _ in range(9):
            after = await stand.look()
            assert (after.state, after.fetches) == (BatchState.ENDED, 1)
            await stand.rig.clock.advance(QUARTER)
        assert await stand.rig.states() == [RequestState.BATCHED] * 2


async def test_a_batch_that_runs_again_is_waited_for(tmp_path: Path) -> None:
    """One that was said to have ended and runs is polled like any: while it runs no line of it is sent, and paid, again."""
    async with open_stand(tmp_path, total=2, done=2) as stand:
        await stand.look()
        await stand.look()
        over, running = stand.shown.remote, replace(stand.shown.remote, state=RemoteState.RUNNING, done=0)
        stand.shown.remote = running
        after = await stand.later(MINUTE)
        assert (after.state, after.ended_at) == (BatchState.SUBMITTED, None)
        assert after.retry_at == stand.rig.clock.now() + MINUTE
        for _ in range(8):
            assert (await stand.later(QUARTER)).state is BatchState.SUBMITTED
        assert await stand.rig.states() == [RequestState.BATCHED] * 2
        stand.shown.remote = replace(over, where={"output": "whole"})
        assert (await stand.look()).state is BatchState.ENDED
        assert (await stand.look()).state is BatchState.COLLECTED
        assert await stand.rig.states() == [RequestState.SUCCEEDED] * 2


@pytest.mark.parametrize(
    "what", ["an error page", "rows of somebody else", "one row twice", "a row that is cut in the middle"]
)
async def test_a_file_without_our_lines_is_fetched_again(what: str, tmp_path: Path) -> None:
    """A file with rows enough that do not name our lines is fetched again before a line counts as missing."""

    def downloads(case: Case) -> list[bytes | Exception]:
        good = rows(case, 0, 1)
        bad = {
            "an error page": b'{"error": {"message": "log in to the network"}}\n' * 2,
            "rows of somebody else": good.replace(case.marker.encode(), b"z" * 20),
            "one row twice": case.row(0) * 2,
            "a row that is cut in the middle": case.row(0)[:40] + b"\n" + case.row(1),
        }[what]
        return [bad, good]

    async with open_case(tmp_path, 2, downloads) as case:
        assert (await case.collect()).state is BatchState.ENDED
        await case.rig.clock.advance(MINUTE)
        assert (await case.collect()).state is BatchState.COLLECTED
        assert await case.rig.states() == [RequestState.SUCCEEDED] * 2


async def test_what_was_done_of_a_stopped_batch_is_delivered_at_once(tmp_path: Path) -> None:
    """Of what we cancelled the provider has rows for the lines that it counts as done: nobody waits for the others."""
    async with open_stand(tmp_path, total=2, done=1, where={"output": "half"}) as stand:
        stand.shown.files["half"] = [1]
        await stand.look()
        await stand.cancel()
        assert (await stand.look()).state is BatchState.COLLECTED
        assert await stand.rig.states() == [RequestState.QUEUED, RequestState.SUCCEEDED]


async def test_what_was_done_in_its_window_is_delivered_at_once(tmp_path: Path) -> None:
    """Of a batch that ended with its window the provider has rows for the lines that it counts as done, and no others."""
    async with open_stand(tmp_path, total=2, done=1, where={"output": "half"}) as stand:
        await stand.rig.clock.advance(86_400)
        assert (await stand.fetched(1)).state is BatchState.COLLECTED


async def test_counts_that_lag_cost_no_line(tmp_path: Path) -> None:
    """A batch that nobody stopped, and that says half of it is done, is asked once more: the other half may be done by now."""
    async with open_stand(tmp_path, total=2, done=1, where={"output": "half"}) as stand:
        await stand.fetched(0)
        stand.shown.remote = replace(stand.shown.remote, done=2, where={"output": "whole"})
        assert (await stand.later(MINUTE)).state is BatchState.COLLECTED
        assert await stand.rig.states() == [RequestState.SUCCEEDED] * 2


async def test_the_answers_of_a_short_file_are_delivered_at_once(tmp_path: Path) -> None:
    """What is there of a file is settled before it is fetched again: the next one may have less, and it was paid."""
    async with open_stand(tmp_path, total=2, done=2, where={"output": "half"}) as stand:
        assert (await stand.fetched(1)).state is BatchState.ENDED
        assert await stand.rig.states() == [RequestState.BATCHED, RequestState.SUCCEEDED]
        stand.shown.files["half"] = [0]
        for _ in range(2):
            after = await stand.later(QUARTER)
        assert after.state is BatchState.COLLECTED
        assert await stand.rig.states() == [RequestState.SUCCEEDED] * 2


async def test_what_was_settled_of_a_short_file_is_counted_once(tmp_path: Path) -> None:
    """Answers that come again with the whole file were counted, and delivered, with the first one: they are not late."""
    async with open_stand(tmp_path, total=2, done=2, where={"output": "half"}) as stand:
        assert (await stand.fetched(1)).state is BatchState.ENDED
        stand.shown.files["half"] = [0, 1]
        assert (await stand.later(MINUTE)).state is BatchState.COLLECTED
        counted = stand.rig.metrics.render().decode()
        assert 'batch_lines_total{outcome="answered",provider="fake"} 2.0' in counted
        assert 'late_lines_total{provider="fake"} 0.0' in counted


async def test_what_somebody_else_stopped_is_looked_for_once_more(tmp_path: Path) -> None:
    """After a minute what is done of a batch that ended early is all there is."""
    async with open_stand(tmp_path, total=2, done=1, where={"output": "half"}) as stand:
        await stand.fetched(0)
        assert (await stand.later(MINUTE)).state is BatchState.COLLECTED
        assert await stand.rig.states() == [RequestState.SUCCEEDED, RequestState.QUEUED]


async def test_a_batch_that_flaps_comes_to_an_end(tmp_path: Path) -> None:
    """One that is said to have ended whenever it is polled, and to run whenever its results are wanted, is over some day."""
    async with open_stand(tmp_path, total=2) as stand:
        ended = stand.shown.remote
        for _ in range(200):
            batch = await stand.rig.batch()
            if batch.state is BatchState.COLLECTED:
                break
            running = replace(ended, state=RemoteState.RUNNING)
            stand.shown.remote = ended if batch.state is BatchState.SUBMITTED else running
            after = await stand.look()
            await stand.rig.clock.advance(max(3_600.0, after.retry_at - stand.rig.clock.now()))
        assert (await stand.rig.batch()).state is BatchState.COLLECTED


@pytest.mark.parametrize("cancelled", [True, False])
async def test_lines_that_nobody_counts_or_wants_are_looked_for_once_more(cancelled: bool, tmp_path: Path) -> None:
    """A minute, and not a quarter of an hour, is waited for what a cancelled batch lacks, or one of an uncounted half."""
    async with open_stand(tmp_path, where={"output": "half"}) as stand:
        stand.shown.files["half"] = [] if cancelled else [0]
        await stand.look()
        if cancelled:
            await stand.cancel()
        assert (await stand.look()).state is BatchState.ENDED
        assert (await stand.later(MINUTE)).state is BatchState.COLLECTED


@pytest.mark.parametrize("apart", [False, True])
async def test_an_answer_beside_a_failed_row_counts(apart: bool, tmp_path: Path) -> None:
    """Of two rows for one line, a failure and an answer, the answer counts, however far behind it comes: it was paid."""
    count = 600 if apart else 1

    def downloads(case: Case) -> list[bytes | Exception]:
        return [case.row(0, status=500) + rows(case, *range(1, count)) + case.row(0)]

    async with open_case(tmp_path, count, downloads) as case:
        assert (await case.collect()).state is BatchState.COLLECTED
        assert (await case.rig.ledger.requests.tally())[RequestState.SUCCEEDED] == count
