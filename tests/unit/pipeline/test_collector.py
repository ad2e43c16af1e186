"""From ended to collected: short files, odd rows, doubled rows, broken plugins, and results that are gone for good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest

from gateway.config import Cache as CacheSettings
from gateway.errors import Ambiguous, Missing, Retryable, Unauthorised
from gateway.pipeline.collector import Collector
from gateway.records import BatchState, RemoteBatch, RemoteState, RequestState
from gateway.store.cache import Cache
from gateway.store.rows import Ending
from gateway.store.shipping import BatchRow, Settlement
from tests.unit.pipeline.rig import Rig, arrival, claimed, open_rig, sealed

HOUR = 3600.0


@dataclass(kw_only=True)
class Files:
    """What each download of the batch's results brings: bytes, or an error."""

    downloads: list[bytes | Exception]
    made: int = 0

    async def fetch(self, remote: RemoteBatch, to: Path) -> None:
        """The next download; the last one again when there are no more."""
        content = self.downloads[min(self.made, len(self.downloads) - 1)]
        self.made += 1
        if isinstance(content, Exception):
            raise content
        to.write_bytes(content)


@dataclass(frozen=True, kw_only=True)
class Case:
    """An ended batch, and a collector."""

    rig: Rig
    collector: Collector
    cache: Cache
    batch_id: int
    marker: str
    files: Files
    settled: list[int] = field(default_factory=list)

    async def collect(self) -> BatchRow:
        """One step, and what the batch is then."""
        batch = await self.rig.ledger.batches.claim_one(self.batch_id)
        assert batch is not None
        await self.rig.upstream.guard(batch, self.collector.collect(batch))
        after = await self.rig.ledger.batches.get(self.batch_id)
        assert after is not None
        return after

    def row(self, n: int | str, text: str = "", status: int = 200) -> bytes:
        """A row of the result file."""
        body: dict[str, object] = {"choices": [{"message": {"content": text or f"answer {n}"}}]}
        if status != 200:
            body = {"error": {"message": "no"}}
        return (
            orjson.dumps({"custom_id": f"{self.marker}-{n}", "response": {"status_code": status, "body": body}}) + b"\n"
        )


@asynccontextmanager
async def open_case(
    tmp_path: Path, count: int, downloads: Callable[[Case], list[bytes | Exception]], **options: object
) -> AsyncIterator[Case]:
    """A batch of `count` lines that the provider has ended."""
    async with open_rig(tmp_path, **options) as rig:  # type: ignore[arg-type]
        batch = await sealed(rig, *(f"q{n}" for n in range(count)))
        now = rig.clock.now()
        batch = await rig.ledger.batches.intend(batch, now)
        remote = RemoteBatch(remote_id="r", state=RemoteState.ENDED, total=count, done=count)
        await rig.ledger.batches.submitted(batch, remote, now, now)
        await rig.ledger.batches.ended(await claimed(rig), remote, now)
        cache = Cache.open(tmp_path / "cache", CacheSettings())
        files = Files(downloads=[])
        plugin = rig.router.providers["fake"].instance
        plugin.fetch = files.fetch  # type: ignore[union-attr,method-assign]
        collector = Collector(rig.upstream, rig.waiters, cache, rig.retries, rig.tasks, ended=asyncio.Event())
        case = Case(rig=rig, collector=collector, cache=cache, batch_id=batch.id, marker=batch.marker, files=files)
        files.downloads = downloads(case)
        try:
            yield case
        finally:
            cache.close()


def rows(case: Case, *numbers: int) -> bytes:
    """The rows of these lines."""
    return b"".join(map(case.row, numbers))


async def test_every_line_gets_its_own_answer_whatever_the_order(tmp_path: Path) -> None:
    """Rows come in any order; each caller is woken with the answer of its own line, and the ledger has the same."""
    async with open_case(tmp_path, 5, lambda case: [rows(case, 4, 2, 0, 1, 3)]) as case:
        futures = [case.rig.waiters.attach(seq) for seq in range(1, 6)]
        assert (await case.collect()).state is BatchState.COLLECTED
        for n, future in enumerate(futures):
            assert f"answer {n}".encode() in future.result().body
            stored = await case.rig.ledger.requests.ending(n + 1)
            assert stored is not None
            assert stored.body == future.result().body
        assert list((tmp_path / "spool").glob("*.rows*")) == []


