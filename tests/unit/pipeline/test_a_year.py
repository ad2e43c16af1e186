"""A year passes over every state, with the provider gone for good in every way: whatever was accepted ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import pytest
from msgspec.structs import replace

from gateway.config import ProviderTable, Retries
from gateway.endings import cancelled
from gateway.errors import Missing, Retryable, Unauthorised
from gateway.records import Batch, BatchState, RemoteBatch, RemoteState, RequestState, Result
from gateway.store.rows import LaneKey
from gateway.testing import FakeProvider
from gateway.troubles import OVERDUE_SECONDS
from tests.unit.pipeline.rig import CHAT, arrival
from tests.unit.pipeline.single import Server, SingleProvider
from tests.unit.pipeline.works import Works, open_works

HOUR = 3_600.0
DAY = 24 * HOUR
YEAR = 365 * DAY
STEP = 12 * HOUR
GIVE_UP_HOURS = Retries().give_up_hours
#: The provider's window, a day for it to end what it began, and as long as anybody waits.
LONGEST = DAY + OVERDUE_SECONDS + GIVE_UP_HOURS * HOUR


class FickleProvider(FakeProvider):
    """Works until it is told how to be gone."""

    way: ClassVar[str] = ""

    def _gone(self, *, forgets: bool = False) -> None:
        match self.way:
            case "silent":
                raise Retryable("connection refused")
            case "revoked":
                raise Unauthorised("this key was revoked")
            case "broken":
                raise KeyError("a bug in the plugin")
            case "forgetful" if forgets:
                raise Missing("no such batch")

    async def upload(self, batch: Batch) -> str | None:
        """As it is told."""
        self._gone()
        return await super().upload(batch)

    async def submit(self, batch: Batch) -> RemoteBatch:
        """As it is told."""
        self._gone()
        if self.way in {"forgetful", "endless"}:
            raise Retryable("try later")
        return await super().submit(batch)

    async def find(self, batch: Batch) -> list[RemoteBatch]:
        """As it is told."""
        self._gone()
        return [] if self.way == "forgetful" else await super().find(batch)

    async def poll(self, remote: RemoteBatch) -> RemoteBatch:
        """As it is told."""
        self._gone(forgets=True)
        if self.way == "endless":
            return RemoteBatch(remote_id=remote.remote_id, state=RemoteState.RUNNING)
        return await super().poll(remote)

    async def fetch(self, remote: RemoteBatch, to: Path) -> None:
        """As it is told."""
        self._gone(forgets=True)
        if self.way == "endless":
            raise Retryable("not yet")
        await super().fetch(remote, to)

    async def cancel(self, remote: RemoteBatch) -> None:
        """As it is told; nobody who never ends listens."""
        self._gone(forgets=True)
        if self.way != "endless":
            await super().cancel(remote)

    def decode(self, row: bytes) -> Result:
        """A bug strikes here, too."""
        if self.way == "broken":
            raise KeyError("a bug in the plugin")
        return super().decode(row)


async def reach(works: Works, state: BatchState) -> None:
    """Turn the clock until the one batch is in this state."""
    while not await works.rig.batches(state):
        await works.look()
        await works.rig.clock.advance(10)


async def queued(works: Works) -> None:
    """Two requests wait in their window."""
    await works.rig.admit("a", "b")


async def returned(works: Works) -> None:
    """One line is back in its lane, and waits for its time."""
    works.rig.remote.statuses["a"] = 500
    await queued(works)
    await reach(works, BatchState.COLLECTED)


async def sealed(works: Works) -> None:
    """A batch whose file could not be uploaded so far."""
    works.rig.remote.before["upload"].extend([Retryable("later")] * 5)
    await queued(works)
    await reach(works, BatchState.SEALED)


async def submitting(works: Works) -> None:
    """The intent to create is durable, and its process is over."""
    await sealed(works)
    works.rig.remote.before["upload"].clear()
    [batch] = await works.rig.batches()
    claimed = await works.rig.ledger.batches.claim_one(batch.id)
    assert claimed is not None
    now = works.rig.clock.now()
    claimed = await works.rig.ledger.batches.intend(claimed, now)
    await works.rig.ledger.batches.release(claimed, retry_at=now)


async def submitted(works: Works) -> None:
    """The provider is at work."""
    await queued(works)
    await reach(works, BatchState.SUBMITTED)


async def unwanted(works: Works) -> None:
    """The provider is at work on what nobody wants any more."""
    await submitted(works)
    for seq in (1, 2):
        await works.rig.ledger.requests.cancel(seq, works.rig.clock.now(), cancelled())


async def reconciling(works: Works) -> None:
    """Nobody knows whether it was created."""
    works.rig.remote.after["submit"].append(TimeoutError())  # type: ignore[arg-type]
    works.rig.remote.before["find"].append(Retryable("later"))
    await queued(works)
    await reach(works, BatchState.RECONCILING)


async def ended(works: Works) -> None:
    """The results are there, and have not been fetched."""
    works.rig.remote.before["fetch"].extend([Retryable("later")] * 3)
    await queued(works)
    await reach(works, BatchState.ENDED)


async def family(works: Works) -> None:
    """One call for two answers; its children are at work."""
    await works.rig.ledger.requests.admit([replace(arrival("a"), times=2)])
    await reach(works, BatchState.SUBMITTED)


STATES: tuple[Callable[[Works], Awaitable[None]], ...] = (
    queued, returned, sealed, submitting, submitted, unwanted, reconciling, ended, family,
)  # fmt: skip
WAYS = ("unconfigured", "silent", "revoked", "broken", "forgetful", "endless")


def go(works: Works, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider is gone from now on."""
    monkeypatch.setattr(FickleProvider, "way", way)
    if way == "unconfigured":
        left = {name: each for name, each in works.rig.router.providers.items() if name != "fake"}
        monkeypatch.setattr(works.rig.router, "providers", MappingProxyType(left))


