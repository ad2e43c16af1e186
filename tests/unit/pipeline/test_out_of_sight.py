"""Batches that go missing together, in several tables of one account: a wrong key or address is never paid for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from gateway.config import ProviderTable
from gateway.errors import Missing
from gateway.records import Batch, BatchState, RemoteBatch
from gateway.testing import FakeClock, FakeProvider, FakeRemote
from tests.unit.pipeline.works import Works, open_works

HOUR = 3_600.0


class MovedProvider(FakeProvider):
    """The keys of some tables were changed for those of another project: they know no batch, and list none."""

    moved: ClassVar[frozenset[str]] = frozenset()

    async def poll(self, remote: RemoteBatch) -> RemoteBatch:
        """As ever, or unknown."""
        if self.name in self.moved:
            raise Missing("no such batch")
        return await super().poll(remote)

    async def find(self, batch: Batch) -> list[RemoteBatch]:
        """As ever, or nothing."""
        return [] if self.name in self.moved else await super().find(batch)


@asynccontextmanager
async def two_at_work(directory: Path, *names: str) -> AsyncIterator[tuple[Works, FakeRemote]]:
    """Two long batches of one account, of these tables."""
    clock = FakeClock()
    remote = FakeRemote(clock=clock, turnaround_seconds=20 * HOUR)
    settings = {"api_key": "fake-key", "remote": remote}
    tables = {name: ProviderTable(name=name, kind="fake", account="shared", settings=settings) for name in names}
    async with open_works(directory, plugin=MovedProvider, tables=tables, clock=clock) as works:
        for text, name in enumerate(names if len(names) > 1 else names * 2):
            await works.rig.admit(f"q{text}", provider=name)
            await look_for(works, 600)
        assert remote.calls["submit"] == 2
        yield works, remote


async def look_for(works: Works, seconds: float) -> None:
    """Every stage looks once in two minutes, for so long."""
    for _ in range(int(seconds // 120)):
        await works.look()
        await works.rig.clock.advance(120)


@pytest.mark.parametrize("names", [("one",), ("one", "two")])
async def test_all_batches_of_an_account_missing_at_once_are_not_sent_again(
    names: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whichever of its tables they went: key or project is wrong, and the batches run on."""
    async with two_at_work(tmp_path, *names) as (works, remote):
        monkeypatch.setattr(MovedProvider, "moved", frozenset(names))
        await look_for(works, 3 * HOUR)
        assert remote.calls["submit"] == 2
        assert all("every open batch" in (row.parked_reason or "") for row in await works.rig.batches())

        monkeypatch.setattr(MovedProvider, "moved", frozenset())
        await look_for(works, HOUR)
        assert {row.state for row in await works.rig.batches()} == {BatchState.SUBMITTED}
        assert remote.calls["submit"] == 2


async def test_keys_that_are_put_right_one_by_one_have_nothing_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That one table sees its batch again does not say that another one's key is right."""
    async with two_at_work(tmp_path, "one", "two") as (works, remote):
        monkeypatch.setattr(MovedProvider, "moved", frozenset({"one", "two"}))
        await look_for(works, HOUR)
        monkeypatch.setattr(MovedProvider, "moved", frozenset({"one"}))
        await look_for(works, 2 * HOUR)
        assert [row.state for row in await works.rig.batches()] == [BatchState.RECONCILING, BatchState.SUBMITTED]
        assert remote.calls["submit"] == 2


async def test_what_is_gone_while_another_table_sees_its_own_is_sent_again(tmp_path: Path) -> None:
    """The account is in sight, so two empty listings are believed."""
    async with two_at_work(tmp_path, "one", "two") as (works, remote):
        del remote.batches["fake-1"]
        await look_for(works, HOUR)
        assert remote.calls["submit"] == 3


async def test_a_table_that_is_not_in_use_holds_no_other(tmp_path: Path) -> None:
    """Nobody looks for the batch of a table without a key: it does not say that the account is out of sight."""
    async with two_at_work(tmp_path, "one", "two") as (works, remote):
        works.rig.router.providers["two"]._reason = "no key"
        await look_for(works, 600)
        del remote.batches["fake-1"]
        await look_for(works, HOUR)
        assert remote.calls["submit"] == 3
