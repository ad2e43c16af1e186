"""The files of one account: brought there until a batch can be made of them, fetched, deleted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from gateway import Batch, Rejected, Retryable
from gateway.clock import Clock
from gateway.failures import StatusError
from gateway.reading import count, mapping, text
from gateway.transfers import end_row, result_file, until_usable
from gateway_gemini.failures import already_exists, deleting, read, repeatable
from gateway_gemini.remote import display_name
from gateway_gemini.wire import Wire

_BROKEN = "FAILED"
_PENDING = "PROCESSING"


class Files:
    """One account's files."""

    def __init__(self, wire: Wire, clock: Clock, wait_seconds: float) -> None:
        """`wait_seconds` is what the provider may read a file for."""
        self._wire = wire
        self._clock = clock
        self._wait_seconds = wait_seconds

    async def upload(self, batch: Batch) -> str:
        """Upload the spool as `files/MARKER`, wait until a batch can be made of it, and return that name.

        The name is ours, so a second upload finds the first: a file that is there and whole is used as it is.
        """
        name = f"files/{batch.marker}"
        async with repeatable("upload", refusable=True, named=False):
            await self._until_usable(await self._sent(batch, name))
        return name

    async def download(self, file: str, to: Path) -> None:
        """The file in `to`, as it is. Raises what the SDK raises."""
        with result_file(to) as target:
            await self._wire.sdk.files.download(file=file, destination=cast("str", target))
            end_row(target)

    async def delete(self, name: str) -> None:
        """Delete a file, or a batch; one that is gone or cannot be deleted is passed over."""
        async with deleting():
            await self._wire.call("DELETE", name)

    async def _sent(self, batch: Batch, name: str) -> Mapping[str, object]:
        """The file, uploaded now or before."""
        try:
            sent = await self._wire.upload(batch.spool, name=name, display_name=f"{display_name(batch.marker)}.jsonl")
        except (KeyError, ValueError, TypeError) as error:
            # What the SDK raises for an answer without an upload address, or without a file at the end.
            raise Retryable(f"upload: {type(error).__name__}") from error
        except Exception as error:
            answer = read(error)
            if answer is None or not already_exists(answer):
                raise
            return await self._present(name, batch.size)
        return {"name": sent.name or name, "state": getattr(sent.state, "value", None)}

    async def _present(self, name: str, size: int) -> Mapping[str, object]:
        """The file of that name; if it is not whole, it is deleted and the upload may be tried again."""
        try:
            file = await self._wire.call("GET", name)
        except StatusError as error:
            raise Retryable(f"upload: {name} is taken and cannot be read: {error}") from error
        if count(file.get("sizeBytes")) == size and file.get("state") != _BROKEN:
            return file
        await self.delete(name)
        raise Retryable(f"upload: {name} was there and not whole; it has been deleted", retry_after=1.0)

    async def _until_usable(self, file: Mapping[str, object]) -> None:
        """Wait while the provider still reads the file."""
        name = text(file.get("name")) or ""
        file = await until_usable(
            file,
            lambda: self._wire.call("GET", name),
            pending=lambda file: _PENDING if file.get("state") == _PENDING else None,
            clock=self._clock,
            wait_seconds=self._wait_seconds,
        )
        if file.get("state") == _BROKEN:
            reason = text(mapping(file.get("error")).get("message")) or "no reason given"
            raise Rejected(f"upload: the provider cannot use the file: {reason[:200]}")
