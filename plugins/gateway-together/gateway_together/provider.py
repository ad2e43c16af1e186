"""The kind `together`: a file is uploaded in three steps, a job is created from it, result files are downloaded.

The API keeps no metadata. A job is ours when it was made of our file, and the file's name is the marker's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from gateway.listing import oldest_first
from gateway.reading import parse_object
from gateway.transfers import append_files, result_file
from gateway_together.decode import decode_response, decode_row
from gateway_together.downloads import Downloads
from gateway_together.encode import dropped_fields, encode_line, sent_body
from gateway_together.failures import creating, deleting, repeatable, stopping
from gateway_together.remote import (
    RESULT_FIELDS,
    STATES,
    STOPPING,
    job_of,
    parse_list,
    remote_batch,
    status_of,
)
from gateway_together.settings import TogetherSettings
from gateway_together.uploads import Uploads


class TogetherProvider(Provider):
    """Together AI's Batch API."""

    kind: ClassVar[str] = "together"
    Settings: ClassVar[type[ProviderSettings]] = TogetherSettings
    #: Sources and dates are in the README. 100 MB is read as the smaller of its two meanings.
    limits: ClassVar[Limits] = Limits(
        max_requests=50_000,
        max_bytes=100_000_000,
        max_line_bytes=100_000_000,
        max_enqueued_tokens=30_000_000_000,
        min_poll_seconds=30.0,
        window_seconds=259_200.0,
    )
    simulator: ClassVar[str | None] = "gateway_together.sandbox:TogetherSimulator"

    def __init__(self, name: str, settings: ProviderSettings, clock: Clock, directory: Path) -> None:
        """Make the SDK's client; nothing is sent."""
        super().__init__(name, settings, clock, directory)
        import together

        own = cast("TogetherSettings", settings)
        self._transfer = together.Timeout(own.transfer_timeout_seconds, connect=10.0)
        # Followed, a redirect sends a create call twice, and prompts to any host it names.
        http = together.DefaultAsyncHttpxClient(follow_redirects=False)
        self._client = together.AsyncTogether(
            api_key=own.api_key.get_secret_value() or "missing",
            base_url=own.base_url,
            timeout=together.Timeout(own.timeout_seconds, connect=10.0),
            max_retries=0,
            http_client=http,
        )
        # Asked for the first time, the SDK loads 300 modules: 0.2 s that nobody waits for here, and every caller in a call.
        self._batches = self._client.batches
        self._uploads = Uploads(self._client, http, clock, own)
        self._downloads = Downloads(self._client, http, self._transfer)

    def encode(self, call: Call) -> bytes:
        """The caller's body in Together's dialect."""
        return encode_line(call)

    def dropped(self, call: Call) -> Sequence[str]:
        """Hints that Together has no place for."""
        return dropped_fields(call)

    def decode(self, row: bytes) -> Result:
        """One row of an output or an error file."""
        return decode_row(row)

    async def upload(self, batch: Batch) -> str | None:
        """Upload the spool as `MARKER.jsonl`, and wait until a batch can be made of it."""
        return await self._uploads.send(batch)

    async def submit(self, batch: Batch) -> RemoteBatch:
        """One `batches.create`; the file is its mark."""
        if not batch.file_id:
            raise Retryable("create: the input file has not been uploaded")
        async with creating():
            response = await self._batches.with_raw_response.create(
                input_file_id=batch.file_id,
                endpoint=cast("Literal['/v1/chat/completions']", batch.endpoint),
                completion_window="24h",
            )
            return self._read(job_of(parse_object(await response.read())))

    async def find(self, batch: Batch) -> list[RemoteBatch]:
        """Jobs in the account's list that were made of our file, oldest first. The list comes in one piece.

        Without the file's id, the file is looked for by its name, which is ours alone.
        """
        files = {batch.file_id} if batch.file_id else set(await self._uploads.named(f"{batch.marker}.jsonl"))
        if not files:
            return []
        async with repeatable("list", named=False):
            response = await self._batches.with_raw_response.list()
            jobs = parse_list(await response.read())
            return oldest_first(self._read(job) for job in jobs if job.get("input_file_id") in files)

    async def list_ours(self, since: datetime) -> list[RemoteBatch]:
        """Jobs that were made of a file with a marker for its name; one whose file is deleted is not known any more."""
        markers = await self._uploads.marked()
        async with repeatable("list", named=False):
            response = await self._batches.with_raw_response.list()
            jobs = parse_list(await response.read())
            ours = [replace(self._read(job), marker=marker) for job in jobs if (marker := _marker_of(job, markers))]
        return oldest_first(ours, since=since)

    async def poll(self, remote: RemoteBatch) -> RemoteBatch:
        """`batches.retrieve`."""
        async with repeatable("poll"):
            return self._read(await self._job(remote))

    async def fetch(self, remote: RemoteBatch, to: Path) -> None:
        """Download the output file, then the error file if it is there, byte by byte as they are.

        A job that named no result file is asked again first: it may have ended a moment before its files were there.
        """
        if not remote.where.keys() & set(RESULT_FIELDS):
            remote = await self.poll(remote)
        with result_file(to) as target:
            names = [remote.where.get(field) for field in RESULT_FIELDS]
            await append_files(names, lambda file_id: self._downloads.append(file_id, target))

    async def cancel(self, remote: RemoteBatch) -> None:
        """`batches.cancel`; a batch that has ended, or is on its way there, is left as it is."""
        async with stopping(lambda: self._runs_on(remote)):
            await self._batches.with_raw_response.cancel(remote.remote_id)

    async def discard(self, batch: Batch, remote: RemoteBatch | None) -> None:
        """Delete the input file and the result files."""
        names = {batch.file_id, *(remote.where.values() if remote is not None else ())}
        for file_id in sorted(name for name in names if name):
            async with deleting():
                await self._client.files.with_raw_response.delete(file_id)

    async def complete(self, call: Call) -> Result:
        """The synchronous endpoint, once. An answer of any status is a result; no answer raises as a create call does."""
        import httpx
        import together

        try:
            async with creating("complete"):
                response = await self._client.post(
                    call.endpoint,
                    body=sent_body(call),
                    cast_to=httpx.Response,
                    options={"timeout": self._transfer},
                )
                answer = parse_object(response.content)
        except ProviderError as error:
            if isinstance(error.__cause__, together.APIStatusError) and error.__cause__.status_code >= 400:
                return decode_response(None, error.__cause__.status_code, error.__cause__.body)
            raise
        return decode_response(None, response.status_code, answer)

    async def aclose(self) -> None:
        """Close the SDK's connections."""
        await self._client.close()

    async def _job(self, remote: RemoteBatch) -> Mapping[str, object]:
        """The job as it is now."""
        response = await self._batches.with_raw_response.retrieve(remote.remote_id)
        return job_of(parse_object(await response.read()))

    async def _runs_on(self, remote: RemoteBatch) -> bool:
        """Whether the job has neither ended nor been told to."""
        async with repeatable("poll"):
            status = status_of(await self._job(remote))
        return status not in STOPPING and STATES.get(status, RemoteState.RUNNING) is RemoteState.RUNNING

    def _read(self, job: Mapping[str, object]) -> RemoteBatch:
        """The batch in `job`; a state that is not known is named in the log once."""
        status = status_of(job)
        self.note_state(status, STATES)
        return remote_batch(job)


def _marker_of(job: Mapping[str, object], markers: Mapping[str, str]) -> str | None:
    """The marker in the name of the file that a job was made of."""
    file_id = job.get("input_file_id")
    return markers.get(file_id) if isinstance(file_id, str) else None
