"""Asking for submitted batches: what ends them, what takes them apart, and what means nothing at all."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Polling
from gateway.errors import Ambiguous, Missing, ProviderError, Rejected, Retryable, TokenLimit, Unauthorised, Unsupported
from gateway.pipeline.poller import poll_interval
from gateway.records import BatchState, RemoteBatch, RequestState
from gateway.store.rows import LaneKey
from gateway.store.shipping import BatchRow
from tests.unit.pipeline.rig import Rig, claimed, open_rig, sealed
from tests.unit.pipeline.stages import poller_of

DAY = 86_400.0


async def submitted(rig: Rig, *texts: str) -> BatchRow:
    """A batch the provider works on, claimed."""
    batch = await sealed(rig, *texts)
    plugin = rig.router.providers["fake"].instance
    assert plugin is not None
    rig.upstream.spool.write_lines(
        batch.marker, (plugin.frame(f"{batch.marker}-{n}", b'{"body":{"messages":[]}}') for n in range(batch.count))
    )
    batch = await rig.ledger.batches.uploaded(batch, await plugin.upload(rig.upstream.view(batch)))
    batch = await rig.ledger.batches.intend(batch, rig.clock.now())
    remote = await plugin.submit(rig.upstream.view(batch))
    await rig.ledger.batches.submitted(batch, remote, rig.clock.now(), rig.clock.now())
    return await claimed(rig)


async def poll(rig: Rig, batch: BatchRow) -> BatchRow:
    """Ask once, and read the batch again."""
    await rig.upstream.guard(batch, poller_of(rig).poll(batch))
    again = await rig.ledger.batches.get(batch.id)
    assert again is not None
    return again


async def test_a_running_batch_is_asked_again_later(tmp_path: Path) -> None:
    """A batch that is not over stays submitted, and is due again within the first interval, give or take a tenth."""
    async with open_rig(tmp_path) as rig:
        after = await poll(rig, await submitted(rig, "a"))
        assert after.state is BatchState.SUBMITTED
        assert 4.5 <= after.retry_at - rig.clock.now() <= 5.5


async def test_an_ended_batch_is_handed_on(tmp_path: Path) -> None:
    """A batch that is over is `ended`, with what the provider counted."""
    async with open_rig(tmp_path) as rig:
        batch = await submitted(rig, "a", "b")
        await rig.clock.advance(61)
        after = await poll(rig, batch)
        assert after.state is BatchState.ENDED
        assert (after.total, after.done) == (2, 2)


@pytest.mark.parametrize(
    "error",
    [Retryable("503"), Ambiguous("reset"), ProviderError("odd"), RuntimeError("bug"), TimeoutError(), Rejected("bad")],
)
async def test_a_lost_poll_means_nothing(error: Exception, tmp_path: Path) -> None:
    """Whatever a poll ends in but an answer, the batch is asked again later, and nobody's request moves."""
    async with open_rig(tmp_path) as rig:
        batch = await submitted(rig, "a", "b")
        rig.remote.before["poll"].append(error)
        after = await poll(rig, batch)
        assert after.state is BatchState.SUBMITTED
        assert rig.clock.now() < after.retry_at <= rig.clock.now() + 300
        assert await rig.states() == [RequestState.BATCHED] * 2


async def test_a_poll_is_not_put_off_for_a_day(tmp_path: Path) -> None:
    """One answer that asks to come back in 22 hours (a proxy's error page) leaves a batch unasked for an hour at most."""
    async with open_rig(tmp_path) as rig:
        batch = await submitted(rig, "a")
        rig.remote.before["poll"].append(Retryable("poll: status 503", retry_after=80_000.0))
        after = await poll(rig, batch)
        assert after.retry_at == rig.clock.now() + 3600


async def test_a_refused_key_stops_the_account(tmp_path: Path) -> None:
    """A poll that is answered 401 stops every call of the account for ten minutes; the batch waits as long."""
    async with open_rig(tmp_path) as rig:
        batch = await submitted(rig, "a")
        rig.remote.before["poll"].append(Unauthorised("status 401"))
        after = await poll(rig, batch)
        assert after.state is BatchState.SUBMITTED
        assert after.retry_at == rig.clock.now() + 600
        assert not rig.accounts.of(rig.router.providers["fake"]).may_call()


