"""The kind `echo`: lines go in the create call, and nothing in a list says whose batch it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, ClassVar, Literal

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
        with _open(batch.spool, "rb") as spool:
            async with (
                _FAILURES.creating(),
                self._sent("POST", "/batches", body=spool, query={"model": batch.model}) as response,
            ):
                return _remote(_object(await response.read()))

    async def find(self, batch: Batch) -> list[RemoteBatch]:
        """Batches of the right time and size: the gateway proves by their line ids whose they are."""
        horizon = batch.listed_since
        found: list[RemoteBatch] = []
        query: dict[str, str] = {}
        while True:
            async with (
                _FAILURES.repeatable("list", named=False),
                self._sent("GET", "/batches", query=query) as response,
            ):
                page = _object(await response.read())
                items = page.get("batches")
                if not isinstance(items, list):
                    raise Ambiguous("the answer is no list")
                seen = [_remote(item) for item in items]
            recent = [each for each in seen if horizon is None or each.created is None or each.created >= horizon]
            found += [each for each in recent if each.total in (None, batch.count)]
            if not page.get("more") or len(recent) < len(seen):
                return found[::-1]
            query = {"after": seen[-1].remote_id}

    async def poll(self, remote: RemoteBatch) -> RemoteBatch:
        """The batch as it is now."""
        async with _FAILURES.repeatable("poll"), self._sent("GET", f"/batches/{remote.remote_id}") as response:
            return _remote(_object(await response.read()))

    async def fetch(self, remote: RemoteBatch, to: Path) -> None:
        """Every row, byte by byte."""
        with _open(to, "wb") as target:
            async with (
                _FAILURES.repeatable("fetch"),
                self._sent("GET", f"/batches/{remote.remote_id}/rows") as response,
            ):
                async for chunk in response.content.iter_chunked(1 << 18):
                    target.write(chunk)

    async def cancel(self, remote: RemoteBatch) -> None:
        """Stop it; what is over stays as it is."""
        async with _FAILURES.repeatable("cancel"), self._sent("POST", f"/batches/{remote.remote_id}/stop") as response:
            await response.read()

    async def aclose(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()

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


def _remote(content: object) -> RemoteBatch:
    """Echo's batch object as ours. Raises `Ambiguous` when it has no id."""
    fields = content if isinstance(content, Mapping) else {}
    remote_id, made, total = fields.get("id"), fields.get("made"), fields.get("lines")
    if not isinstance(remote_id, str) or not remote_id:
        raise Ambiguous("the answer names no batch")
    state = _STATES.get(str(fields.get("state")), RemoteState.RUNNING)
    return RemoteBatch(
        remote_id=remote_id,
        state=state,
        created=datetime.fromtimestamp(made, UTC) if type(made) is int and 0 < made < 1 << 33 else None,
        total=total if type(total) is int else None,
        refusal=Rejected(str(fields.get("why"))) if state is RemoteState.REFUSED else None,
    )


def _object(body: bytes) -> dict[str, object]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        content = None
    if not isinstance(content, dict):
        raise Ambiguous("the answer is no JSON object")
    return content


def _open(path: Path, mode: Literal["rb", "wb"]) -> IO[bytes]:
    return path.open(mode)
