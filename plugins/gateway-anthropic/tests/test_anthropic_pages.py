"""A list whose pages do not say whether there are more is read as the SDK reads it: until one is empty."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web
from anthropic_lab import speaking_to

from gateway import Batch

COUNTS = {"processing": 1, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}


def listed(count: int, start: int, *, told: dict[str, object]) -> web.Response:
    """Two of `count` batches, from the one after `start`."""
    ids = [f"msgbatch_{n}" for n in range(start, min(start + 2, count))]
    shown = [{"id": name, "processing_status": "in_progress", "request_counts": COUNTS} for name in ids]
    return web.json_response({"data": shown, "last_id": ids[-1] if ids else None, **told})


@pytest.mark.parametrize("told", [{}, {"has_more": None}], ids=["nothing", "null"])
async def test_pages_that_do_not_say_are_followed(told: dict[str, object], tmp_path: Path) -> None:
    """A candidate behind a page that says nothing of the next is found, and is not sent again."""

    async def show(request: web.Request) -> web.Response:
        after = request.query.get("after_id")
        return listed(5, 0 if after is None else int(after.removeprefix("msgbatch_")) + 1, told=told)

    batch = Batch(marker="m" * 20, endpoint="/v1/chat/completions", model="m", count=1, size=1, spool=tmp_path / "x")
    async with speaking_to(show, tmp_path) as (own, asked):
        found = await own.find(batch)

    assert [remote.remote_id for remote in found] == [f"msgbatch_{n}" for n in range(5)]
    assert len(asked) == 4
