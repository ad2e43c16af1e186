"""A list that is none says of no batch that it is not there: `find` finds nothing only in a list that was read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from aiohttp import web

from gateway import Provider, Retryable
from gateway.testing import served
from gateway_gemini import GeminiProvider
from gateway_openai import register_providers
from gateway_vertex import VertexProvider
from tests.integration.test_redirects import OTHERS, provider_at, sealed

KINDS: Sequence[type[Provider]] = [kind for kind in (*register_providers(), *OTHERS) if kind.batch]
NO_LISTS = [
    *('{"status": "ok"}', '{"error": {"code": 500, "message": "busy"}}', '{"data": {}, "operations": {}}'),
    *('{"batchPredictionJobs": "none"}', '"x"', "ok", ""),
]
NO_ITEMS = ["{}", '{"nextPageToken": ""}', '{"unreachable": []}']


async def found_in(kind: type[Provider], directory: Path, answers: Sequence[str]) -> list[object]:
    """What `find` finds, or raises, when it is answered so, one time after the other."""
    left = list(answers)

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=left[0], content_type="application/json")

    came: list[object] = []
    async with served(answer) as url, provider_at(kind, url, directory) as provider:
        batch = sealed(provider, directory)
        while left:
            try:
                came.append(await provider.find(batch))
            except Retryable as error:
                came.append(type(error))
            del left[0]
    return came


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
async def test_what_is_no_list_is_no_empty_list(kind: type[Provider], tmp_path: Path) -> None:
    """What a proxy answers in place of a list, with a 200, is no reason to send a batch again."""
    assert await found_in(kind, tmp_path, NO_LISTS) == [Retryable] * len(NO_LISTS)


@pytest.mark.parametrize("kind", [GeminiProvider, VertexProvider], ids=lambda kind: kind.kind)
async def test_a_list_without_items_may_not_name_them(kind: type[Provider], tmp_path: Path) -> None:
    """Google leaves out fields that are empty: a list of nothing is an empty object."""
    assert await found_in(kind, tmp_path, NO_ITEMS) == [[]] * len(NO_ITEMS)
