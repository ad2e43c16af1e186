"""What the tests of this plugin share: names, lines, and Google's own clients of the simulated project."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import httpx2
import orjson
from google import genai
from google.api_core.client_options import ClientOptions
from google.cloud import storage
from google.genai.types import BatchJob, CreateBatchJobConfig, HttpOptions
from google.oauth2.credentials import Credentials

from gateway import Provider, Result
from gateway.testing import Lab
from gateway_vertex import VertexProvider
from gateway_vertex.sandbox import VertexSimulator

MARKER = "abcdefghij0123456789"
CHAT = "/v1/chat/completions"
MODEL = "gemini-2.5-flash"
PROJECT, LOCATION, BUCKET = "acme", "us-central1", "acme-batches"
PREFIX = f"in/here/{MARKER}"
TABLE: Mapping[str, object] = {
    "project": PROJECT,
    "location": LOCATION,
    "bucket": f"gs://{BUCKET}/in/here",
    "access_token": "sandbox",
}

T = TypeVar("T")


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


def url_of(lab: Lab) -> str:
    """Where both of the simulated APIs are."""
    assert lab.server is not None
    return lab.server.base_url(lab.simulator)


def simulator_of(lab: Lab) -> VertexSimulator:
    """The simulator, by its own type."""
    return cast("VertexSimulator", lab.simulator)


@asynccontextmanager
async def provider_at(lab: Lab, url: str, **changes: object) -> AsyncIterator[Provider]:
    """A provider with another address or other settings."""
    own = VertexProvider.Settings.model_validate({**TABLE, "base_url": url, **changes})
    provider = VertexProvider("elsewhere", own, lab.clock, lab.directory)
    try:
        yield provider
    finally:
        await provider.aclose()


@dataclass(frozen=True, slots=True, kw_only=True)
class Google:
    """Google's own clients: of the jobs API, and of Cloud Storage, which blocks."""

    jobs: genai.client.AsyncClient
    storage: storage.Client

    @classmethod
    @asynccontextmanager
    async def at(cls, lab: Lab, *, location: str = LOCATION, version: str = "v1beta1") -> AsyncIterator[Self]:
        """Clients of one location."""
        token = Credentials(token="anything")
        async with httpx2.AsyncClient() as http:
            options = HttpOptions(base_url=url_of(lab), api_version=version, httpx_async_client=http)
            client = genai.Client(
                vertexai=True, project=PROJECT, location=location, credentials=token, http_options=options
            )
            bucket = storage.Client(
                project=PROJECT, credentials=token, client_options=ClientOptions(api_endpoint=url_of(lab))
            )
            bucket._bucket_metadata_cache = None  # its thread would outlive the test
            yield cls(jobs=client.aio, storage=bucket)
            bucket.close()

    async def blocking(self, call: Callable[[storage.Bucket], T]) -> T:
        """What `call` makes of the bucket, in a thread: the server lives on this one."""
        return await asyncio.to_thread(lambda: call(self.storage.bucket(BUCKET)))

    async def put(self, name: str, content: bytes) -> str:
        """An object; its address."""
        await self.blocking(lambda bucket: bucket.blob(name).upload_from_string(content, retry=None))
        return f"gs://{BUCKET}/{name}"

    async def read(self, name: str) -> bytes:
        """An object's bytes."""
        return cast("bytes", await self.blocking(lambda bucket: bucket.blob(name).download_as_bytes(retry=None)))

    async def names(self, prefix: str = "") -> list[str]:
        """Every object below a prefix."""
        return await self.blocking(
            lambda bucket: [blob.name for blob in bucket.client.list_blobs(BUCKET, prefix=prefix, retry=None)]
        )

    async def job(self, *lines: object, name: str = "mine", http_options: HttpOptions | None = None) -> BatchJob:
        """A job made with the SDK."""
        uri = await self.put(f"{name}.jsonl", jsonl(*lines))
        config = CreateBatchJobConfig(display_name=name, dest=f"gs://{BUCKET}/{name}/", http_options=http_options)
        return await self.jobs.batches.create(model=MODEL, src=uri, config=config)

    async def rows(self, job: BatchJob) -> list[dict[str, Any]]:
        """The rows of every result object of an ended job."""
        assert job.output_info is not None
        directory = (job.output_info.gcs_output_directory or "").removeprefix(f"gs://{BUCKET}/")
        content = [await self.read(name) for name in await self.names(directory)]
        return [orjson.loads(row) for row in b"".join(content).split(b"\n") if row]


def in_order(results: list[Result]) -> list[Result]:
    """By the place of their lines."""
    return sorted(results, key=lambda result: int((result.line_id or "-0").rpartition("-")[2]))


def text_of(result: Result) -> str:
    """The text of a successful result."""
    answer = orjson.loads(orjson.dumps(result.body))
    return str(answer["choices"][0]["message"]["content"])


def size_of(path: Path) -> int:
    """The size of a file in bytes."""
    return path.stat().st_size
