"""Nothing waits for ever, nothing is kept for ever, and nothing is done twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.config import Retries, Server, Storage
from gateway.endings import cancelled
from gateway.errors import StorageFull
from gateway.pipeline.janitor import Janitor
from gateway.records import BatchState, RemoteBatch, RemoteState, RequestState
from gateway.store.rows import Departure
from gateway.store.shipping import BatchRow
from tests.unit.pipeline.rig import Rig, claimed, open_rig, sealed

HOUR = 3600.0


def janitor_of(rig: Rig, *, on_disconnect: str = "keep", retention_days: float = 30.0) -> Janitor:
    """A janitor with the ordinary retries."""
    server, storage = Server(on_disconnect=on_disconnect), Storage(retention_days=retention_days)
    return Janitor(rig.upstream, rig.waiters, server, storage, Retries())


async def test_what_could_never_be_sent_expires(tmp_path: Path) -> None:
    """After `give_up_hours` in the queue a request ends with 504, and its callers are told; not an hour before."""
    async with open_rig(tmp_path) as rig:
        await rig.admit("a")
        future = rig.waiters.attach(1)
        await rig.clock.advance(167 * HOUR)
        await janitor_of(rig).round()
        assert await rig.states() == [RequestState.QUEUED]
        await rig.clock.advance(1 * HOUR + 1)
        await janitor_of(rig).round()
        assert await rig.states() == [RequestState.EXPIRED]
        assert (future.result().status, future.result().code) == (504, "expired")


async def test_a_batch_that_could_never_be_sent_ends_too(tmp_path: Path) -> None:
    """Requests sealed into a batch that never got through expire as well."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a", "b")
        await rig.ledger.batches.release(batch, retry_at=0, parked_reason="the provider is gone")
        await rig.clock.advance(169 * HOUR)
        await janitor_of(rig).round()
        await janitor_of(rig).round()
        assert await rig.states() == [RequestState.EXPIRED] * 2


async def test_a_batch_that_was_sent_in_the_meantime_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that gets through between the janitor's look and its claim stays free for the poller."""
    async with open_rig(tmp_path) as rig:
        batches = rig.ledger.batches
        await batches.release(await sealed(rig, "a"), retry_at=0)
        await rig.clock.advance(169 * HOUR)
        claim_one = batches.claim_one

        async def late(batch_id: int) -> BatchRow | None:
            now = rig.clock.now()
            (mine,) = await batches.claim([BatchState.SEALED], now, 1)
            remote = RemoteBatch(remote_id="r", state=RemoteState.RUNNING)
            await batches.submitted(await batches.intend(mine, now), remote, now, now)
            return await claim_one(batch_id)

        monkeypatch.setattr(batches, "claim_one", late)
        await janitor_of(rig).round()
        assert len(await batches.claim([BatchState.SUBMITTED], rig.clock.now(), 1)) == 1


async def test_what_is_found_in_the_last_moment_is_not_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch in doubt that the reconciler finds while the janitor is about to give it up is waited for."""
    async with open_rig(tmp_path) as rig:
        batches, now = rig.ledger.batches, rig.clock.now()
        sent = await batches.intend(await sealed(rig, "a"), now)
        await batches.doubt(sent, "lost", now)
        await batches.release(await claimed(rig), retry_at=now, parked_reason="list: 503", troubles=19)
        await rig.clock.advance(240 * HOUR)
        claim_one = batches.claim_one

        async def late(batch_id: int, states: Sequence[BatchState] = tuple(BatchState)) -> BatchRow | None:
            (mine,) = await batches.claim([BatchState.RECONCILING], rig.clock.now(), 1)
            remote = RemoteBatch(remote_id="r", state=RemoteState.RUNNING)
            await batches.submitted(mine, remote, rig.clock.now(), rig.clock.now())
            return await claim_one(batch_id, states)

        monkeypatch.setattr(batches, "claim_one", late)
        await janitor_of(rig).round()
        assert [batch.state for batch in await rig.batches()] == [BatchState.SUBMITTED]
        assert await rig.states() == [RequestState.BATCHED]


async def test_a_ledger_that_fails_does_not_keep_the_janitors_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk is full as a batch is to be taken apart, the batch is free again afterwards."""
    async with open_rig(tmp_path) as rig:
        batches = rig.ledger.batches
        await batches.release(await sealed(rig, "a"), retry_at=0)
        await rig.clock.advance(169 * HOUR)

        async def full(*_: object) -> None:
            raise StorageFull("no room")

        monkeypatch.setattr(batches, "dissolve", full)
        await janitor_of(rig).round()
        assert len(await batches.claim([BatchState.SEALED], rig.clock.now() + HOUR, 1)) == 1


async def test_the_oldest_batches_are_given_up_first(tmp_path: Path) -> None:
    """However many newer batches wait as well, one that could not be sent for `give_up_hours` is taken apart."""
    async with open_rig(tmp_path) as rig:
        await rig.ledger.batches.release(await sealed(rig, "old"), retry_at=0)
        await rig.clock.advance(169 * HOUR)
        for number in range(30):
            await rig.ledger.batches.release(await sealed(rig, f"new {number}"), retry_at=0)
        await janitor_of(rig).round()
        assert [batch.state for batch in await rig.batches()] == [BatchState.DISSOLVED, *[BatchState.SEALED] * 30]


