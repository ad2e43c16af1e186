"""The kind `gemini`: Batch Mode of the Gemini Developer API."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import ClassVar, cast

import orjson

from gateway import (
    Batch,
    Call,
    Limits,
    Provider,
    ProviderSettings,
    RemoteBatch,
    RemoteState,
    Result,
    Retryable,
)
from gateway.clock import Clock
from gateway.failures import StatusError
from gateway.listing import Page, oldest_first, read_list
from gateway.reading import mapping, text
from gateway_gemini.answer import failed
from gateway_gemini.decode import decode_response, decode_row
from gateway_gemini.encode import EMBEDDINGS, asked_schema, dropped, encode_line, frame_line, inline_row, request_in
from gateway_gemini.failures import creating, is_about_key, repeatable, stopping
from gateway_gemini.files import Files
from gateway_gemini.remote import (
    RESULT_FILE,
    STATES,
    display_name,
    inlined_rows,
    is_ours,
    listed,
    marker_of,
    remote_batch,
    result_file,
    state_name,
)
from gateway_gemini.settings import GeminiSettings
from gateway_gemini.wire import Wire, model_path

_PAGE = 100


class GeminiProvider(Provider):
    """Gemini's Batch Mode: by file as a rule, inside the create call where the settings allow it."""

    kind: ClassVar[str] = "gemini"
    Settings: ClassVar[type[ProviderSettings]] = GeminiSettings
    #: Sources and dates are in the README. 2 GB is read as the smaller of its two meanings.
    limits: ClassVar[Limits] = Limits(
        max_bytes=2_000_000_000,
        max_open_batches=100,
        min_poll_seconds=1.0,
        window_seconds=172_800.0,
        retention_days=2.0,
    )
    simulator: ClassVar[str | None] = "gateway_gemini.sandbox:GeminiSimulator"

    def __init__(self, name: str, settings: ProviderSettings, clock: Clock, directory: Path) -> None:
        """Make the SDK's client; nothing is sent."""
        super().__init__(name, settings, clock, directory)
        self._own = cast("GeminiSettings", settings)
        self._dialect = self._own.dialect()
        self._wire = Wire(self._own)
        self._files = Files(self._wire, clock, self._own.upload_wait_seconds)

    def encode(self, call: Call) -> bytes:
        """The caller's request in Gemini's words."""
        return encode_line(call, self._dialect)

    def dropped(self, call: Call) -> Sequence[str]:
        """Hints that Gemini has no word for."""
        return dropped(call)

    def output_schema(self, payload: bytes) -> Mapping[str, object] | None:
        """The schema in Gemini's words: `responseJsonSchema`, or any object where only JSON was asked for."""
        return asked_schema(payload)

    def frame(self, line_id: str, payload: bytes) -> bytes:
        """A line of an input file; the line id is its `key`."""
        return frame_line(line_id, payload)

    def decode(self, row: bytes) -> Result:
        """One row of a result file, or one inlined response."""
        return decode_row(row)

    async def upload(self, batch: Batch) -> str | None:
        """Upload the spool as `files/MARKER`; None where the batch will go inside the create call."""
        return None if batch.size <= self._own.inline_max_bytes else await self._files.upload(batch)

    async def submit(self, batch: Batch) -> RemoteBatch:
        """One create call, with the marker as display name."""
        source: bytes
        if batch.file_id:
            source = orjson.dumps({"fileName": batch.file_id})
        elif batch.size <= self._own.inline_max_bytes:
            rows = await asyncio.to_thread(_inline_rows, batch.spool)
            source = b'{"requests":{"requests":[%b]}}' % b",".join(rows)
        else:
            raise Retryable("create: the input file has not been uploaded")
        name = orjson.dumps(display_name(batch.marker))
        verb = "asyncBatchEmbedContent" if batch.endpoint == EMBEDDINGS else "batchGenerateContent"
        async with creating():
            operation = await self._wire.call(
                "POST",
                f"{model_path(batch.model)}:{verb}",
                content=b'{"batch":{"displayName":%b,"inputConfig":%b}}' % (name, source),
            )
            return self._read(operation)

    async def find(self, batch: Batch) -> list[RemoteBatch]:
        """Batches in the account's list with our marker, or made of our file; oldest first.

        The list is read to its end: no order of it is documented, and it cannot be filtered.
        """
        async with repeatable("list", named=False):
            return oldest_first([self._read(item) async for item in read_list(self._page) if is_ours(item, batch)])

    async def list_ours(self, since: datetime) -> list[RemoteBatch]:
        """Batches of the account's list whose display name has a marker; the list is read to its end."""
        async with repeatable("list", named=False):
            operations = read_list(self._page)
            ours = [
                replace(self._read(item), marker=marker) async for item in operations if (marker := marker_of(item))
            ]
        return oldest_first(ours, since=since)

    async def _page(self, after: str | None) -> Page:
        """One page of the account's list."""
        query: dict[str, str | int] = {"pageSize": _PAGE} | ({"pageToken": after} if after else {})
        page = await self._wire.call("GET", "batches", query=query)
        return Page(items=listed(page), after=text(page.get("nextPageToken")))

    async def poll(self, remote: RemoteBatch) -> RemoteBatch:
        """The batch as it is now."""
        async with repeatable("poll"):
            return self._read(await self._wire.call("GET", remote.remote_id))

    async def fetch(self, remote: RemoteBatch, to: Path) -> None:
        """Download the result file as it is, or write inlined responses one by one; whichever there is."""
        async with repeatable("fetch"):
            operation = await self._wire.call("GET", remote.remote_id, slow=True)
            file = result_file(operation)
            if file is None:
                await asyncio.to_thread(_write_rows, operation, to)
            else:
                await self._files.download(file, to)

    async def cancel(self, remote: RemoteBatch) -> None:
        """Ask for the end of a batch; one that has ended is left as it is."""
        async with stopping(lambda: self._runs_on(remote)):
            await self._wire.call("POST", f"{remote.remote_id}:cancel", content=b"{}")

    async def discard(self, batch: Batch, remote: RemoteBatch | None) -> None:
        """Delete the input file, the result file, and the batch itself once it has ended: `find` reads the whole list."""
        names = [batch.file_id]
        if remote is not None:
            names.append(remote.where.get(RESULT_FILE))
            names.append(remote.remote_id if remote.state is not RemoteState.RUNNING else None)
        for name in names:
            if name:
                await self._files.delete(name)

    async def complete(self, call: Call) -> Result:
        """The synchronous endpoint, once. An answer of any status is a result; no answer raises as a create call does."""
        return await self.complete_payload(call.endpoint, call.model, self.encode(call))

    async def complete_payload(self, endpoint: str, model: str, payload: bytes) -> Result:
        """The same for a request that was encoded earlier."""
        verb = "embedContent" if endpoint == EMBEDDINGS else "generateContent"
        async with creating("complete"):
            try:
                response = await self._wire.call(
                    "POST", f"{model_path(model)}:{verb}", content=request_in(payload), slow=True
                )
            except StatusError as error:
                answer = error.answered
                if answer.status < 400:
                    raise
                told = {"code": answer.status, **mapping(answer.content)}
                return failed({"code": 401} if is_about_key(answer) else told)
        return decode_response(response, model=model)

    async def aclose(self) -> None:
        """Close the SDK's connections."""
        await self._wire.aclose()

    async def _runs_on(self, remote: RemoteBatch) -> bool:
        """Whether the batch has not ended."""
        return (await self.poll(remote)).state is RemoteState.RUNNING

    def _read(self, operation: Mapping[str, object]) -> RemoteBatch:
        """The batch in `operation`; a state that is not known is named in the log once."""
        state = state_name(operation)
        remote = remote_batch(operation)
        self.note_state(state, STATES, treated_as=remote.state)
        return remote


def _inline_rows(spool: Path) -> list[bytes]:
    with spool.open("rb") as lines:
        return [inline_row(line) for line in lines]


def _write_rows(operation: Mapping[str, object], to: Path) -> None:
    with to.open("wb") as target:
        for row in inlined_rows(operation):
            target.write(row + b"\n")
