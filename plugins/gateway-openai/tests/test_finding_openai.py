"""A list that was not read to its end is no list."""

from __future__ import annotations

from pathlib import Path

import pytest
from openai_lab import CHAT, MARKER, provider_at

from gateway import Batch, Retryable
from gateway.listing import Page
from gateway.testing import saying
from gateway_openai import OpenAIProvider
from gateway_openai.groq import GroqProvider


class Endless(OpenAIProvider):
    """An account whose list goes on and on."""

    async def page(self, after: str | None) -> Page:
        """One more, and another one after it."""
        return Page(items=[{"id": f"batch_{after}", "created_at": 1, "status": "completed"}], after=f"{after}x")


def batch_in(directory: Path) -> Batch:
    """One to look for."""
    return Batch(marker=MARKER, endpoint=CHAT, model="m", count=1, size=1, spool=directory / "x")


async def test_a_list_that_never_ends_is_no_empty_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pages there are: ours may stand on the next one, so that it is not sent again."""
    monkeypatch.setattr("gateway.listing.MOST_PAGES", 3)
    async with provider_at("http://127.0.0.1:9/v1", tmp_path, Endless) as provider:
        with pytest.raises(Retryable):
            await provider.find(batch_in(tmp_path))


@pytest.mark.parametrize("kind", [OpenAIProvider, GroqProvider])
async def test_a_list_that_says_it_goes_on_is_not_at_its_end(kind: type[OpenAIProvider], tmp_path: Path) -> None:
    """An empty page that has `has_more` is no end: ours may stand behind it, so that it is not sent again."""
    page = '{"object": "list", "data": [], "has_more": true, "last_id": null}'
    async with saying(page) as url, provider_at(f"{url}/v1", tmp_path, kind) as provider:
        with pytest.raises(Retryable, match="goes on"):
            await provider.find(batch_in(tmp_path))
