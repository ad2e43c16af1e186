"""What the tests of this plugin share: a quick clock, the SDKs' clients, and the walk of a batch through the provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2
import orjson
from google import genai
from google.api_core.client_options import ClientOptions
from google.cloud import storage
from google.genai.types import HttpOptions
from google.oauth2.credentials import Credentials

from gateway import Batch, Call, ProviderSettings, RemoteBatch, Result
from gateway.sandbox import SandboxServer
from gateway.testing import FakeClock
from gateway_vertex import VertexProvider
from gateway_vertex.sandbox import VertexSimulator

MARKER = "abcdefghij0123456789"
CHAT = "/v1/chat/completions"
MODEL = "gemini-2.5-flash"
PROJECT, LOCATION, BUCKET = "acme", "us-central1", "acme-batches"
JOBS = f"projects/{PROJECT}/locations/{LOCATION}/batchPredictionJobs"


class QuickClock(FakeClock):
    """A clock on which sleeping takes no time but is seen by everybody."""

    async def sleep(self, seconds: float) -> None:
        """Turn the clock instead of waiting."""
        await self.advance(seconds)


def settings_at(url: str, **changes: object) -> ProviderSettings:
    """The provider's table for a simulator at `url`."""
    table: dict[str, object] = {
        "base_url": url,
        "project": PROJECT,
        "location": LOCATION,
        "bucket": f"gs://{BUCKET}/in/here",
        "access_token": "sandbox",
    }
    return VertexProvider.Settings.model_validate(table | changes)


def chat(text: str, **fields: object) -> dict[str, object]:
    """A chat body with one user message."""
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}


def line(text: str, **labels: str) -> dict[str, object]:
    """One input line as Google's documentation has it."""
    request: dict[str, object] = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
    return {"request": request | ({"labels": labels} if labels else {})}


def jsonl(*lines: object) -> bytes:
    """Lines of an input object."""
    return b"".join(orjson.dumps(each) + b"\n" for each in lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """One simulated project, and our provider in front of it."""

    clock: QuickClock
    simulator: VertexSimulator
    server: SandboxServer
    provider: VertexProvider
    directory: Path

    @property
    def url(self) -> str:
        """Where both of the simulated APIs are."""
        return self.server.base_url(self.simulator)

    @asynccontextmanager
    async def genai(
        self, location: str = LOCATION, version: str = "v1beta1"
    ) -> AsyncIterator[genai.client.AsyncClient]:
        """The official client of the jobs API."""
        async with httpx2.AsyncClient() as http:
            options = HttpOptions(base_url=self.url, api_version=version, httpx_async_client=http)
            token = Credentials(token="anything")
            client = genai.Client(
                vertexai=True, project=PROJECT, location=location, credentials=token, http_options=options
            )
            yield client.aio

    def storage(self) -> storage.Client:
        """The official client of Cloud Storage; it blocks, so tests call it in threads."""
        client = storage.Client(
            project=PROJECT,
            credentials=Credentials(token="anything"),
            client_options=ClientOptions(api_endpoint=self.url),
        )
        client._bucket_metadata_cache = None  # its thread would outlive the test
        return client

    async def put(self, name: str, content: bytes) -> str:
        """An object made with the SDK; its address."""

        def upload() -> None:
            client = self.storage()
            client.bucket(BUCKET).blob(name).upload_from_string(content, retry=None)
            client.close()

        await asyncio.to_thread(upload)
        return f"gs://{BUCKET}/{name}"

    async def names(self, prefix: str = "") -> list[str]:
        """Every object below a prefix."""

        def names() -> list[str]:
            client = self.storage()
            found = [blob.name for blob in client.list_blobs(BUCKET, prefix=prefix, retry=None)]
            client.close()
            return found

        return await asyncio.to_thread(names)

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

    async def uploaded(self, *bodies: dict[str, object], marker: str = MARKER) -> Batch:
        """A sealed batch whose lines are in the bucket."""
        batch = self.seal(*bodies, marker=marker)
        return replace(batch, file_id=await self.provider.upload(batch))

    async def run(self, *bodies: dict[str, object]) -> RemoteBatch:
        """A batch walked through the provider to its end."""
        remote = await self.provider.submit(await self.uploaded(*bodies))
        self.clock.jump(1_000)
        return await self.provider.poll(remote)

    async def rows(self, remote: RemoteBatch) -> list[bytes]:
        """Everything that was fetched, row by row."""
        to = self.directory / "fetched"
        await self.provider.fetch(remote, to)
        return to.read_bytes().split(b"\n")[:-1]

    async def results(self, remote: RemoteBatch) -> list[Result]:
        """Everything that was fetched, decoded, in the order of line ids."""
        rows = [self.provider.decode(row) for row in await self.rows(remote)]
        return sorted(rows, key=lambda result: result.line_id or "")


def text_of(result: Result) -> str:
    """The text of a successful result."""
    answer = orjson.loads(orjson.dumps(result.body))
    return str(answer["choices"][0]["message"]["content"])
