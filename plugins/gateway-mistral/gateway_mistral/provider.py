"""The kind `mistral`: jobs made of an uploaded file, or of requests inside the create call."""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, ClassVar, cast

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
from gateway.failures import StatusError
from gateway.listing import oldest_first, read_list
from gateway.reading import parse_object
from gateway.transfers import PIECE_BYTES, append_files, append_rows, opened, result_file
from gateway_mistral.decode import decode_response, decode_row
from gateway_mistral.encode import CHAT, dropped_fields, encode_body, encode_line
from gateway_mistral.failures import creating, deleting, failures_with, repeatable, stopping
from gateway_mistral.listing import PAGE, Numbered, is_ours, marker_of
from gateway_mistral.outputs import rows_within
from gateway_mistral.remote import RESULT_FILES, STATES, STOPPING, remote_batch, status_of
from gateway_mistral.settings import MOST_INLINE, MistralSettings
from gateway_mistral.wire import Wire, inline_body, inline_head, inline_length, job_fields, seen

if TYPE_CHECKING:
    from mistralai.client.models import APIEndpoint

_JOBS = "/v1/batch/jobs"


class MistralProvider(Provider):
    """Mistral's Batch API. Small batches travel in the create call itself and leave no file behind."""

    kind: ClassVar[str] = "mistral"
    Settings: ClassVar[type[ProviderSettings]] = MistralSettings
    #: Sources and dates are in the README. 512 MB is read as the smaller of its meanings.
    limits: ClassVar[Limits] = Limits(
        max_requests=1_000_000,
        max_bytes=512_000_000,
        max_line_bytes=512_000_000,
        min_poll_seconds=1.0,
        window_seconds=86_400.0,
    )
    simulator: ClassVar[str | None] = "gateway_mistral.sandbox:MistralSimulator"

    def __init__(self, name: str, settings: ProviderSettings, clock: Clock, directory: Path) -> None:
        """Make the SDK's client; nothing is sent."""
        super().__init__(name, settings, clock, directory)
        self._own = cast("MistralSettings", settings)
        self._wire = Wire(self._own)
        self._transfer_ms = int(self._own.transfer_timeout_seconds * 1000)

    @classmethod
    def limits_of(cls, settings: ProviderSettings) -> Limits:
        """With the window that is asked for."""
        return replace(cls.limits, window_seconds=cast("MistralSettings", settings).timeout_hours * 3_600.0)

    def encode(self, call: Call) -> bytes:
        """A chat completion in Mistral's dialect; what that cannot say is refused."""
        return encode_line(call, self._own.pass_fields)

    def dropped(self, call: Call) -> Sequence[str]:
        """Hints and names that Mistral's schema has no place for."""
        return dropped_fields(call, self._own.pass_fields)

    def decode(self, row: bytes) -> Result:
        """One row of an output or an error file."""
        return decode_row(row)

    async def upload(self, batch: Batch) -> str | None:
        """Upload the spool as `MARKER.jsonl`; None for a batch that goes inside the create call."""
        if self._fits_inline(batch):
            return None
        async with repeatable("upload", refusable=True, named=False):
            with opened(batch.spool) as spool:
                file = await seen(
                    self._wire.sdk.files.upload_async(
                        file={"file_name": f"{batch.marker}.jsonl", "content": spool},
                        purpose="batch",
                        timeout_ms=self._transfer_ms,
                    )
                )
        file_id = file.get("id")
        if not isinstance(file_id, str) or not file_id:
            raise Retryable("upload: the answer names no file")
        return file_id

    async def submit(self, batch: Batch) -> RemoteBatch:
        """One create call with the marker as metadata, the requests in it or in the uploaded file."""
        if batch.file_id is None and batch.count > MOST_INLINE:
            raise Retryable("create: the input file has not been uploaded")
        async with failures_with(batch.file_id).creating():
            if batch.file_id is None:
                return self._read(await self._create_inline(batch))
            fields = job_fields(batch, self._own.timeout_hours)
            job = await seen(
                self._wire.sdk.batch.jobs.create_async(
                    endpoint=cast("APIEndpoint", batch.endpoint),
                    input_files=[batch.file_id],
                    model=batch.model,
                    metadata=cast("Mapping[str, str]", fields["metadata"]),
                    timeout_hours=self._own.timeout_hours,
                )
            )
            return self._read(job)

    async def find(self, batch: Batch) -> list[RemoteBatch]:
        """Jobs in the workspace's list with our marker, or made of our file; oldest first.

        The server's filter by metadata is not relied on; every page is read and every row looked at.
        """
        async with repeatable("list", named=False):
            items = self._listed(batch.listed_since)
            return oldest_first([self._read(item) async for item in items if is_ours(item, batch)])

    async def list_ours(self, since: datetime) -> list[RemoteBatch]:
        """Jobs of the workspace whose metadata has a marker."""
        async with repeatable("list", named=False):
            items = self._listed(since)
            ours = [replace(self._read(item), marker=marker) async for item in items if (marker := marker_of(item))]
        return oldest_first(ours, since=since)

    def _listed(self, since: datetime | None) -> AsyncIterator[Mapping[str, object]]:
        """The jobs created since then (None: all). Raises unless that whole list was read."""
        from mistralai.client.types import UNSET

        after = UNSET if since is None else since

        async def ask(number: int) -> Mapping[str, object]:
            jobs = self._wire.sdk.batch.jobs
            return await seen(jobs.list_async(page=number, page_size=PAGE, created_after=after, order_by="-created"))

        return read_list(Numbered(ask).page)

    async def poll(self, remote: RemoteBatch) -> RemoteBatch:
        """The job, without its results."""
        async with repeatable("poll"):
            return self._read(await self._job(remote))

    async def fetch(self, remote: RemoteBatch, to: Path) -> None:
        """Download the output file, then the error file if it is there; a job that names neither is asked for its results."""
        files = [remote.where[field] for field in RESULT_FILES if remote.where.get(field)]
        with result_file(to) as target:
            await append_files(files, lambda file_id: self._download_file(file_id, target))
            if not files:
                await self._fetch_inline(remote, to, target)

    async def cancel(self, remote: RemoteBatch) -> None:
        """Ask for the job's end; a job that has ended, or is on its way there, is left as it is."""
        async with stopping(lambda: self._runs_on(remote)):
            await seen(self._wire.sdk.batch.jobs.cancel_async(job_id=remote.remote_id))

    async def discard(self, batch: Batch, remote: RemoteBatch | None) -> None:
        """Delete the input file and the result files; the job itself stays."""
        names = {batch.file_id, *(remote.where.values() if remote is not None else ())}
        for file_id in sorted(name for name in names if name):
            async with deleting():
                await seen(self._wire.sdk.files.delete_async(file_id=file_id))

    async def complete(self, call: Call) -> Result:
        """The synchronous endpoint, once. An answer of any status is a result; no answer raises as a create call does."""
        content = encode_body(call, self._own.pass_fields)
        try:
            async with creating("complete"):
                answer = parse_object(await self._wire.post(CHAT, content, len(content)))
        except ProviderError as error:
            if isinstance(error.__cause__, StatusError) and error.__cause__.answered.status >= 400:
                refusal = error.__cause__.answered
                return decode_response(None, refusal.status, refusal.content)
            raise
        return decode_response(None, 200, answer)

    async def aclose(self) -> None:
        """Close the SDK's connections."""
        await self._wire.aclose()

    def _fits_inline(self, batch: Batch) -> bool:
        return batch.count <= self._own.inline_max_requests and batch.size <= self._own.inline_max_bytes

    async def _create_inline(self, batch: Batch) -> dict[str, object]:
        """The lines go from the spool to the socket as they are."""
        head = inline_head(batch, self._own.timeout_hours)
        with opened(batch.spool) as spool:
            size = spool.seek(0, 2)
            spool.seek(0)
            body = inline_body(head, spool, size)
            return parse_object(await self._wire.post(_JOBS, body, inline_length(head, size)))

    async def _job(self, remote: RemoteBatch) -> dict[str, object]:
        return await seen(self._wire.sdk.batch.jobs.get_async(job_id=remote.remote_id))

    async def _runs_on(self, remote: RemoteBatch) -> bool:
        """Whether the job has neither ended nor been told to."""
        async with repeatable("poll"):
            status = status_of(await self._job(remote))
        return status != STOPPING and STATES.get(status, RemoteState.RUNNING) is RemoteState.RUNNING

    def _read(self, job: Mapping[str, object]) -> RemoteBatch:
        """The batch in `job`; a state that is not known is named in the log once."""
        status = status_of(job)
        self.note_state(status, STATES)
        return remote_batch(job)

    async def _download_file(self, file_id: str, target: IO[bytes]) -> None:
        async with repeatable("fetch"):
            await self._download(f"/v1/files/{file_id}/content", target)

    async def _download(self, path: str, target: IO[bytes], query: Mapping[str, str] | None = None) -> None:
        """Append a download as it comes."""
        async with self._wire.stream(path, query) as response:
            await append_rows(response.aiter_bytes(PIECE_BYTES), target)

    async def _fetch_inline(self, remote: RemoteBatch, to: Path, target: IO[bytes]) -> None:
        """The job with its results inside, by way of a file beside `to`."""
        whole = to.with_name(f"{to.name}.job")
        try:
            with result_file(whole) as job:
                async with repeatable("fetch"):
                    await self._download(f"{_JOBS}/{remote.remote_id}", job, {"inline": "true"})
            await asyncio.to_thread(_split, whole, target)
        finally:
            whole.unlink(missing_ok=True)


def _split(whole: Path, target: IO[bytes]) -> None:
    """Write each result inside the job in `whole` as a row."""
    with whole.open("rb") as file:
        if file.seek(0, 2) == 0:
            raise Retryable("fetch: the job's answer is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as job:
            for row in rows_within(job):
                target.write(row + b"\n")
