"""The files of one account: brought there until a batch can be made of them, fetched, deleted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gateway import Batch, Rejected, Retryable
from gateway.clock import Clock
from gateway.reading import parse_object
from gateway.transfers import PIECE_BYTES, append_files, append_rows, opened, result_file, until_usable
from gateway_openai.failures import deleting, repeatable
from gateway_openai.remote import status_of

if TYPE_CHECKING:
    import openai

#: States of an uploaded file that are not usable yet, in the words of all dialects.
_PENDING_FILE = frozenset({"pending", "uploading", "processing", "running", "notrunning", "not_running"})
_BROKEN_FILE = frozenset({"error", "failed", "deleted"})


class Files:
    """One account's files."""

    def __init__(self, client: openai.AsyncOpenAI, clock: Clock, transfer: openai.Timeout, wait_seconds: float) -> None:
        """`transfer` is what one upload or download may take, `wait_seconds` what the provider may read a file for."""
        self._client = client
        self._clock = clock
        self._transfer = transfer
        self._wait_seconds = wait_seconds

    async def upload(self, batch: Batch) -> str:
        """Upload the spool as `MARKER.jsonl`, wait until a batch can be made of it, and return its id."""
        async with repeatable("upload", refusable=True, named=False):
            with opened(batch.spool) as spool:
                response = await self._client.files.with_raw_response.create(
                    file=(f"{batch.marker}.jsonl", spool, "application/jsonl"),
                    purpose="batch",
                    timeout=self._transfer,
                )
            file = parse_object(response.content)
            file_id = file.get("id")
            if not isinstance(file_id, str) or not file_id:
                raise Retryable("upload: the answer names no file")
            await self._until_usable(file_id, file)
        return file_id

    async def download(self, file_ids: Iterable[str | None], to: Path) -> None:
        """The files one after the other in `to`, byte by byte as they are; the answers also where the errors are gone."""
        content = self._client.files.with_streaming_response.content
        with result_file(to) as target:

            async def append(file_id: str) -> None:
                async with repeatable("fetch"), content(file_id, timeout=self._transfer) as response:
                    await append_rows(response.iter_bytes(PIECE_BYTES), target)

            await append_files(file_ids, append)

    async def delete(self, file_ids: Iterable[str | None]) -> None:
        """Delete the files; those that are gone or cannot be deleted are passed over."""
        for file_id in sorted({name for name in file_ids if name}):
            async with deleting():
                await self._client.files.with_raw_response.delete(file_id)

    async def _until_usable(self, file_id: str, file: Mapping[str, object]) -> None:
        """Wait while the provider still reads the file."""

        async def look() -> Mapping[str, object]:
            response = await self._client.files.with_raw_response.retrieve(file_id)
            return parse_object(response.content)

        file = await until_usable(file, look, pending=_pending, clock=self._clock, wait_seconds=self._wait_seconds)
        if status_of(file) in _BROKEN_FILE:
            raise Rejected(f"upload: the provider cannot use the file: {str(file.get('status_details'))[:200]}")


def _pending(file: Mapping[str, object]) -> str | None:
    status = status_of(file)
    return status if status in _PENDING_FILE else None