@pytest.mark.parametrize("cut", [False, True])
async def test_a_short_file_is_fetched_again_before_lines_count_as_missing(cut: bool, tmp_path: Path) -> None:
    """Too few rows, or a last one that does not parse: again after a minute and after a quarter of an hour, then it counts."""

    def downloads(case: Case) -> list[bytes | Exception]:
        return [rows(case, 0, 1) + case.row(2)[:30]] if cut else [rows(case, 0, 1)]

    async with open_case(tmp_path, 3, downloads) as case:
        for fetches, pause in ((1, 60), (2, 900)):
            after = await case.collect()
            assert after.state is BatchState.ENDED
            assert (after.fetches, after.retry_at) == (fetches, case.rig.clock.now() + pause)
            states = [RequestState.SUCCEEDED, RequestState.SUCCEEDED, RequestState.BATCHED]
            assert await case.rig.states() == states
            await case.rig.clock.advance(pause)
        assert (await case.collect()).state is BatchState.COLLECTED
        states = [RequestState.SUCCEEDED, RequestState.SUCCEEDED, RequestState.QUEUED]
        assert await case.rig.states() == states
        assert (await case.rig.ledger.requests.listed(None))[2].attempts == 1


async def test_downloads_that_broke_off_say_nothing_of_the_rows(tmp_path: Path) -> None:
    """However many downloads have failed before, a file with too few rows is fetched again before lines count as missing."""

    def downloads(case: Case) -> list[bytes | Exception]:
        return [*[Retryable("cut")] * 4, rows(case, 0), rows(case, 0, 1)]

    async with open_case(tmp_path, 2, downloads) as case:
        for _ in range(5):
            assert (await case.collect()).state is BatchState.ENDED
            await case.rig.clock.advance(600)
        assert (await case.collect()).state is BatchState.COLLECTED
        assert await case.rig.states() == [RequestState.SUCCEEDED] * 2


async def test_a_file_that_is_whole_at_the_second_try_costs_nothing(tmp_path: Path) -> None:
    """Rows that come late are nobody's lost attempt."""
    async with open_case(tmp_path, 2, lambda case: [rows(case, 0), rows(case, 0, 1)]) as case:
        await case.collect()
        await case.rig.clock.advance(60)
        assert (await case.collect()).state is BatchState.COLLECTED
        assert await case.rig.states() == [RequestState.SUCCEEDED] * 2


@pytest.mark.parametrize(
    "odd",
    [b"not json\n", b"{}\n", b"[]\n", b'"\xff"\n', b'{"custom_id": "someone-elses-0", "response": {}}\n', b"\x00\n"],
)
async def test_odd_rows_harm_nobody(odd: bytes, tmp_path: Path) -> None:
    """A row that names no line of the batch is counted and left out."""
    async with open_case(tmp_path, 2, lambda case: [odd + rows(case, 0) + odd + rows(case, 1)]) as case:
        assert (await case.collect()).state is BatchState.COLLECTED
        assert await case.rig.states() == [RequestState.SUCCEEDED] * 2
        assert b'unknown_lines_total{provider="fake"} 2.0' in case.rig.metrics.render()


@pytest.mark.parametrize("number", ["2", "99", "-1", "01", "1e0", "", "0x1", "٣", "9" * 30])
async def test_line_numbers_that_are_none_match_no_line(number: str, tmp_path: Path) -> None:
    """Only the exact line id of this batch counts: nobody gets an answer that belongs to somebody else."""
    async with open_case(tmp_path, 2, lambda case: [rows(case, 0, 1) + case.row(number, "stray")]) as case:
        await case.collect()
        for seq in (1, 2):
            ending = await case.rig.ledger.requests.ending(seq)
            assert ending is not None
            assert b"stray" not in ending.body
        assert b'unknown_lines_total{provider="fake"} 1.0' in case.rig.metrics.render()
        assert (await case.rig.ledger.bills.totals())[0].lines == 2


async def test_of_two_rows_for_a_line_everybody_gets_the_same(tmp_path: Path) -> None:
    """A doubled row changes nothing: the caller, the ledger and the cache have one and the same answer."""
    async with open_case(
        tmp_path, 2, lambda case: [case.row(0, "first") + case.row(0, "second") + rows(case, 1)]
    ) as case:
        future = case.rig.waiters.attach(1)
        assert (await case.collect()).state is BatchState.COLLECTED
        stored = await case.rig.ledger.requests.ending(1)
        assert stored is not None
        assert future.result().body == stored.body
        case.cache.flush()
        (sample,) = case.cache.read(arrival("q0").fingerprint)
        assert sample.body == stored.body


async def test_reading_again_after_a_crash_changes_nothing(tmp_path: Path) -> None:
    """A batch that was settled in part and is read again settles the rest, and the answers that were there stay."""
    async with open_case(tmp_path, 3, lambda case: [rows(case, 0, 1, 2)]) as case:
        batch = await case.rig.ledger.batches.claim_one(case.batch_id)
        assert batch is not None
        early = Ending(state=RequestState.SUCCEEDED, status=200, code=None, body=b'{"early": 1}')
        await case.rig.ledger.batches.settle(batch, [Settlement(n=1, status=200, ending=early)], case.rig.clock.now())
        await case.rig.ledger.batches.release(batch, retry_at=0)
        future = case.rig.waiters.attach(2)
        assert (await case.collect()).state is BatchState.COLLECTED
        assert await case.rig.states() == [RequestState.SUCCEEDED] * 3
        stored = await case.rig.ledger.requests.ending(2)
        assert stored is not None
        assert stored.body == b'{"early": 1}'
        assert not future.done()


