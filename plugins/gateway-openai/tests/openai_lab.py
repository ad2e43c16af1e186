"""What the tests of this plugin share: a quick clock, bodies and lines, and the walk of a batch through the provider."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
from openai import AsyncOpenAI
from openai.types import Batch as SDKBatch

from gateway import Batch, Call, RemoteBatch, Result
from gateway.sandbox import SandboxServer, SandboxSettings
from gateway.testing import QuickClock
from gateway_openai import OpenAIProvider
from gateway_openai.sandbox import OpenAISimulator

MARKER = "abcdefghij0123456789"
CHAT = "/v1/chat/completions"
QUICK = SandboxSettings(validating_seconds=10, running_seconds=100, finalizing_seconds=10)


def chat(text: str, **fields: object) -> dict[str, object]:
    """A chat body with one user message."""
    return {"model": "sim-small", "messages": [{"role": "user", "content": text}], **fields}


def frame(custom_id: str, body: object, **changes: object) -> dict[str, object]:
    """One input line."""
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body, **changes}


def jsonl(*lines: object) -> bytes:
    """Lines of an input file."""
    return b"".join(orjson.dumps(line) + b"\n" for line in lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """One simulated account, the SDK and our provider in front of it."""

    clock: QuickClock
    simulator: OpenAISimulator
    server: SandboxServer
    sdk: AsyncOpenAI
    provider: OpenAIProvider
    directory: Path

    async def create(self, *lines: object, content: bytes | None = None) -> SDKBatch:
        """A batch made with the SDK."""
        text = jsonl(*lines) if content is None else content
        file = await self.sdk.files.create(file=("input.jsonl", text), purpose="batch")
        return await self.sdk.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")

    async def ended(self, batch: SDKBatch) -> SDKBatch:
        """The same batch after long enough."""
        self.clock.jump(1_000)
        return await self.sdk.batches.retrieve(batch.id)

    async def rows(self, file_id: str | None) -> list[dict[str, object]]:
        """The rows of a result file."""
        content = await self.sdk.files.content(file_id or "")
        return [orjson.loads(row) for row in content.content.split(b"\n") if row]

    def seal(self, *bodies: dict[str, object], marker: str = MARKER) -> Batch:
        """A sealed batch, as the gateway hands it to a provider."""
        spool = self.directory / f"{marker}.spool"
        with spool.open("wb") as file:
            for n, body in enumerate(bodies):
                payload = self.provider.encode(Call(endpoint=CHAT, model=str(body["model"]), body=body))
                file.write(self.provider.frame(f"{marker}-{n}", payload) + b"\n")
        model = str(bodies[0]["model"])
        size = spool.stat().st_size
        return Batch(marker=marker, endpoint=CHAT, model=model, count=len(bodies), size=size, spool=spool)

    async def uploaded(self, *bodies: dict[str, object]) -> Batch:
        """A sealed batch whose file is with the provider."""
        batch = self.seal(*bodies)
        return replace(batch, file_id=await self.provider.upload(batch))

    async def run(self, *bodies: dict[str, object]) -> RemoteBatch:
        """A batch walked through the provider to its end."""
        remote = await self.provider.submit(await self.uploaded(*bodies))
        self.clock.jump(1_000)
        return await self.provider.poll(remote)

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
async def service(
    kind: type[OpenAIProvider],
    simulator_class: type[OpenAISimulator],
    directory: Path,
    path: str = "",
    **settings: object,
) -> AsyncIterator[Lab]:
    """A simulated service, our provider and OpenAI's SDK in front of it; `path` instead of the simulator's own."""
    clock = QuickClock()
    simulator = simulator_class(clock=clock, settings=QUICK, directory=directory / "sandbox")
    async with SandboxServer([simulator]) as server:
        url = server.url(simulator) + path if path else server.base_url(simulator)
        own = kind.Settings.model_validate({"api_key": "sandbox", "base_url": url, **settings})
        provider = kind(kind.kind, own, clock, directory)
        async with AsyncOpenAI(base_url=url, api_key="sandbox", max_retries=0) as sdk:
            yield Lab(clock=clock, simulator=simulator, server=server, sdk=sdk, provider=provider, directory=directory)
        await provider.aclose()


@asynccontextmanager
async def provider_at(
    url: str, directory: Path, kind: type[OpenAIProvider] = OpenAIProvider, **settings: object
) -> AsyncIterator[OpenAIProvider]:
    """A provider with this address."""
    provider = kind(
        "elsewhere",
        kind.Settings.model_validate({"api_key": "k", "base_url": url, **settings}),
        QuickClock(),
        directory,
    )
    try:
        yield provider
    finally:
        await provider.aclose()


def call(**fields: object) -> Call:
    """A chat call with these fields."""
    body = {**chat("hello"), **fields}
    return Call(endpoint=CHAT, model="sim-small", body=body)