async def test_a_cancelled_batch_that_comes_back_unsent_is_not_sent(tmp_path: Path) -> None:
    """A batch in doubt whose requests are all cancelled, and that turns out not to be there, is taken apart."""
    async with open_rig(tmp_path) as rig:
        batches = rig.ledger.batches
        batch = await batches.doubt(await batches.intend(await sealed(rig, "a"), 0), "lost", 0)
        await rig.ledger.requests.cancel(1, rig.clock.now(), cancelled())
        await janitor_of(rig).round()
        (batch,) = await batches.claim([BatchState.RECONCILING], rig.clock.now(), 1)
        await batches.reseal(batch, rig.clock.now())
        await janitor_of(rig).round()
        assert await rig.states() == [RequestState.CANCELLED]


async def left(rig: Rig) -> None:
    """The one caller of request 1 hangs up."""
    mark = Departure(seq=1, at=rig.clock.now(), delivered=False, last=False)
    rig.waiters.leave(1, rig.waiters.attach(1), mark)
    await rig.waiters.fold()


@pytest.mark.parametrize(
    ("on_disconnect", "state"), [("keep", RequestState.QUEUED), ("cancel", RequestState.CANCELLED)]
)
async def test_abandoned_requests_are_kept_or_cancelled_as_configured(
    on_disconnect: str, state: RequestState, tmp_path: Path
) -> None:
    """With `on_disconnect = "cancel"` a queued request ends two minutes after its last caller left; else it runs on."""
    async with open_rig(tmp_path) as rig:
        janitor = janitor_of(rig, on_disconnect=on_disconnect)
        await rig.admit("a")
        await left(rig)
        await rig.clock.advance(119)
        await janitor.round()
        assert await rig.states() == [RequestState.QUEUED]
        await rig.clock.advance(2)
        await janitor.round()
        assert await rig.states() == [state]


async def test_who_came_back_is_not_cancelled(tmp_path: Path) -> None:
    """A request that somebody waits for again is not abandoned."""
    async with open_rig(tmp_path) as rig:
        janitor = janitor_of(rig, on_disconnect="cancel")
        await rig.admit("a")
        await left(rig)
        await rig.admit("a")
        await rig.clock.advance(500)
        await janitor.round()
        assert await rig.states() == [RequestState.QUEUED]


async def test_what_is_read_is_not_cancelled(tmp_path: Path) -> None:
    """A request is not abandoned while somebody waits for its result, nor for two minutes after, in case they ask again."""
    async with open_rig(tmp_path) as rig:
        janitor = janitor_of(rig, on_disconnect="cancel")
        await rig.admit("a")
        await left(rig)
        for _ in range(2):
            reader = rig.waiters.watch(1)
            await rig.clock.advance(300)
            await janitor.round()
            rig.waiters.unwatch(1, reader)
            await rig.clock.advance(119)
            await janitor.round()
            assert await rig.states() == [RequestState.QUEUED]
        await rig.clock.advance(2)
        await janitor.round()
        assert await rig.states() == [RequestState.CANCELLED]


async def test_a_sealed_batch_nobody_wants_falls_apart_unsent(tmp_path: Path) -> None:
    """When every request of a batch is cancelled before it is sent, nothing is sent, and its callers are told."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a", "b")
        await rig.ledger.batches.release(batch, retry_at=0)
        future = rig.waiters.attach(1)
        for seq in (1, 2):
            await rig.ledger.requests.cancel(seq, rig.clock.now(), cancelled())
        await janitor_of(rig).round()
        assert (await rig.batch()).state is BatchState.DISSOLVED
        assert await rig.states() == [RequestState.CANCELLED] * 2
        assert future.result().status == 410


async def test_a_batch_somebody_still_wants_is_sent(tmp_path: Path) -> None:
    """One request that is wanted keeps its batch together once its file is with the provider."""
    async with open_rig(tmp_path) as rig:
        batch = await rig.ledger.batches.uploaded(await sealed(rig, "a", "b"), "file-1")
        await rig.ledger.batches.release(batch, retry_at=0)
        await rig.ledger.requests.cancel(1, rig.clock.now(), cancelled())
        await janitor_of(rig).round()
        assert (await rig.batch()).state is BatchState.SEALED


async def test_what_ended_long_ago_is_forgotten(tmp_path: Path) -> None:
    """After `retention_days` an ended request is gone; what still waits is not, however old."""
    async with open_rig(tmp_path) as rig:
        janitor = janitor_of(rig, retention_days=1)
        await rig.admit("a", "b")
        await rig.ledger.requests.cancel(1, rig.clock.now(), cancelled())
        await rig.clock.advance(23 * HOUR)
        await janitor.round()
        assert len(await rig.states()) == 2
        await rig.clock.advance(2 * HOUR)
        await janitor.round()
        assert await rig.states() == [RequestState.QUEUED]
