"""Answers that were paid and do not satisfy their schema are not thrown away until a better one has come."""

from __future__ import annotations

import sqlite3
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from gateway.config import ProviderTable, Retries
from gateway.endings import cancelled
from gateway.errors import Rejected
from gateway.records import RequestState, Result
from gateway.rows import failure, upstream_error
from gateway.store.rows import Ending
from gateway.store.sqlite import FILE_NAME
from tests.unit.pipeline.single import Server, SingleProvider
from tests.unit.pipeline.test_structured import (
    BAD,
    GOOD,
    ONCE_MORE,
    TalkativeProvider,
    asked,
    completion,
    counted,
    script,
    text_of,
    wanting,
)
from tests.unit.pipeline.works import Works, open_works

__all__ = ["script"]

DAY = 86_400.0


async def until_attempted(works: Works, times: int) -> None:
    """Work until the only request was answered so often."""
    while (await works.rig.ledger.requests.listed(None))[0].attempts < times:
        await works.look()
        await works.rig.clock.advance(5)


@asynccontextmanager
async def open_kept(
    tmp_path: Path, script: defaultdict[str, deque[str]], retries: Retries = ONCE_MORE
) -> AsyncIterator[tuple[Works, int]]:
    """A request whose first answer did not satisfy it, and that waits for its next try: who works on it, and its number."""
    script["a"].append(BAD)
    async with open_works(tmp_path, retries=retries, plugin=TalkativeProvider) as works:
        [admission] = await works.rig.ledger.requests.admit([wanting("a")])
        await until_attempted(works, 1)
        yield works, admission.seq


async def ending_of(works: Works, seq: int) -> Ending:
    """How it ended."""
    ending = await works.rig.ledger.requests.ending(seq)
    assert ending is not None
    return ending


def results_in(tmp_path: Path) -> int:
    """How many outcomes are stored."""
    with closing(sqlite3.connect(tmp_path / "ledger" / FILE_NAME)) as connection:
        [[results]] = connection.execute("SELECT count(*) FROM results")
        return int(results)


@pytest.mark.parametrize("after", ["nothing", "500", "400", "a refused batch", "a provider that is down"])
async def test_an_answer_that_was_paid_is_served_when_no_better_one_comes(
    after: str, tmp_path: Path, script: defaultdict[str, deque[str]]
) -> None:
    """Whatever the attempts after it end in, its caller gets the answer, and it stays the only outcome of its request."""
    async with open_kept(tmp_path, script) as (works, seq):
        remote, waiting = works.rig.remote, works.rig.waiters.attach(seq)
        if after == "nothing":
            remote.lost.add("a")
        elif after.isdecimal():
            remote.statuses["a"] = int(after)
        elif after == "a refused batch":
            remote.before["submit"].append(Rejected("poison", {0: "poison"}))
        else:
            await works.rig.clock.advance(8 * DAY)
        await works.until_over(step_seconds=120, at_most_seconds=DAY)
        ending = await ending_of(works, seq)
        assert (ending.state, ending.status, text_of(ending)) == (RequestState.SUCCEEDED, 200, BAD)
        assert text_of(await waiting) == BAD
        assert results_in(tmp_path) == 1
        [bill] = await works.rig.ledger.bills.totals()
        assert bill.requests == int(after.isdecimal() or after == "nothing")


async def test_it_is_told_and_counted_as_served(tmp_path: Path, script: defaultdict[str, deque[str]]) -> None:
    """An answer that is served for want of a better one is counted like the one of a last attempt."""
    async with open_kept(tmp_path, script) as (works, _):
        works.rig.remote.statuses["a"] = 500
        await works.until_over(step_seconds=120, at_most_seconds=DAY)
        assert counted(works.rig) == {"retried": 1, "served": 1}
        assert b'requests_ended_total{provider="fake",state="succeeded"} 1.0' in works.rig.metrics.render()


@pytest.mark.parametrize("better", [GOOD, "{}"])
async def test_a_later_answer_takes_its_place(
    better: str, tmp_path: Path, script: defaultdict[str, deque[str]]
) -> None:
    """Of several answers the last one is kept and served, and of the others nothing is left."""
    retries = Retries(invalid_output="retry", max_attempts=3)
    async with open_kept(tmp_path, script, retries) as (works, seq):
        script["a"].append(better)
        await until_attempted(works, 2)
        works.rig.remote.statuses["a"] = 500
        await works.until_over(step_seconds=120, at_most_seconds=DAY)
        assert text_of(await ending_of(works, seq)) == better
        assert results_in(tmp_path) == 1


@pytest.mark.parametrize("queued", [True, False])
async def test_what_is_cancelled_is_cancelled(
    queued: bool, tmp_path: Path, script: defaultdict[str, deque[str]]
) -> None:
    """Whoever cancels while a better answer is waited for is told so, in the lane or in a batch; the kept one is gone."""
    async with open_kept(tmp_path, script) as (works, seq):
        works.rig.remote.statuses["a"] = 500
        while not queued and (await works.rig.states())[0] is RequestState.QUEUED:
            await works.look()
            await works.rig.clock.advance(5)
        await works.rig.ledger.requests.cancel(seq, works.rig.clock.now(), cancelled())
        await works.until_over(step_seconds=120, at_most_seconds=DAY)
        assert (await ending_of(works, seq)).state is RequestState.CANCELLED
        assert results_in(tmp_path) == 1


async def test_who_wants_failures_gets_them(tmp_path: Path, script: defaultdict[str, deque[str]]) -> None:
    """With `invalid_output = "fail"` nothing is kept: no answer is served that does not satisfy its schema."""
    retries = Retries(invalid_output="fail", max_attempts=2)
    async with open_kept(tmp_path, script, retries) as (works, seq):
        works.rig.remote.statuses["a"] = 500
        await works.until_over(step_seconds=120, at_most_seconds=DAY)
        assert (await ending_of(works, seq)).status == 503


@pytest.mark.parametrize("last", [BAD, GOOD, "500"])
async def test_asked_one_by_one_it_is_the_same(last: str, tmp_path: Path) -> None:
    """A server without batches that breaks down after a bad answer costs nobody the answer."""
    server = Server()
    server.open.set()
    failed = failure(None, 500, upstream_error("broken"))
    second = failed if last == "500" else Result(line_id=None, status=200, body=completion(last))
    server.script["a"].extend([Result(line_id=None, status=200, body=completion(BAD)), second])
    table = ProviderTable(name="single", kind="single", settings={"api_key": "fake-key", "server": server})
    async with open_works(
        tmp_path, retries=ONCE_MORE, kinds={"single": SingleProvider}, tables={"single": table}
    ) as works:
        [ending] = await asked(works, wanting("a", provider="single"))
        assert (ending.status, text_of(ending)) == (200, GOOD if last == GOOD else BAD)
        assert results_in(tmp_path) == 1
