"""A request that could never be sent is refused at the door, over HTTP."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

from gateway.config import ProviderTable
from tests.integration.house import open_house


async def test_what_is_larger_than_the_whole_limit_gets_a_400(tmp_path: Path) -> None:
    """It is told how large it is and what the limit is; nothing is recorded, and smaller requests are answered."""
    limits = {"min_poll_seconds": 0.01, "max_enqueued_tokens": MappingProxyType({"sim-small": 200})}
    table = ProviderTable(name="sim", kind="openai", sandbox=True, limits=limits)
    async with open_house(tmp_path, providers=MappingProxyType({"sim": table})) as house:
        refused = await house.ask("word " * 500)
        assert (refused.status, refused.code) == (400, "too_many_tokens")
        assert "200" in refused.body["error"]["message"]
        assert refused.headers["x-should-retry"] == "false"
        assert await house.gateway.ledger.requests.listed(None) == []
        assert (await house.ask("a word")).status == 200
