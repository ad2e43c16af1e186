"""A lane without its provider is parked: who is told so, and until when."""

from __future__ import annotations

from pathlib import Path

from structlog.testing import capture_logs

from gateway.config import ProviderTable
from gateway.testing import FakeClock, FakeRemote
from tests.unit.pipeline.rig import open_rig


async def test_a_lane_whose_provider_is_back_is_not_said_to_wait(tmp_path: Path) -> None:
    """Once a provider can be used again, nobody is told that his queued request waits for it."""
    clock = FakeClock()
    remote = FakeRemote(clock=clock)
    disabled = {"later": ProviderTable(name="later", kind="fake", settings={"remote": remote})}
    enabled = {"later": ProviderTable(name="later", kind="fake", settings={"remote": remote, "api_key": "fake-key"})}
    async with open_rig(tmp_path, tables=disabled, clock=clock) as rig:
        await rig.admit("a", provider="later")
        await rig.batcher().tick()
        (request,) = await rig.ledger.requests.listed(None)
        assert "api_key" in (request.parked_reason or "")
    async with open_rig(tmp_path, tables=enabled, clock=clock) as rig:
        await clock.advance(60)
        await rig.admit("b", provider="later")
        await rig.batcher().tick()
        await rig.admit("c", provider="later")
        reasons = [request.parked_reason for request in await rig.ledger.requests.listed(None)]
        assert reasons == [None, None, None]
        assert (await rig.batch()).count == 2


async def test_a_lane_that_is_parked_is_logged_once_for_each_reason(tmp_path: Path) -> None:
    """A lane without its provider is told of when it is parked, not at every look, and again when it is parked anew."""
    async with open_rig(tmp_path) as rig:
        batcher, provider = rig.batcher(), rig.router.providers["fake"]
        await rig.admit("lost", provider="never configured")
        await rig.admit("a")
        with capture_logs() as logs:
            for reason in ("no key", "no key", "no plugin", None, "no plugin"):
                provider._reason = reason
                await batcher.tick()
                await rig.clock.advance(61)
                await rig.admit(f"with {len(logs)}")
        told = [(log["provider"], log["reason"]) for log in logs if log["event"] == "lane_parked"]
        assert told == [
            ("never configured", "provider is not configured"),
            ("fake", "no key"),
            ("fake", "no plugin"),
            ("fake", "no plugin"),
        ]