async def test_a_start_tries_a_refused_key_at_once(tmp_path: Path) -> None:
    """Whoever mends a key and starts the gateway again waits no ten minutes; what waits for something else does."""
    async with open_rig(tmp_path) as rig:
        refused = await submitted(rig, "a")
        rig.remote.before["poll"] += [Unauthorised("status 401")]
        await poll(rig, refused)
        held = await sealed(rig, "b")
        assert await rig.upstream.side(held) is None
        other = await sealed(rig, "c")
        await rig.upstream.park(other, "Retryable: status 503", 300)

        await rig.ledger.begin(exclusive=True)
        due = [batch.retry_at <= rig.clock.now() for batch in await rig.batches()]
        assert due == [True, True, False]


@pytest.mark.parametrize(
    ("age", "state"), [(0, BatchState.SUBMITTED), (890, BatchState.SUBMITTED), (910, BatchState.RECONCILING)]
)
async def test_a_missing_batch_is_late_at_first_and_doubted_later(
    age: float, state: BatchState, tmp_path: Path
) -> None:
    """Within the quarantine a batch that is not shown is a lost poll, afterwards a case for reconciling: never resubmitted."""
    async with open_rig(tmp_path) as rig:
        rig.remote.turnaround_seconds = DAY
        batch = await submitted(rig, "a")
        await rig.clock.advance(age)
        rig.remote.before["poll"].append(Missing("404"))
        after = await poll(rig, batch)
        assert after.state is state
        assert rig.remote.calls["submit"] == 1


async def refused(rig: Rig, error: ProviderError, *texts: str) -> BatchRow:
    """Let the provider refuse the batch as a whole, and ask."""
    batch = await submitted(rig, *texts)
    rig.remote.batches["fake-1"].refusal = error  # type: ignore[assignment]
    return await poll(rig, batch)


async def test_a_rejected_batch_falls_into_halves(tmp_path: Path) -> None:
    """Refused without a line's name: two sealed halves, nobody fails."""
    async with open_rig(tmp_path) as rig:
        assert (await refused(rig, Rejected("bad"), "a", "b", "c")).state is BatchState.DISSOLVED
        assert [part.count for part in await rig.batches(BatchState.SEALED)] == [2, 1]


async def test_named_lines_fail_and_wake_their_callers(tmp_path: Path) -> None:
    """The named line's caller gets its 400 at once; the others go back to their lane with their attempts as they were."""
    async with open_rig(tmp_path) as rig:
        (future, other) = [rig.waiters.attach(seq) for seq in (2, 1)]
        await refused(rig, Rejected("bad", {1: "no role"}), "a", "b", "c")
        assert future.result().status == 400
        assert not other.done()
        requests = await rig.ledger.requests.listed(None)
        assert [request.state for request in requests] == [
            RequestState.QUEUED,
            RequestState.FAILED,
            RequestState.QUEUED,
        ]
        assert [request.attempts for request in requests] == [0, 0, 0]


async def test_a_token_limit_halves_the_lanes_target_and_parks_it(tmp_path: Path) -> None:
    """Everything goes back, the lane aims at half the tokens and waits a minute, doubling with each refusal."""
    async with open_rig(tmp_path) as rig:
        await refused(rig, TokenLimit("enqueued token limit reached"), "a", "b", "c", "d")
        (window,) = await rig.ledger.lanes.windows()
        assert (window.count, window.target_tokens) == (4, 200)
        assert window.retry_at == rig.clock.now() + 60
        assert await rig.states() == [RequestState.QUEUED] * 4


@pytest.mark.parametrize("count", [1, 3])
async def test_a_batch_refused_for_the_key_fails_nobody(count: int, tmp_path: Path) -> None:
    """The provider says afterwards that the account may not: requests go back whole and wait for the account."""
    async with open_rig(tmp_path) as rig:
        after = await refused(rig, Unauthorised("billing hard limit"), *map(str, range(count)))
        assert after.state is BatchState.DISSOLVED
        assert await rig.states() == [RequestState.QUEUED] * count
        assert len(await rig.batches()) == 1
        assert not rig.accounts.of(rig.router.providers["fake"]).may_create()


