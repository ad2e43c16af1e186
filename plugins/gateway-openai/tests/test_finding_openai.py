"""A list that was not read to its end is no list."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import Batch, Retryable
from gateway.listing import Page
from gateway.testing import FakeClock
from gateway_openai import OpenAIProvider
from gateway_openai.settings import OpenAISettings


class Endless(OpenAIProvider):
    """An account whose list goes on and on."""

    async def page(self, after: str | None) -> Page:
        """One more, and another one after it."""
        return Page(items=[{"id": f"batch_{after}", "created_at": 1, "status": "completed"}], after=f"{after}x")


async def test_a_list_that_never_ends_is_no_empty_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pages there are: ours may stand on the next one, so that it is not sent again."""
    monkeypatch.setattr("gateway.listing.MOST_PAGES", 3)
    settings = OpenAISettings.model_validate({"api_key": "k", "base_url": "http://127.0.0.1:9/v1"})
    provider = Endless("x", settings, FakeClock(), tmp_path)
    batch = Batch(marker="m" * 20, endpoint="/v1/chat/completions", model="m", count=1, size=1, spool=tmp_path / "x")
    with pytest.raises(Retryable):
        await provider.find(batch)
    await provider.aclose()
