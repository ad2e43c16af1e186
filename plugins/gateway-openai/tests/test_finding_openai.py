"""A list that was not read to its end is no list."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web

from gateway import Batch, Retryable
from gateway.listing import Page
from gateway.testing import FakeClock
from gateway_openai import OpenAIProvider
from gateway_openai.groq import GroqProvider
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


@pytest.mark.parametrize("kind", [OpenAIProvider, GroqProvider])
async def test_a_list_that_says_it_goes_on_is_not_at_its_end(kind: type[OpenAIProvider], tmp_path: Path) -> None:
    """An empty page that has `has_more` is no end: ours may stand behind it, so that it is not sent again."""
    app = web.Application()

    async def page(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [], "has_more": True, "last_id": None})

    app.router.add_get("/v1/batches", page)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    provider = kind("x", kind.Settings.model_validate({"api_key": "k", "base_url": url}), FakeClock(), tmp_path)
    batch = Batch(marker="m" * 20, endpoint="/v1/chat/completions", model="m", count=1, size=1, spool=tmp_path / "x")
    try:
        with pytest.raises(Retryable, match="goes on"):
            await provider.find(batch)
    finally:
        await provider.aclose()
        await runner.cleanup()