async def test_a_batch_that_never_ends_is_cancelled(tmp_path: Path) -> None:
    """A day beyond its window a batch is cancelled by us, and the poll then finds it ended."""
    async with open_rig(tmp_path) as rig:
        rig.remote.turnaround_seconds = 10 * DAY
        batch = await submitted(rig, "a")
        await rig.clock.advance(2 * DAY - 5)
        assert (await poll(rig, batch)).state is BatchState.SUBMITTED
        assert rig.remote.calls["cancel"] == 0
        await rig.clock.advance(10)
        assert (await poll(rig, await claimed(rig))).state is BatchState.ENDED
        assert rig.remote.calls["cancel"] == 1


@pytest.mark.parametrize(
    "error",
    [
        Rejected("already completed"),
        Ambiguous("timeout"),
        Retryable("503"),
        Unsupported("x", "no cancel"),
        RuntimeError("bug"),
        TimeoutError(),
    ],
)
async def test_a_batch_that_cannot_be_cancelled_is_asked_for_all_the_same(error: Exception, tmp_path: Path) -> None:
    """Providers refuse to cancel what has just ended: the poll is made, and finds it ended."""
    async with open_rig(tmp_path) as rig:
        batch = await submitted(rig, "a")
        await rig.clock.advance(3 * DAY)
        rig.remote.before["cancel"].append(error)
        assert (await poll(rig, batch)).state is BatchState.ENDED


async def test_a_good_poll_closes_the_breaker(tmp_path: Path) -> None:
    """An account that answers polls may be tried with creates again."""
    async with open_rig(tmp_path) as rig:
        account = rig.accounts.of(rig.router.providers["fake"])
        batch = await submitted(rig, "a")
        account.create_failed("no")
        await poll(rig, batch)
        assert account.may_create()


async def test_a_look_that_comes_late_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch whose end was heard of by a poll, while it was looked at on a short disk too, is there to be collected."""
    async with open_rig(tmp_path) as rig:
        batch = await submitted(rig, "a")
        await rig.ledger.batches.release(batch, retry_at=rig.clock.now())
        await rig.clock.advance(61)
        plugin = rig.router.providers["fake"].instance
        assert plugin is not None
        asked, answered, ask = asyncio.Event(), asyncio.Event(), plugin.poll

        async def slow(remote: RemoteBatch) -> RemoteBatch:
            asked.set()
            await answered.wait()
            return await ask(remote)

        monkeypatch.setattr(rig.ledger.database, "has_room", lambda: False)
        monkeypatch.setattr(plugin, "poll", slow)
        await poller_of(rig).tick()
        async with asyncio.timeout(10):
            await asked.wait()
        monkeypatch.setattr(plugin, "poll", ask)
        assert (await poll(rig, await claimed(rig))).state is BatchState.ENDED
        answered.set()
        await rig.errands()

        assert await rig.ledger.batches.claim([BatchState.ENDED], rig.clock.now(), 1)


def aged(age: float) -> BatchRow:
    """A batch that was submitted so long ago, at time 0 less that."""
    lane = LaneKey(provider="fake", endpoint="/v1/chat/completions", model="m")
    return BatchRow(
        id=1, marker="m", lane_id=1, lane=lane, account="", base_url="", state=BatchState.SUBMITTED, epoch=1,
        count=1, size=1, tokens=1, sealed_at=-age, submitted_at=-age,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("age", "least", "seconds"),
    [(0, 0, 5), (50, 0, 5), (100, 0, 10), (590, 0, 59), (100_000, 0, 60), (0, 30, 30), (100_000, 90, 90)],
)
def test_intervals_grow_with_the_age(age: float, least: float, seconds: float) -> None:
    """A tenth of the batch's age, between 5 and 60 s, and never more often than the provider allows."""
    assert poll_interval(aged(age), Polling(), least, 0.0) == pytest.approx(seconds)


@given(st.floats(-1e6, 1e9), st.floats(0, 1e4))
def test_no_interval_is_outside_its_bounds(age: float, least: float) -> None:
    """Whatever the clock says, also a wall clock that was set back, the next poll comes within the bounds."""
    seconds = poll_interval(aged(age), Polling(), least, 0.0)
    assert max(5, least) <= seconds <= max(60, least)
    assert poll_interval(replace(aged(age), submitted_at=None), Polling(), least, 0.0) == max(5, least)
