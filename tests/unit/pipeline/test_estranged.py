"""What was made for a table that is another provider now waits where it is, and says why: nothing of it is sent or deleted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from gateway.config import Server, Storage
from gateway.endings import cancelled
from gateway.pipeline.discarder import Discarder
from gateway.pipeline.janitor import Janitor
from gateway.records import RemoteBatch, RemoteState, RequestState, new_marker
from gateway.store.rows import LaneKey
from gateway.store.shipping import Cut
from tests.unit.pipeline.rig import CHAT, Rig, arrival, claimed, open_rig
from tests.unit.pipeline.single import open_shop

#: The kind of a lane, whether its table is simulated now, and what its callers are told to do.
ESTRANGED = [
    ("sandbox:fake", False, "set sandbox = true again"),
    ("sandbox:", False, "set sandbox = true again"),
    ("fake", True, "remove sandbox = true"),
    ("", True, "remove sandbox = true"),
    ("strange", False, "its kind was 'strange': set that kind again"),
    ("sandbox:strange", True, "its kind was 'strange': set that kind again"),
]
AT_HOME = [("fake", False), ("", False), ("sandbox:fake", True), ("sandbox:", True)]


async def queue(rig: Rig, text: str, kind: str, provider: str = "fake") -> None:
    """One request in the lane of this kind."""
    lane = LaneKey(provider=provider, endpoint=CHAT, model="m", kind=kind)
    await rig.ledger.requests.admit([changed(arrival(text), lane=lane)])


def simulate(rig: Rig, provider: str = "fake", *, now: bool = True) -> None:
    """Set `sandbox` in a provider's table."""
    found = rig.router.providers[provider]
    found.table = replace(found.table, sandbox=now)


@pytest.mark.parametrize(("kind", "simulated", "advice"), ESTRANGED)
async def test_what_was_queued_for_another_is_not_sealed(
    kind: str, simulated: bool, advice: str, tmp_path: Path
) -> None:
    """Its callers are told why it waits and what to do; what is queued beside it for the provider as it is goes out."""
    async with open_rig(tmp_path) as rig:
        simulate(rig, now=simulated)
        await queue(rig, "estranged", kind)
        await queue(rig, "at home", rig.router.providers["fake"].lane_kind)
        batcher = rig.batcher()
        for _ in range(3):
            await rig.clock.advance(61)
            await batcher.tick()
        waits, sent = await rig.ledger.requests.listed(None)
        assert (waits.batch, sent.batch) == (None, 1)
        assert advice in (waits.parked_reason or "")
        assert "batchway cancel" in (waits.parked_reason or "")
        # The operator does as he is told.
        found = rig.router.providers["fake"]
        found.table = replace(
            found.table, sandbox=kind.startswith("sandbox:"), kind=kind.partition(":")[2] or kind or "fake"
        )
        await rig.clock.advance(61)
        await batcher.tick()
        waits, _ = await rig.ledger.requests.listed(None)
        assert (waits.batch, waits.parked_reason) == (2, None)


@pytest.mark.parametrize(("kind", "simulated"), AT_HOME)
async def test_what_is_at_home_is_sealed(kind: str, simulated: bool, tmp_path: Path) -> None:
    """A lane of the table as it is goes out, also one from a ledger that did not know kinds."""
    async with open_rig(tmp_path) as rig:
        simulate(rig, now=simulated)
        await queue(rig, "at home", kind)
        await rig.clock.advance(61)
        await rig.batcher().tick()
        assert (await rig.batch()).lane.kind == kind


@pytest.mark.parametrize(
    ("kind", "simulated"), [("sandbox:single", False), ("single", True), ("fake", False), ("", True)]
)
async def test_what_was_queued_for_another_is_not_asked(kind: str, simulated: bool, tmp_path: Path) -> None:
    """The same where requests are asked one by one: also what was to go in a batch, under another kind."""
    async with open_shop(tmp_path) as shop:
        simulate(shop.rig, "single", now=simulated)
        await queue(shop.rig, "estranged", kind, "single")
        await queue(shop.rig, "at home", shop.rig.router.providers["single"].lane_kind, "single")
        for _ in range(3):
            await shop.finish()
            await shop.rig.clock.advance(61)
        assert shop.server.asked == ["at home"]
        [waits] = [each for each in await shop.rig.ledger.requests.listed(None) if not each.state.ended]
        assert "provider 'single'" in (waits.parked_reason or "")


@pytest.mark.parametrize(("kind", "simulated", "advice"), ESTRANGED)
async def test_a_batch_for_another_is_left_alone(kind: str, simulated: bool, advice: str, tmp_path: Path) -> None:
    """A batch that was made when its table was another provider is parked with the reason, and no file of it is deleted."""
    async with open_rig(tmp_path) as rig:
        provider = rig.router.providers["fake"]
        provider.table = replace(provider.table, sandbox=kind.startswith("sandbox:"))
        await queue(rig, "a", kind)
        await rig.clock.advance(61)
        batch = await rig.ledger.batches.seal(1, Cut(), new_marker(), provider.account, provider.home, rig.clock.now())
        assert batch is not None
        batch = await rig.ledger.batches.uploaded(await claimed(rig), "file-1")
        simulate(rig, now=simulated)
        assert await rig.upstream.side(batch) is None
        assert advice in ((await rig.batch()).parked_reason or "")
        rig.remote.files["file-1"] = b"somebody's, where the provider is now"
        await rig.ledger.batches.dissolve(await claimed(rig), rig.clock.now(), {})
        await Discarder(rig.upstream, 900.0).round()
        assert rig.remote.files
        assert not await rig.ledger.batches.undiscarded(rig.clock.now(), 10)


@pytest.mark.parametrize("gone", [True, False])
async def test_what_is_left_of_a_rehearsal_can_be_cancelled(gone: bool, tmp_path: Path) -> None:
    """A batch at work in a simulator that is gone ends with the operator's wish: nobody is there to be asked to stop it."""
    async with open_rig(tmp_path) as rig:
        simulate(rig)
        provider = rig.router.providers["fake"]
        await queue(rig, "a", "sandbox:fake")
        await rig.clock.advance(61)
        batches, now = rig.ledger.batches, rig.clock.now()
        assert await batches.seal(1, Cut(), new_marker(), provider.account, provider.home, now)
        batch = await batches.intend(await claimed(rig), now)
        await batches.submitted(batch, RemoteBatch(remote_id="r-1", state=RemoteState.RUNNING), now, now)
        simulate(rig, now=not gone)
        [request] = await rig.ledger.requests.listed(None)
        await rig.ledger.requests.cancel(request.seq, now, cancelled())
        await Janitor(rig.upstream, rig.waiters, Server(port=0), Storage(), rig.retries).round()
        states = [RequestState.CANCELLED if gone else RequestState.BATCHED]
        assert (await rig.states(), (await rig.batch()).cancel_at is None) == (states, gone)
