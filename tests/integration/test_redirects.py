"""Redirects: a create call goes out once, and keys and prompts go to the configured host only, whatever the kind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from gateway import Ambiguous, Batch, Call, Provider, ProviderError, RemoteBatch, RemoteState, Retryable
from gateway.testing import QuickClock, served
from gateway_anthropic import AnthropicProvider
from gateway_gemini import GeminiProvider
from gateway_mistral import MistralProvider
from gateway_openai import register_providers
from gateway_together import TogetherProvider
from gateway_vertex import VertexProvider

KEY = "key-that-is-a-secret-0123456789"
MARKER = "abcdefghij0123456789"
BODY = {"model": "m", "messages": [{"role": "user", "content": "a private prompt"}], "max_tokens": 10}
CALL = Call(endpoint="/v1/chat/completions", model="m", body=BODY)
#: Where each kind keeps the name of its result file, if it has one.
WHERE = {"output_file_id": "file-1", "output_file": "file-1", "output": "gs://bucket/in/out"}
REMOTE = RemoteBatch(remote_id="batch_1", state=RemoteState.ENDED, where=WHERE)

#: Settings of each kind beside its address and key; a header of the key's own is what no HTTP client takes off by itself.
SETTINGS: Mapping[str, Mapping[str, object]] = {
    "openai-compatible": {"key_header": "x-api-key"},
    "mistral": {"inline_max_requests": 0},
    "vertex": {"project": "p", "location": "us-central1", "bucket": "gs://bucket/in", "access_token": KEY},
}
OTHERS = (AnthropicProvider, GeminiProvider, MistralProvider, TogetherProvider, VertexProvider)
#: Settings with which a small batch travels inside the create call.
INLINE = {"gemini": {"inline_max_bytes": 1_000_000}, "mistral": {"inline_max_requests": 10}}
#: Anthropic has no files; where Together's lie is what it says by a redirect, which is in its own tests.
FILELESS = {("anthropic", "upload"), ("together", "upload"), ("together", "fetch")}

Verb = Callable[[Provider, Batch, Path], Awaitable[object]]
VERBS: Mapping[str, Verb] = {
    "upload": lambda provider, batch, _: provider.upload(batch),
    "submit": lambda provider, batch, _: provider.submit(replace(batch, file_id="file-1")),
    "find": lambda provider, batch, _: provider.find(batch),
    "poll": lambda provider, _, __: provider.poll(REMOTE),
    "fetch": lambda provider, _, to: provider.fetch(REMOTE, to),
    "complete": lambda provider, _, __: provider.complete(CALL),
}
CASES = [
    (kind, verb)
    for kind in (*register_providers(), *OTHERS)
    for verb in VERBS
    if (kind.batch or verb == "complete") and (kind.kind, verb) not in FILELESS
]


@pytest.mark.parametrize(("kind", "verb"), CASES, ids=[f"{kind.kind}-{verb}" for kind, verb in CASES])
async def test_a_redirect_is_told_and_not_followed(kind: type[Provider], verb: str, tmp_path: Path) -> None:
    """Whatever is asked is asked once, of the configured host; the host that it points to is told, and no credentials."""
    raised, where = await redirected(kind, VERBS[verb], tmp_path)

    assert type(raised) is (Ambiguous if verb in ("submit", "complete") else Retryable)
    assert f"status 307, a redirect to {where}, " in raised.reason
    assert KEY not in raised.reason


@pytest.mark.parametrize("kind", [each for each in OTHERS if each.kind in INLINE], ids=lambda kind: kind.kind)
async def test_requests_inside_a_create_call_go_nowhere_else(kind: type[Provider], tmp_path: Path) -> None:
    """A create call that carries its requests is not sent again to where a redirect points."""
    raised, _ = await redirected(kind, lambda provider, batch, _: provider.submit(batch), tmp_path, **INLINE[kind.kind])

    assert type(raised) is Ambiguous


async def redirected(
    kind: type[Provider], verb: Verb, directory: Path, **settings: object
) -> tuple[ProviderError, str]:
    """What the call raises when it is redirected, and where to; it was made once, and not followed."""
    asked: list[str] = []
    followed: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        followed.append(request.path)
        return web.json_response({"id": "batch_x", "status": "in_progress", "data": [], "object": "list"})

    async with served(elsewhere) as other:

        async def move(request: web.Request) -> web.Response:
            asked.append(request.path)
            await request.read()
            place = other.replace("http://", f"http://user:{KEY}@")
            return web.Response(status=307, headers={"Location": f"{place}{request.path}?key={KEY}"})

        async with served(move) as url, provider_at(kind, url, directory, **settings) as provider:
            batch = sealed(provider, directory)
            with pytest.raises(ProviderError) as raised:
                await verb(provider, batch, directory / "fetched")
    assert len(asked) == 1
    assert followed == []
    return raised.value, other


def sealed(provider: Provider, directory: Path) -> Batch:
    """A batch of one line, its spool on disk; nothing of it for a kind that is asked one by one."""
    spool = directory / "spool"
    spool.write_bytes(provider.frame(f"{MARKER}-0", provider.encode(CALL)) + b"\n" if provider.batch else b"")
    size = spool.stat().st_size
    return Batch(marker=MARKER, endpoint=CALL.endpoint, model=CALL.model, count=1, size=size, spool=spool)


@asynccontextmanager
async def provider_at(kind: type[Provider], url: str, directory: Path, **settings: object) -> AsyncIterator[Provider]:
    """A provider with this address and our key."""
    key: dict[str, object] = {} if kind is VertexProvider else {"api_key": KEY}
    path = "/v1" if kind.__module__.startswith("gateway_openai") else ""
    told = {"base_url": url + path, **key, **SETTINGS.get(kind.kind, {}), **settings}
    provider = kind(kind.kind, kind.Settings.model_validate(told), QuickClock(), directory)
    try:
        yield provider
    finally:
        await provider.aclose()
