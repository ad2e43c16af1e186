"""The kind `echo`: lines go in the create call, and nothing in a list says whose batch it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, ClassVar

import aiohttp
import orjson

from gateway import (
    Ambiguous,
    Batch,
    Call,
    Limits,
    Provider,
    ProviderSettings,
    Rejected,
    RemoteBatch,
    RemoteState,
    Result,
)
from gateway.clock import Clock
from gateway.failures import Answered, Failures, StatusError, retry_after
from gateway.listing import Page, oldest_first, read_list
from gateway.reading import count, mapping, moment, parse_object, text
from gateway.transfers import PIECE_BYTES, append_rows, opened, result_file
from gateway_echo.words import decode_row, dropped_fields, encode_call

_STATES = {"working": RemoteState.RUNNING, "over": RemoteState.ENDED, "refused": RemoteState.REFUSED}
#: Echo means by its statuses what everybody means.
_FAILURES = Failures()


class EchoSettings(ProviderSettings):
    """No keys of its own."""

    base_url: str = "https://echo.example.com"


class EchoProvider(Provider):
    """One account. Its batches carry no name of ours."""

    kind: ClassVar[str] = "echo"
    Settings: ClassVar[type[ProviderSettings]] = EchoSettings
    limits: ClassVar[Limits] = Limits(max_requests=1_000, max_bytes=10_000_000, max_line_bytes=1_000_000)
    marked: ClassVar[bool] = False
    simulator: ClassVar[str | None] = "gateway_echo.sandbox:EchoSimulator"

    def __init__(self, name: str, settings: ProviderSettings, clock: Clock, directory: Path) -> None:
        """Nothing is sent."""
        super().__init__(name, settings, clock, directory)
        self._session: aiohttp.ClientSession | None = None

    def encode(self, call: Call) -> bytes:
        """The conversation in Echo's words."""
        return encode_call(call)

    def dropped(self, call: Call) -> Sequence[str]:
        """What was left out of it."""
        return dropped_fields(call)

    def frame(self, line_id: str, payload: bytes) -> bytes:
        """The name of a line is its `ref`."""
        return b'{"ref":%b,%b' % (orjson.dumps(line_id), payload[1:])

    def decode(self, row: bytes) -> Result:
        """One row of the results."""
        return decode_row(row)

    async def submit(self, batch: Batch) -> RemoteBatch:
        """One call with every line in it, read from the spool piece by piece."""
        with opened(batch.spool) as spool:
            async with (
                _FAILURES.creating(),
                self._sent("POST", "/batches", body=spool, query={"model": batch.model}) as response,
            ):
                return _remote(parse_object(await response.read()))

    async def find(self, batch: Batch) -> list[RemoteBatch]:
        """Batches of the right time and size: the gateway proves by their line ids whose they are."""
        since = batch.listed_since
        async with _FAILURES.repeatable("list", named=False):
            seen = [_remote(item) async for item in read_list(self._page, since=since, created=_made)]
        return oldest_first([remote for remote in seen if remote.total in (None, batch.count)], since=since)

    async def poll(self, remote: RemoteBatch) -> RemoteBatch:
        """The batch as it is now."""
        async with _FAILURES.repeatable("poll"), self._sent("GET", f"/batches/{remote.remote_id}") as response:
            return _remote(parse_object(await response.read()))

    async def fetch(self, remote: RemoteBatch, to: Path) -> None:
        """Every row, byte by byte."""
        with result_file(to) as target:
            async with (
                _FAILURES.repeatable("fetch"),
                self._sent("GET", f"/batches/{remote.remote_id}/rows") as response,
            ):
                await append_rows(response.content.iter_chunked(PIECE_BYTES), target)

    async def cancel(self, remote: RemoteBatch) -> None:
        """Stop it; what is over stays as it is."""
        async with _FAILURES.repeatable("cancel"), self._sent("POST", f"/batches/{remote.remote_id}/stop") as response:
            await response.read()

    async def aclose(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()

    async def _page(self, after: str | None) -> Page:
        """One page of the account's batches, newest first."""
        async with self._sent("GET", "/batches", query={"after": after} if after else None) as response:
            content = parse_object(await response.read())
        items = content.get("batches")
        if not isinstance(items, list):
            raise Ambiguous("the answer is no list")
        batches = [mapping(item) for item in items]
        last = text(batches[-1].get("id")) if batches and content.get("more") else None
        return Page(items=batches, after=last)

    @asynccontextmanager
    async def _sent(
        self, method: str, path: str, *, body: IO[bytes] | None = None, query: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A call that was answered with 2xx. Raises `StatusError` for every other status."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=300, sock_connect=10))
        headers = {"X-Key": self.settings.api_key.get_secret_value()}
        async with self._session.request(
            method, self.settings.base_url + path, params=query, data=body, headers=headers, allow_redirects=False
        ) as response:
            if not 200 <= response.status < 300:
                raise StatusError(Answered(status=response.status, retry_after=retry_after(response.headers)))
            yield response


def _made(fields: Mapping[str, object]) -> datetime | None:
    return moment(fields.get("made"))


def _remote(fields: Mapping[str, object]) -> RemoteBatch:
    """Echo's batch object as ours. Raises `Ambiguous` when it has no id."""
    remote_id = text(fields.get("id"))
    if remote_id is None:
        raise Ambiguous("the answer names no batch")
    state = _STATES.get(str(fields.get("state")), RemoteState.RUNNING)
    return RemoteBatch(
        remote_id=remote_id,
        state=state,
        created=_made(fields),
        total=count(fields.get("lines")),
        refusal=Rejected(str(fields.get("why"))) if state is RemoteState.REFUSED else None,
    )