async def test_chunks_of_any_number_are_settled_whole(tmp_path: Path) -> None:
    """More lines than fit a commit are settled in several, none twice, none forgotten."""
    async with open_case(tmp_path, 1203, lambda case: [rows(case, *range(1203))]) as case:
        assert (await case.collect()).state is BatchState.COLLECTED
        tally = await case.rig.ledger.requests.tally()
        assert tally[RequestState.SUCCEEDED] == 1203
        assert b'batch_lines_total{outcome="answered",provider="fake"} 1203.0' in case.rig.metrics.render()


@pytest.mark.parametrize(
    "error",
    [Retryable("503"), Ambiguous("reset"), Missing("gone"), RuntimeError("bug"), TimeoutError(), Unauthorised("401")],
)
async def test_a_download_that_fails_says_nothing_of_the_lines(error: Exception, tmp_path: Path) -> None:
    """Whatever a fetch ends in, the lines wait and it is tried again."""
    async with open_case(tmp_path, 2, lambda case: [error, rows(case, 0, 1)]) as case:
        after = await case.collect()
        assert after.state is BatchState.ENDED
        assert after.retry_at > case.rig.clock.now()
        assert await case.rig.states() == [RequestState.BATCHED] * 2
        await case.rig.clock.advance(601)
        assert (await case.collect()).state is BatchState.COLLECTED


async def test_a_decode_that_raises_parks_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in a plugin's decode keeps the rows, parks the batch with the reason, and a repaired plugin goes on."""
    async with open_case(tmp_path, 2, lambda case: [rows(case, 0, 1)]) as case:
        plugin = case.rig.router.providers["fake"].instance

        def broken(row: bytes) -> object:
            raise ZeroDivisionError("in the plugin")

        with monkeypatch.context() as faulty:
            faulty.setattr(plugin, "decode", broken)
            after = await case.collect()
        assert after.state is BatchState.ENDED
        assert "ZeroDivisionError" in (after.parked_reason or "")
        await case.rig.clock.advance(300)
        assert (await case.collect()).state is BatchState.COLLECTED
        assert case.files.made == 1


@pytest.mark.parametrize("error", [Missing("the file is gone"), RuntimeError("a bug"), Retryable("503")])
async def test_results_that_never_come_do_not_hold_requests_for_ever(error: Exception, tmp_path: Path) -> None:
    """When results cannot be fetched for `give_up_hours` the lines count as missing: every accepted request ends."""
    async with open_case(tmp_path, 2, lambda _: [error]) as case:
        for hours in (0, 1, *[11] * 15, 1):
            await case.rig.clock.advance(hours * HOUR)
            assert (await case.collect()).state is BatchState.ENDED
        await case.rig.clock.advance(1 * HOUR)
        assert (await case.collect()).state is BatchState.COLLECTED
        assert await case.rig.states() == [RequestState.QUEUED] * 2
        assert [request.attempts for request in await case.rig.ledger.requests.listed(None)] == [1, 1]


async def test_a_gateway_that_was_off_for_long_does_not_give_up_at_once(tmp_path: Path) -> None:
    """After a week without us, and ten downloads that fail because our own network is not up yet, the results are taken."""
    async with open_case(tmp_path, 2, lambda case: [*[Retryable("503")] * 10, rows(case, 0, 1)]) as case:
        await case.rig.clock.advance(200 * HOUR)
        for _ in range(10):
            assert (await case.collect()).state is BatchState.ENDED
            await case.rig.clock.advance(300)
        assert (await case.collect()).state is BatchState.COLLECTED
        assert await case.rig.states() == [RequestState.SUCCEEDED] * 2


async def test_an_answer_that_is_nested_deep_holds_nobody_up(tmp_path: Path) -> None:
    """A body that can be read, and is nested deeper than the quick writer goes, is delivered as it is, like those beside it."""

    def deep(case: Case) -> bytes:
        return case.row(0).replace(b'"answer 0"', b'"answer 0","more":' + b"[" * 400 + b"]" * 400)

    async with open_case(tmp_path, 2, lambda case: [deep(case) + case.row(1)]) as case:
        futures = [case.rig.waiters.attach(seq) for seq in (1, 2)]
        assert (await case.collect()).state is BatchState.COLLECTED
        assert b"[" * 400 in futures[0].result().body.replace(b" ", b"")
        assert b"answer 1" in futures[1].result().body
