"""A list that was not read to its end is no list."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import Batch, Retryable
from gateway.listing import Page
from gateway.testing import FakeClock
from gateway_anthropic import AnthropicProvider
from gateway_anthropic.settings import AnthropicSettings


class Endless(AnthropicProvider):
    """A workspace whose list goes on and on."""

    async def _page(self, after: str | None) -> Page:
        return Page(items=[{"id": f"msgbatch_{after}"}], after=f"{after}x")


async def test_a_list_that_never_ends_is_no_empty_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pages there are: ours may stand on the next one, so that it is not sent again."""
    monkeypatch.setattr("gateway.listing.MOST_PAGES", 3)
    provider = Endless("x", AnthropicSettings.model_validate({"api_key": "k"}), FakeClock(), tmp_path)
    batch = Batch(marker="m" * 20, endpoint="/v1/chat/completions", model="m", count=1, size=1, spool=tmp_path / "x")
    with pytest.raises(Retryable):
        await provider.find(batch)
    await provider.aclose()
