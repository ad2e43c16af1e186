"""The kind `openai`, and the base of every other API of its shape.

Such an API is a subclass: its `Settings`, its `limits`, and where needed `headers` and `dialect`.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Literal, cast

from gateway import (
    Batch,
    Call,
    Limits,
    Provider,
    ProviderError,
    ProviderSettings,
    RemoteBatch,
    RemoteState,
    Result,
    Retryable,
)
from gateway.clock import Clock
from gateway.listing import Page, oldest_first, read_list
from gateway.reading import parse_object
from gateway_openai.decode import decode_response, decode_row
from gateway_openai.dialect import Dialect
from gateway_openai.encode import sent_body
from gateway_openai.failures import creating, repeatable, stopping
from gateway_openai.files import Files
from gateway_openai.listing import MARKER_KEY, PAGE, created, cursor, is_ours, marker_of
from gateway_openai.remote import STATES, STOPPING, listed, remote_batch, status_of
from gateway_openai.settings import OpenAISettings
from gateway_openai.wire import http_client

#: The SDK wants to know all endpoints by name; the provider is the one to say no.
CreateEndpoint = Literal["/v1/chat/completions"]
CompletionWindow = Literal["24h"]

_LINE_OFFSETS: Mapping[str, int | None] = {"from-one": 1, "from-zero": 0, "ignored": None}


class OpenAIProvider(Provider):
    """OpenAI's Batch API: a file is uploaded, a batch is created from it, result files are downloaded."""

    kind: ClassVar[str] = "openai"
    Settings: ClassVar[type[ProviderSettings]] = OpenAISettings
    #: Sources and dates are in the README. 200 MB is read as the smaller of its two meanings.
    limits: ClassVar[Limits] = Limits(
        max_requests=50_000,
        max_bytes=200_000_000,
        max_line_bytes=200_000_000,
        max_creates_per_hour=2_000,
        min_poll_seconds=1.0,
        window_seconds=86_400.0,
        retention_days=30.0,
    )
    simulator: ClassVar[str | None] = "gateway_openai.sandbox:OpenAISimulator"

    def __init__(self, name: str, settings: ProviderSettings, clock: Clock, directory: Path) -> None:
        """Make the SDK's client; nothing is sent."""
        super().__init__(name, settings, clock, directory)
        import openai

        with suppress(ImportError):
            # The SDK looks at every call whether httpx has been loaded. Another provider's SDK may be loading it just then, and
            # half a module is worse than none.
            importlib.import_module("httpx")
        self._own = cast("OpenAISettings", settings)
        own = self._own
        quick = openai.Timeout(own.timeout_seconds, connect=10.0)
        self._transfer = openai.Timeout(own.transfer_timeout_seconds, connect=10.0)
        headers = self.headers()
        self._client = openai.AsyncOpenAI(
            api_key=own.api_key.get_secret_value() or "missing",
            base_url=own.base_url,
            timeout=quick,
            max_retries=0,
            default_headers={name: value for name, value in headers.items() if value is not None},
            default_query=self.query(),
            http_client=http_client([name for name, value in headers.items() if value is None]),
        )
        self._client.organization = own.organization or None
        self._client.project = own.project or None
        self._files = Files(self._client, clock, self._transfer, own.upload_wait_seconds)
        self._dialect = self.dialect()
        self._line_offset = _LINE_OFFSETS[own.line_numbers]

    def headers(self) -> Mapping[str, str | None]:
        """Headers on every call beside the SDK's own; None leaves one of those out."""
        return {}

    def query(self) -> Mapping[str, object]:
        """What is added to every address."""
        return {}

    def path_of(self, call: Call) -> str:
        """The path of the synchronous endpoint, below the base URL."""
        return call.endpoint.removeprefix("/v1")

    def dialect(self) -> Dialect:
        """What this API's create calls and lines may hold."""
        return Dialect()

    async def page(self, after: str | None) -> Page:
        """One page of the account's batches, newest first as far as is known."""
        import openai

        response = await self._client.batches.with_raw_response.list(after=after or openai.omit, limit=PAGE)
        content = parse_object(response.content)
        items = listed(content)
        return Page(items=items, after=cursor(content, items, after), goes_on=content.get("has_more") is True)

    def encode(self, call: Call) -> bytes:
        """The caller's body as it is, less what a batch cannot have."""
        return self._dialect.line(call)

    def dropped(self, call: Call) -> Sequence[str]:
        """Configured fields that the call has, and those of its messages that the service would mind."""
        return self._dialect.dropped(call)

    def decode(self, row: bytes) -> Result:
        """One row of an output or an error file."""
        return decode_row(row)

    async def upload(self, batch: Batch) -> str | None:
        """Upload the spool as `MARKER.jsonl`, and wait until a batch can be made of it."""
        return await self._files.upload(batch)

    async def submit(self, batch: Batch) -> RemoteBatch:
        """One `batches.create`, carrying the marker as metadata."""
        if not batch.file_id:
            raise Retryable("create: the input file has not been uploaded")
        header = self._dialect.idempotency_header
        async with creating():
            response = await self._client.batches.with_raw_response.create(
                input_file_id=batch.file_id,
                endpoint=cast("CreateEndpoint", self._dialect.create_endpoint or batch.endpoint),
                completion_window=cast("CompletionWindow", self._dialect.completion_window),
                metadata={MARKER_KEY: batch.marker},
                extra_body=dict(self._dialect.create_fields) or None,
                extra_headers={header: batch.marker} if header else None,
            )
            return self._read(parse_object(response.content))

    async def find(self, batch: Batch) -> list[RemoteBatch]:
        """Batches in the account's list with our marker, or made of our file; oldest first."""
        async with repeatable("list", named=False):
            items = self._listed(batch.listed_since)
            return oldest_first([self._read(item) async for item in items if is_ours(item, batch)])

    async def list_ours(self, since: datetime) -> list[RemoteBatch]:
        """Batches of the account whose metadata has a marker; a service that does not echo metadata shows none."""
        async with repeatable("list", named=False):
            items = self._listed(since)
            ours = [replace(self._read(item), marker=marker) async for item in items if (marker := marker_of(item))]
        return oldest_first(ours, since=since)

    def _listed(self, since: datetime | None) -> AsyncIterator[Mapping[str, object]]:
        """The account's list, back to `since`. Raises unless that whole list was read."""
        return read_list(self.page, since=since, created=created)

    async def poll(self, remote: RemoteBatch) -> RemoteBatch:
        """`batches.retrieve`."""
        async with repeatable("poll"):
            response = await self._client.batches.with_raw_response.retrieve(remote.remote_id)
            return self._read(parse_object(response.content))

    async def fetch(self, remote: RemoteBatch, to: Path) -> None:
        """Download the output file, then the error file if it is there, byte by byte as they are."""
        await self._files.download([remote.where.get(field) for field in ("output_file_id", "error_file_id")], to)

    async def cancel(self, remote: RemoteBatch) -> None:
        """`batches.cancel`; a batch that has ended, or is on its way there, is left as it is."""
        async with stopping(lambda: self._runs_on(remote)):
            await self._client.batches.with_raw_response.cancel(remote.remote_id)

    async def discard(self, batch: Batch, remote: RemoteBatch | None) -> None:
        """Delete the input file and the result files."""
        await self._files.delete({batch.file_id, *(remote.where.values() if remote is not None else ())})

    async def complete(self, call: Call) -> Result:
        """The synchronous endpoint, once. An answer of any status is a result; no answer raises as a create call does."""
        import httpx2
        import openai

        try:
            async with creating("complete"):
                response = await self._client.post(
                    self.path_of(call),
                    body=sent_body(self._dialect.fitted(call), drop=self._dialect.drop_fields),
                    cast_to=httpx2.Response,
                    options={"timeout": self._transfer},
                )
                answer = parse_object(response.content)
        except ProviderError as error:
            if isinstance(error.__cause__, openai.APIStatusError) and error.__cause__.status_code >= 400:
                return decode_response(None, error.__cause__.status_code, {"error": error.__cause__.body})
            raise
        return decode_response(None, response.status_code, answer)

    async def aclose(self) -> None:
        """Close the SDK's connections."""
        await self._client.close()

    async def _runs_on(self, remote: RemoteBatch) -> bool:
        """Whether the batch has neither ended nor been told to."""
        async with repeatable("poll"):
            response = await self._client.batches.with_raw_response.retrieve(remote.remote_id)
            status = status_of(parse_object(response.content))
        return status not in STOPPING and STATES.get(status, RemoteState.RUNNING) is RemoteState.RUNNING

    def _read(self, content: Mapping[str, object]) -> RemoteBatch:
        """The batch in `content`; a state that is not known is named in the log once."""
        status = status_of(content)
        self.note_state(status, STATES)
        return remote_batch(content, self._line_offset)
