"""Bringing a spool to Together: ask for a place, put the bytes there, have them looked at, wait until they are usable.

The same steps on the wire as the SDK's `files.upload`, through the SDK's own client. That method reads and hashes the
whole file on the loop, wants a path of a certain name, and fails on a file object with a new field.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from gateway import Batch, Missing, Rejected, Retryable
from gateway.clock import Clock
from gateway.reading import parse_object
from gateway.records import is_marker
from gateway.transfers import opened, until_usable
from gateway_together.failures import repeatable
from gateway_together.remote import parse_list
from gateway_together.settings import TogetherSettings

if TYPE_CHECKING:
    import httpx
    from together import APIStatusError, AsyncTogether

PURPOSE = "batch-api"
#: Of a file whose name begins with the marker.
_SUFFIX = ".jsonl"

_CHUNK_BYTES = 1 << 20
#: Statuses that point elsewhere.
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_HOPS = 20
#: Fit for a path; the same that the SDK takes.
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PENDING = frozenset({"PENDING", "QUEUED", "RUNNING"})
_BROKEN = frozenset({"FAILED", "INVALID_FORMAT"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """The answer to an announced upload."""

    file_id: str
    #: Where the bytes go; None: the provider has a file of the same checksum.
    url: str | None


class Uploads:
    """Uploads to one account."""

    def __init__(
        self, client: AsyncTogether, http: httpx.AsyncClient, clock: Clock, settings: TogetherSettings
    ) -> None:
        """`http` is what `client` speaks through; storage is reached over it without the key."""
        self._client = client
        self._http = http
        self._clock = clock
        self._settings = settings

    async def send(self, batch: Batch) -> str:
        """Upload the spool as `MARKER.jsonl`; returns the file's id when it is usable.

        Bytes that the provider has already are not sent again. Raises as `Provider.upload`.
        """
        checksum = await asyncio.to_thread(_checksum, batch.spool)
        async with repeatable("upload", refusable=True, named=False):
            ticket = await self._announce(batch, checksum)
            if ticket.url is None and not await self._complete(ticket.file_id, batch):
                await self._client.files.with_raw_response.delete(ticket.file_id)
                ticket = await self._announce(batch, checksum)
            if ticket.url is not None:
                await self._put(ticket.url, batch)
                await self._preprocess(ticket.file_id)
            await self._until_usable(ticket.file_id)
        return ticket.file_id

    async def named(self, name: str) -> list[str]:
        """Ids of the account's files of that name. Raises `Retryable`, `Unauthorised`."""
        return [file_id for file_id, filename in (await self._names()).items() if filename == name]

    async def marked(self) -> dict[str, str]:
        """Ids of the account's files that are spools of a gateway -> their markers. Raises `Retryable`, `Unauthorised`."""
        markers = {
            file_id: name.removesuffix(_SUFFIX)
            for file_id, name in (await self._names()).items()
            if name.endswith(_SUFFIX)
        }
        return {file_id: marker for file_id, marker in markers.items() if is_marker(marker)}

    async def _names(self) -> dict[str, str]:
        async with repeatable("list", named=False):
            response = await self._client.files.with_raw_response.list()
            files = parse_list(await response.read())
        return {
            file_id: name
            for file in files
            if isinstance(file_id := file.get("id"), str) and isinstance(name := file.get("filename"), str)
        }

    async def _announce(self, batch: Batch, checksum: str) -> Ticket:
        """Step one: no bytes yet. The place is told by a redirect that is not followed."""
        import httpx
        import together

        form = {"purpose": PURPOSE, "file_name": _name(batch), "file_type": "jsonl", "checksum": checksum}
        try:
            response = await self._client.post(
                "/v1/files",
                cast_to=httpx.Response,
                body=form,
                options={"headers": {"Content-Type": "multipart/form-data"}, "follow_redirects": False},
            )
        except together.APIStatusError as error:
            if error.status_code == 409:
                return Ticket(file_id=await self._known(batch, error), url=None)
            if error.status_code not in REDIRECTS:
                raise
            response = error.response
        file_id, url = response.headers.get("X-Together-File-Id", ""), response.headers.get("Location")
        if not url or not _SAFE_ID.fullmatch(file_id):
            raise Retryable("upload: the answer names no file, or no place to put it")
        return Ticket(file_id=file_id, url=str(httpx.URL(str(self._client.base_url)).join(url)))

    async def _known(self, batch: Batch, error: APIStatusError) -> str:
        """The file that a 409 speaks of; the name is ours alone, so that it helps out where no id is told."""
        told = error.body.get("file_id") if isinstance(error.body, dict) else None
        if isinstance(told, str) and _SAFE_ID.fullmatch(told):
            return told
        files = await self.named(_name(batch))
        if not files:
            raise Retryable("upload: the provider knows the file and does not say which it is")
        return files[-1]

    async def _complete(self, file_id: str, batch: Batch) -> bool:
        """Whether a file from an earlier upload has all its bytes; if it was left unlooked at, it is handed on now."""
        file = await self._file(file_id)
        size = file.get("bytes")
        if isinstance(size, int) and size != batch.size:
            return False
        if _state(file) == "PENDING":
            try:
                async with repeatable("upload", refusable=True):
                    await self._preprocess(file_id)
            except (Missing, Rejected):
                pass  # it is being looked at already
        return True

    async def _put(self, url: str, batch: Batch) -> None:
        """Step two: the bytes, as they are read. Storage gets no key; a redirect sends them anew."""
        import httpx

        for _ in range(_MAX_HOPS):
            with opened(batch.spool) as spool:
                response = await self._http.put(
                    url,
                    content=_chunks(spool),
                    headers={"Content-Length": str(_size(spool))},
                    follow_redirects=False,
                    timeout=httpx.Timeout(self._settings.transfer_timeout_seconds, connect=10.0),
                )
            if response.status_code == 200:
                return
            location = response.headers.get("Location")
            if response.status_code not in REDIRECTS or not location:
                raise Retryable(f"upload: storage answered with status {response.status_code}")
            url = redirected(url, location, secure=self._client.base_url.scheme == "https")
        raise Retryable("upload: storage redirects without end")

    async def _preprocess(self, file_id: str) -> None:
        """Step three: the provider looks at the bytes."""
        import httpx

        await self._client.post(f"/v1/files/{file_id}/preprocess", cast_to=httpx.Response)

    async def _file(self, file_id: str) -> Mapping[str, object]:
        response = await self._client.files.with_raw_response.retrieve(file_id)
        return parse_object(await response.read())

    async def _until_usable(self, file_id: str) -> None:
        """Wait while the provider looks at the file; one without a state is not looked at, and usable."""
        file = await until_usable(
            await self._file(file_id),
            lambda: self._file(file_id),
            pending=_pending,
            clock=self._clock,
            wait_seconds=self._settings.upload_wait_seconds,
        )
        if _state(file) in _BROKEN:
            report = file.get("validation_report")
            told = report.get("error") if isinstance(report, dict) else None
            raise Rejected(f"upload: the file is {_state(file)}: {str(told or 'no reason given')[:500]}")


def redirected(url: str, location: str, *, secure: bool) -> str:
    """Where a redirect from `url` leads. Raises `Retryable` when that is an open line while the API is a `secure` one."""
    import httpx

    target = httpx.URL(url).join(location)
    if secure and target.scheme != "https":
        raise Retryable("upload: storage redirects to an address without TLS")
    return str(target)


def _name(batch: Batch) -> str:
    return f"{batch.marker}{_SUFFIX}"


def _state(file: Mapping[str, object]) -> str:
    state = file.get("processing_status")
    return state.strip().upper() if isinstance(state, str) else ""


def _pending(file: Mapping[str, object]) -> str | None:
    state = _state(file)
    return state if state in _PENDING else None


def _checksum(path: Path) -> str:
    """SHA-256 in hex. Runs in a thread."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    """The file piece by piece, read in threads."""
    while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
        yield chunk
