"""What the tests of this plugin share: a quick clock, bodies, and the walk of a batch through the provider."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
from aiohttp import web
from hypothesis import strategies as st
from mistralai.client import Mistral

from gateway import Batch, Call, RemoteBatch, Result
from gateway.clock import Clock
from gateway.sandbox import SandboxServer
from gateway.testing import QuickClock, served
from gateway_mistral import MistralProvider
from gateway_mistral.encode import encode_line
from gateway_mistral.sandbox import MistralSimulator

MARKER = "abcdefghij0123456789"
CHAT = "/v1/chat/completions"
MODEL = "mistral-small-latest"


def chat(text: str, **fields: object) -> dict[str, object]:
    """A chat body with one user message."""
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}


def call(body: dict[str, object]) -> Call:
    """The body as core hands it to a plugin."""
    return Call(endpoint=CHAT, model=str(body["model"]), body=body)


def jsonl(*lines: object) -> bytes:
    """Lines of an input file."""
    return b"".join(orjson.dumps(line) + b"\n" for line in lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """One simulated workspace, the SDK and our provider in front of it."""

    clock: QuickClock
    simulator: MistralSimulator
    server: SandboxServer
    sdk: Mistral
    #: Uploads every batch.
    provider: MistralProvider
    #: Sends small batches inside the create call.
    inline: MistralProvider
    directory: Path

    @property
    def url(self) -> str:
        """Where the simulated API is."""
        return self.server.base_url(self.simulator)

    def seal(self, *bodies: dict[str, object], marker: str = MARKER) -> Batch:
        """A sealed batch, as the gateway hands it to a provider."""
        spool = self.directory / f"{marker}.spool"
        with spool.open("wb") as file:
            for n, body in enumerate(bodies):
                file.write(self.provider.frame(f"{marker}-{n}", self.provider.encode(call(body))) + b"\n")
        size = spool.stat().st_size
        model = str(bodies[0]["model"])
        return Batch(marker=marker, endpoint=CHAT, model=model, count=len(bodies), size=size, spool=spool)

    def creator(self, *, inside: bool) -> MistralProvider:
        """The provider that creates inside the call, or by file."""
        return self.inline if inside else self.provider

    async def ready(self, *, inside: bool) -> Batch:
        """A batch that its creator can submit."""
        batch = self.seal(chat("x"))
        return replace(batch, file_id=await self.creator(inside=inside).upload(batch))

    async def uploaded(self, *bodies: dict[str, object]) -> Batch:
        """A sealed batch whose file is with the provider."""
        batch = self.seal(*bodies)
        return replace(batch, file_id=await self.provider.upload(batch))

    async def run(self, *bodies: dict[str, object], by: MistralProvider | None = None) -> RemoteBatch:
        """A batch walked through a provider to its end."""
        provider = by or self.provider
        batch = self.seal(*bodies)
        batch = replace(batch, file_id=await provider.upload(batch))
        remote = await provider.submit(batch)
        self.clock.jump(1_000)
        return await provider.poll(remote)

    async def results(self, remote: RemoteBatch) -> list[Result]:
        """Everything that was fetched, decoded, in the order of line ids."""
        to = self.directory / "fetched"
        await self.provider.fetch(remote, to)
        rows = [self.provider.decode(row) for row in to.read_bytes().split(b"\n")[:-1]]
        return sorted(rows, key=lambda result: result.line_id or "")


def text_of(result: Result) -> str:
    """The text of a successful result."""
    answer = orjson.loads(orjson.dumps(result.body))
    return str(answer["choices"][0]["message"]["content"])


@asynccontextmanager
async def provider_at(clock: Clock, directory: Path, url: str, **settings: object) -> AsyncIterator[MistralProvider]:
    """A provider with this address and these settings."""
    own = MistralProvider.Settings.model_validate({"api_key": "sandbox", "base_url": url, **settings})
    provider = MistralProvider("mistral", own, clock, directory)
    try:
        yield provider
    finally:
        await provider.aclose()


@asynccontextmanager
async def answering(*contents: object) -> AsyncIterator[str]:
    """A server that answers with these JSON contents in turn, the last one for ever."""
    left = list(contents)

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        content = left.pop(0) if len(left) > 1 else left[0]
        return web.Response(body=orjson.dumps(content), content_type="application/json")

    async with served(answer) as url:
        yield url


def sent(body: dict[str, object]) -> dict[str, object]:
    """The body as it is stored."""
    line: dict[str, dict[str, object]] = orjson.loads(encode_line(call(body)))
    return line["body"]


KEYS = [
    *("message", "detail", "error", "code", "type", "param", "loc", "msg", "status_code", "body"),
    *("choices", "content", "tool_calls", "function", "arguments", "thinking", "usage", "prompt_tokens"),
]


SCALARS = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)


JSON = st.recursive(
    SCALARS | st.text('abc\u2028é{["\\', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
