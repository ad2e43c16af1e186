"""The files of one account: brought there until a batch can be made of them, fetched, deleted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from gateway import Batch, Missing, Rejected, Retryable
from gateway.clock import Clock
from gateway_openai.failures import repeatable
from gateway_openai.remote import parse_object, status_of

if TYPE_CHECKING:
    import openai

_CHUNK_BYTES = 1 << 18
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
            with _open(batch.spool, "rb") as spool:
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
        """The files one after the other in `to`, byte by byte as they are."""
        with _open(to, "wb") as target:
            for file_id in file_ids:
                if file_id:
                    await self._append(file_id, target)

    async def delete(self, file_ids: Iterable[str | None]) -> None:
        """Delete the files; those that are gone or cannot be deleted are passed over."""
        for file_id in sorted({name for name in file_ids if name}):
            try:
                async with repeatable("discard", refusable=True):
                    await self._client.files.with_raw_response.delete(file_id)
            except (Missing, Rejected):
                continue

    async def _until_usable(self, file_id: str, file: Mapping[str, object]) -> None:
        """Wait while the provider still reads the file."""
        deadline = self._clock.monotonic() + self._wait_seconds
        pause = 0.5
        while status_of(file) in _PENDING_FILE:
            if self._clock.monotonic() + pause > deadline:
                raise Retryable(f"upload: file {file_id} is still {status_of(file)}")
            await self._clock.sleep(pause)
            pause = min(pause * 2, 10.0)
            response = await self._client.files.with_raw_response.retrieve(file_id)
            file = parse_object(response.content)
        if status_of(file) in _BROKEN_FILE:
            raise Rejected(f"upload: the provider cannot use the file: {str(file.get('status_details'))[:200]}")

    async def _append(self, file_id: str, target: IO[bytes]) -> None:
        """Append one result file; its last row gets the newline that it may lack.

        A body shorter than was promised, by length or by chunks, is a transport failure to the HTTP library.
        """
        last = b"\n"
        async with (
            repeatable("fetch"),
            self._client.files.with_streaming_response.content(file_id, timeout=self._transfer) as response,
        ):
            async for chunk in response.iter_bytes(_CHUNK_BYTES):
                target.write(chunk)
                last = chunk[-1:] or last
        if last != b"\n":
            target.write(b"\n")


def _open(path: Path, mode: Literal["rb", "wb"]) -> IO[bytes]:
    """`path` opened; the SDK reads from a handle piece by piece, from a path all at once."""
    return path.open(mode)
