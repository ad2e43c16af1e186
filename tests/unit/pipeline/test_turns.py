"""A provider that hangs keeps its own batches waiting, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.config import Cache as CacheConfig
from gateway.pipeline import poller as polling
from gateway.pipeline.collector import Collector, collecting
from gateway.records import RemoteBatch, RemoteState
from gateway.store.cache import Cache
from gateway.store.shipping import BatchRow
from gateway.testing import FakeClock, FakeProvider, FakeRemote
from tests.unit.pipeline.rig import Rig, open_rig
from tests.unit.pipeline.stages import poller_of
from tests.unit.pipeline.test_reconciler_ends import hanging, sealed_for, until


class HangingProvider(FakeProvider):
    """Its batches and its files never come, where the table is called so."""

    async def poll(self, remote: RemoteBatch) -> RemoteBatch:
        """Running, or nothing."""
        self.remote.enter("poll")
        await self._hang()
        return remote

    async def fetch(self, remote: RemoteBatch, to: Path) -> None:
        """No rows, or nothing."""
        self.remote.enter("fetch")
        await self._hang()
        to.touch()

    async def _hang(self) -> None:
        if self.name == "hanging":
            await asyncio.Event().wait()


@asynccontextmanager
async def open_two(directory: Path) -> AsyncIterator[tuple[Rig, FakeRemote]]:
    """A rig with a provider that hangs, and what that one was asked."""
    clock = FakeClock()
    remote = FakeRemote(clock=clock)
    async with open_rig(directory, tables=hanging(remote), clock=clock, plugin=HangingProvider) as rig:
        yield rig, remote


async def submitted(rig: Rig, provider: str, text: str) -> BatchRow:
    """A batch of this table that its provider is running."""
    batch = await rig.ledger.batches.claim_one((await sealed_for(rig, provider, text)).id)
    assert batch is not None
    batch = await rig.ledger.batches.intend(batch, rig.clock.now())
    remote = RemoteBatch(remote_id=text, state=RemoteState.RUNNING)
    return await rig.ledger.batches.submitted(batch, remote, rig.clock.now(), rig.clock.now())


async def ended(rig: Rig, provider: str, text: str) -> None:
    """A batch of this table whose results can be fetched."""
    batch = await rig.ledger.batches.claim_one((await submitted(rig, provider, text)).id)
    assert batch is not None
    await rig.ledger.batches.ended(batch, RemoteBatch(remote_id=text, state=RemoteState.ENDED), rig.clock.now())


@pytest.mark.parametrize("room", [True, False])
async def test_polls_that_hang_delay_no_other_account(
    room: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many batches a provider has that never answers, another one's are asked for at their time; on a short disk too."""
    async with open_two(tmp_path) as (rig, remote):
        for number in range(polling.AT_ONCE + 1):
            await submitted(rig, "hanging", f"q{number}")
        await submitted(rig, "fake", "other")
        monkeypatch.setattr(rig.ledger.database, "has_room", lambda: room)
        poller = poller_of(rig)

        async with asyncio.timeout(10):
            await poller.tick()
            await poller.tick()
            await until(rig.remote.calls, "poll")
        assert remote.calls["poll"] == polling.AT_ONCE


async def test_downloads_that_hang_delay_no_other_account(tmp_path: Path) -> None:
    """However many results a provider holds back, another one's are fetched."""
    async with open_two(tmp_path) as (rig, remote):
        for number in range(collecting.AT_ONCE + 1):
            await ended(rig, "hanging", f"q{number}")
        await ended(rig, "fake", "other")
        cache = Cache.open(tmp_path / "cache", CacheConfig())
        collector = Collector(rig.upstream, rig.waiters, cache, rig.retries, rig.tasks, ended=asyncio.Event())
        try:
            await collector.tick()
            await until(rig.remote.calls, "fetch")
        finally:
            cache.close()
        assert remote.calls["fetch"] == collecting.AT_ONCE
