"""Two tables of one account without markers, one with a key that is refused: its doubt does not stop the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from gateway.config import ProviderTable
from gateway.errors import ProviderError, Rejected, Retryable, Unauthorised
from gateway.records import Batch, BatchState, RemoteBatch, RequestState, new_marker
from gateway.store.shipping import Cut
from gateway.testing import FakeClock, FakeRemote
from tests.unit.pipeline.test_candidates import UnmarkedProvider, open_gate
from tests.unit.pipeline.works import Works, open_works

__all__ = ["open_gate"]


class RotatedProvider(UnmarkedProvider):
    """The key of the table `one` was revoked; what the list of the other says can be ordered."""

    says: ClassVar[ProviderError | None] = None

    async def find(self, batch: Batch) -> list[RemoteBatch]:
        """As ever, or refused."""
        if self.name == "one":
            raise Unauthorised("status 401, the key is not accepted")
        found = await super().find(batch)
        if self.says is not None:
            raise self.says
        return found


@asynccontextmanager
async def one_in_doubt(directory: Path) -> AsyncIterator[tuple[Works, FakeRemote]]:
    """A create of table `one` whose outcome nobody knows, and a request for table `two`."""
    clock = FakeClock()
    remote = FakeRemote(clock=clock)
    settings = {"api_key": "fake-key", "remote": remote}
    names = ("one", "two")
    tables = {name: ProviderTable(name=name, kind="fake", account="shared", settings=settings) for name in names}
    async with open_works(directory, plugin=RotatedProvider, tables=tables, clock=clock) as works:
        rig, batches = works.rig, works.rig.ledger.batches
        await rig.admit("a", provider="one")
        [window] = await rig.ledger.lanes.windows()
        home = rig.router.providers["one"].home
        sealed = await batches.seal(window.lane_id, Cut(), new_marker(), "shared", home, clock.now())
        assert sealed is not None
        lost = await batches.claim_one(sealed.id)
        assert lost is not None
        await batches.doubt(await batches.intend(lost, clock.now()), "lost", clock.now())
        await rig.admit("b", provider="two")
        yield works, remote


async def look_for(works: Works, minutes: int) -> None:
    """Every stage looks once a minute."""
    for _ in range(minutes):
        await works.look()
        await works.rig.clock.advance(60)


async def test_a_refused_key_holds_up_no_other_table_of_its_account(tmp_path: Path) -> None:
    """The other table's key reads the same list: it is read with that one, and then created."""
    async with one_in_doubt(tmp_path) as (works, remote):
        await look_for(works, 20)
        assert await works.rig.states() == [RequestState.BATCHED, RequestState.SUCCEEDED]
        assert (await works.rig.batches())[0].state is BatchState.RECONCILING
        assert remote.calls["submit"] == 1


@pytest.mark.parametrize("error", [Retryable("status 503"), Rejected("status 400")])
async def test_nothing_is_created_before_the_list_has_been_read(
    error: ProviderError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that cannot be read, or is refused, is none: the other table waits, and its batch stays whole."""
    monkeypatch.setattr(RotatedProvider, "says", error)
    async with one_in_doubt(tmp_path) as (works, remote):
        await look_for(works, 30)
        assert [row.state for row in await works.rig.batches()] == [BatchState.RECONCILING, BatchState.SEALED]
        assert remote.calls["submit"] == 0
        # It is not asked at every moment.
        assert remote.calls["find"] <= 15
