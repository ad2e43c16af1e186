"""What a server in between says of a create call or an upload, told from the provider's own words by every kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from gateway import Ambiguous, Provider, ProviderError, Retryable
from gateway.testing import saying, served
from gateway_openai import register_providers
from tests.integration.test_redirects import OTHERS, provider_at, sealed

KINDS: Sequence[type[Provider]] = [kind for kind in (*register_providers(), *OTHERS) if kind.batch]
#: Kinds that send files to the address that they send everything to.
FILING = [kind for kind in KINDS if kind.kind not in ("anthropic", "vertex")]
PAGE = "<html><head><title>404 Not Found</title></head></html>"
#: A page for browsers, what servers written in Go say, a router of Python's, an empty answer.
REFUSALS = [(404, PAGE), (404, "404 page not found"), (404, '{"detail":"Not Found"}'), (400, PAGE), (405, "")]
CANCELLED = '{"error": {"code": 499, "message": "The operation was cancelled.", "status": "CANCELLED", "type": "x"}}'


async def submitted(kind: type[Provider], directory: Path, *answers: tuple[int, str]) -> list[ProviderError]:
    """What create calls raise that are answered so, one after the other."""
    left = list(answers)

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        status, body = left.pop(0)
        return web.Response(status=status, text=body)

    raised = []
    async with served(answer) as url, provider_at(kind, url, directory) as provider:
        batch = replace(sealed(provider, directory), file_id="file-1")
        for _ in answers:
            with pytest.raises(ProviderError) as caught:
                await provider.submit(batch)
            raised.append(caught.value)
    return raised


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
async def test_a_proxy_refuses_no_batch(kind: type[Provider], tmp_path: Path) -> None:
    """A create call that is refused in nobody's words is made again: no request fails while a proxy is renewed."""
    raised = await submitted(kind, tmp_path, *REFUSALS)

    assert [type(failure) for failure in raised] == [Retryable] * len(REFUSALS)
    assert all("not in the provider's words" in failure.reason and PAGE not in failure.reason for failure in raised)


@pytest.mark.parametrize("kind", FILING, ids=lambda kind: kind.kind)
async def test_a_proxy_refuses_no_file(kind: type[Provider], tmp_path: Path) -> None:
    """An upload that is refused by a page for browsers is made again."""
    async with saying(PAGE, status=400) as url, provider_at(kind, url, tmp_path) as provider:
        with pytest.raises(Retryable, match="not in the provider's words"):
            await provider.upload(sealed(provider, tmp_path))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
async def test_a_create_call_that_was_given_up_may_have_acted(kind: type[Provider], tmp_path: Path) -> None:
    """499 says that somebody stopped waiting, not that nothing was made: it is looked for, and not paid twice."""
    [raised] = await submitted(kind, tmp_path, (499, CANCELLED))

    assert type(raised) is Ambiguous