@pytest.mark.timeout(30)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("reached", STATES, ids=lambda reached: reached.__name__)
async def test_whatever_was_accepted_ends(
    reached: Callable[[Works], Awaitable[None]], way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whichever state a request is when its provider goes for good, it ends in time, and nothing is sent twice for it."""
    async with open_works(tmp_path, plugin=FickleProvider) as works:
        await reached(works)
        before = dict(works.rig.remote.submitted)
        go(works, way, monkeypatch)
        passed = await works.until_over(step_seconds=STEP, at_most_seconds=YEAR)
        assert passed <= LONGEST + 2 * STEP
        assert works.rig.remote.submitted == before
        states = set(await works.rig.states())
        without_answer = RequestState.CANCELLED if reached is unwanted else RequestState.EXPIRED
        assert states <= {RequestState.SUCCEEDED, without_answer}
        assert works.rig.faults == []


GONE = {"down": Retryable("connection refused"), "revoked": Unauthorised("revoked"), "timed out": TimeoutError()}


@pytest.mark.parametrize("way", ["unconfigured", "down", "revoked", "timed out"])
async def test_what_is_asked_one_by_one_ends(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without batches that is gone for good leaves nothing waiting either."""
    server = Server()
    table = ProviderTable(name="single", kind="single", settings={"api_key": "fake-key", "server": server})
    async with open_works(tmp_path, kinds={"single": SingleProvider}, tables={"single": table}) as works:
        lane = LaneKey(provider="single", endpoint=CHAT, model="m")
        await works.rig.ledger.requests.admit([replace(arrival(text), lane=lane) for text in ("a", "b")])
        server.open.set()
        server.down = GONE.get(way)
        if way == "unconfigured":
            monkeypatch.setattr(works.rig.router, "providers", MappingProxyType({}))
        passed = await works.until_over(step_seconds=STEP, at_most_seconds=YEAR)
        assert passed <= GIVE_UP_HOURS * HOUR + 2 * STEP
        assert set(await works.rig.states()) == {RequestState.EXPIRED}


async def test_an_outage_of_a_day_fails_nothing_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a provider is down requests wait, sent or not; then everything is answered once, at the first attempt."""
    async with open_works(tmp_path, plugin=FickleProvider, retries=Retries(max_attempts=1)) as works:
        await submitted(works)
        go(works, "silent", monkeypatch)
        await works.rig.admit("c", "d")
        for _ in range(int(20 * HOUR / 1_200)):
            await works.look()
            await works.rig.clock.advance(1_200)
        assert set(await works.rig.states()) == {RequestState.BATCHED}
        monkeypatch.setattr(FickleProvider, "way", "")
        await works.until_over(step_seconds=1_200, at_most_seconds=DAY)
        assert set(await works.rig.states()) == {RequestState.SUCCEEDED}
        assert works.rig.remote.duplicates() == {}


async def test_results_are_waited_for_until_the_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that comes back after nine days, just before its batches are given up, still delivers what it has."""
    async with open_works(tmp_path, plugin=FickleProvider) as works:
        await submitted(works)
        go(works, "silent", monkeypatch)
        for _ in range(int(LONGEST / STEP) - 1):
            await works.look()
            await works.rig.clock.advance(STEP)
        assert set(await works.rig.states()) == {RequestState.BATCHED}
        monkeypatch.setattr(FickleProvider, "way", "")
        await works.until_over(step_seconds=300, at_most_seconds=DAY)
        assert set(await works.rig.states()) == {RequestState.SUCCEEDED}
        assert works.rig.remote.duplicates() == {}
