"""Lists whose pages do not say whether there are more are read as the SDK reads them: until one is empty."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from aiohttp import web
from openai import AsyncOpenAI
from openai_lab import CHAT, MARKER, provider_at

from gateway import Batch
from gateway.testing import served
from gateway_openai.listing import MARKER_KEY

#: Newest first; the last one is ours.
BATCHES = [
    {
        "id": f"batch_{n:02}",
        "object": "batch",
        "status": "completed",
        "metadata": {MARKER_KEY: MARKER} if n == 44 else None,
    }
    for n in range(45)
]


def account(told: Mapping[str, object], *, most: int, deaf: bool = False) -> web.Application:
    """A service that shows at most so many batches at once, and says `told` beside them; a `deaf` one begins anew each time."""

    async def show(request: web.Request) -> web.Response:
        ids = [each["id"] for each in BATCHES]
        after = None if deaf else request.query.get("after")
        start = 0 if after is None else ids.index(after) + 1
        return web.json_response({"object": "list", "data": BATCHES[start : start + most], **told})

    app = web.Application()
    app.router.add_get("/v1/batches", show)
    return app


def wanted(directory: Path) -> Batch:
    """The batch that is looked for."""
    return Batch(marker=MARKER, endpoint=CHAT, model="m", count=1, size=1, spool=directory / "x")


@pytest.mark.parametrize("told", [{}, {"has_more": None}], ids=["nothing", "null"])
@pytest.mark.parametrize("most", [20, 100])
async def test_pages_that_do_not_say_are_followed(told: Mapping[str, object], most: int, tmp_path: Path) -> None:
    """A batch behind a page that says nothing of the next is found, also where fewer are shown than were asked for."""
    async with served(account(told, most=most)) as url, provider_at(f"{url}/v1", tmp_path) as provider:
        found = await provider.find(wanted(tmp_path))
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as sdk:
            listed = [batch.id async for batch in sdk.batches.list(limit=100)]

    assert [remote.remote_id for remote in found] == ["batch_44"]
    assert listed[-1] == "batch_44"


async def test_a_service_without_pages_has_one(tmp_path: Path) -> None:
    """The same page a second time is the end of a list whose service knows no pages, and no list without an end."""
    async with served(account({}, most=20, deaf=True)) as url, provider_at(f"{url}/v1", tmp_path) as provider:
        assert await provider.find(wanted(tmp_path)) == []
