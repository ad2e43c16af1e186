"""The kind `anthropic`: one workspace at Anthropic's Message Batches API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast
from urllib.parse import quote

import orjson

from gateway import (
    Batch,
    Call,
    Limits,
    Provider,
    ProviderError,
    ProviderSettings,
    RemoteBatch,
    Result,
)
from gateway.clock import Clock
from gateway.listing import Page, oldest_first, read_list
from gateway.reading import parse_object
from gateway.transfers import PIECE_BYTES, append_rows, result_file
from gateway_anthropic.body import FRAME_BYTES, body_length, create_body
from gateway_anthropic.decode import decode_error, decode_message, decode_row
from gateway_anthropic.encode import asked_schema, encode_line, write_params
from gateway_anthropic.failures import creating, deleting, repeatable, stopping
from gateway_anthropic.remote import (
    PAGE,
    STATES,
    STOPPING,
    created,
    cursor,
    listed,
    may_be,
    remote_batch,
    status_of,
)
from gateway_anthropic.settings import SAMPLING_VERSION, AnthropicSettings
from gateway_anthropic.thinking import BINDING_BETA

if TYPE_CHECKING:
    import httpx2

_BATCHES = "/v1/messages/batches"


class AnthropicProvider(Provider):
    """A batch is created from one body that holds all requests; its results are one stream of rows.

    The provider has no place for a marker: `find` gives candidates, which core proves by their line ids.
    """

    kind: ClassVar[str] = "anthropic"
    Settings: ClassVar[type[ProviderSettings]] = AnthropicSettings
    #: Sources and dates are in the README. 256 MB is read as the smaller of its two meanings.
    limits: ClassVar[Limits] = Limits(
        max_requests=100_000,
        max_bytes=256_000_000 - FRAME_BYTES,
        max_line_bytes=32_000_000,
        min_poll_seconds=1.0,
        window_seconds=86_400.0,
        retention_days=29.0,
    )
    marked: ClassVar[bool] = False
    simulator: ClassVar[str | None] = "gateway_anthropic.sandbox:AnthropicSimulator"

    def __init__(self, name: str, settings: ProviderSettings, clock: Clock, directory: Path) -> None:
        """Make the SDK's client; nothing is sent. What the SDK would read from the environment is not read."""
        super().__init__(name, settings, clock, directory)
        import anthropic

        self._own = cast("AnthropicSettings", settings)
        own = self._own
        key = own.api_key.get_secret_value() or "missing"
        headers: dict[str, str] = {"anthropic-version": own.api_version}
        if own.api_version == SAMPLING_VERSION:
            headers["X-Api-Key"] = key
        if own.stale_thoughts == "drop":
            headers["anthropic-beta"] = BINDING_BETA
        self._transfer = anthropic.Timeout(own.transfer_timeout_seconds, connect=10.0)
        self._client = anthropic.AsyncAnthropic(
            api_key=key,
            base_url=own.base_url,
            timeout=anthropic.Timeout(own.timeout_seconds, connect=10.0),
            max_retries=0,
            # Followed, a redirect sends a create call twice, and the key, whose header is the API's own, to any host it names.
            http_client=anthropic.DefaultAsyncHttpxClient(follow_redirects=False),
            default_headers=headers,
            open_telemetry=False,
        )
        if own.api_version == SAMPLING_VERSION:
            # The key's place in that version; with it, the SDK sends no bearer token.
            self._client.api_key = None

    def encode(self, call: Call) -> bytes:
        """The params of a Message, translated from a chat completion."""
        return encode_line(call, self._own)

    def dropped(self, call: Call) -> Sequence[str]:
        """Hints, `seed`, and what configuration or the history keeps from being sent."""
        return write_params(call, self._own).dropped

    def output_schema(self, payload: bytes) -> Mapping[str, object] | None:
        """The schema of `output_config.format`. Where `json_object` is only asked for in words, nothing is promised."""
        return asked_schema(payload)

    def decode(self, row: bytes) -> Result:
        """One row of a batch's results."""
        return decode_row(row)

    async def submit(self, batch: Batch) -> RemoteBatch:
        """One create call; its body is made of the spool while it is sent."""
        import httpx2

        size = batch.spool.stat().st_size
        headers = {"Content-Type": "application/json", "Content-Length": str(body_length(size))}
        async with creating():
            response = await self._client.post(
                _BATCHES,
                content=create_body(batch.spool, size),
                cast_to=httpx2.Response,
                options={"headers": headers, "timeout": self._transfer, "max_retries": 0},
            )
            return self._read(parse_object(response.content))

    async def find(self, batch: Batch) -> list[RemoteBatch]:
        """Batches of the workspace that have as many requests and are not too old; oldest first."""
        since = batch.listed_since
        async with repeatable("list", named=False):
            items = read_list(self._page, since=since, created=created)
            return oldest_first([remote async for item in items if may_be(remote := self._read(item), batch, since)])

    async def list_ours(self, since: datetime) -> list[RemoteBatch]:
        """Every batch of the workspace made since then: nothing in the list says whose it is."""
        async with repeatable("list", named=False):
            items = read_list(self._page, since=since, created=created)
            return oldest_first([self._read(item) async for item in items], since=since)

    async def poll(self, remote: RemoteBatch) -> RemoteBatch:
        """The batch as it is now; it is never refused as a whole, and shows no progress before its end."""
        async with repeatable("poll"):
            return self._read(parse_object((await self._get(_path(remote))).content))

    async def fetch(self, remote: RemoteBatch, to: Path) -> None:
        """Download the results from our own base URL, byte by byte; the address that the batch names is not followed."""
        import anthropic
        import httpx2

        with result_file(to) as target:
            async with repeatable("fetch"):
                response = cast(
                    "httpx2.Response",
                    await self._client.get(
                        _path(remote, "/results"),
                        cast_to=httpx2.Response,
                        options={"headers": {"Accept": "application/binary"}, "timeout": self._transfer},
                        stream=True,
                        stream_cls=anthropic.AsyncStream[object],
                    ),
                )
                try:
                    await append_rows(response.aiter_bytes(PIECE_BYTES), target)
                finally:
                    await response.aclose()

    async def cancel(self, remote: RemoteBatch) -> None:
        """Ask for the end; a batch that has ended, or is on its way there, is left as it is."""
        import httpx2

        async with stopping(lambda: self._runs_on(remote)):
            await self._client.post(_path(remote, "/cancel"), cast_to=httpx2.Response)

    async def discard(self, batch: Batch, remote: RemoteBatch | None) -> None:
        """Delete the remote batch if so configured; there are no files."""
        import httpx2

        if remote is None or not self._own.delete_batches:
            return
        async with deleting():
            await self._client.delete(_path(remote), cast_to=httpx2.Response)

    async def complete(self, call: Call) -> Result:
        """One Message at once. An answer of any status is a result; no answer raises as a create call does."""
        return await self.complete_payload(call.endpoint, call.model, self.encode(call))

    async def complete_payload(self, endpoint: str, model: str, payload: bytes) -> Result:
        """The same for what `encode` made of a call: its params are what is sent."""
        import anthropic
        import httpx2

        params = orjson.loads(payload)["params"]
        try:
            async with creating("complete"):
                response = await self._client.post(
                    "/v1/messages", body=params, cast_to=httpx2.Response, options={"timeout": self._transfer}
                )
                return decode_message(None, parse_object(response.content))
        except ProviderError as error:
            if isinstance(error.__cause__, anthropic.APIStatusError) and error.__cause__.status_code >= 400:
                return decode_error(None, error.__cause__.body, error.__cause__.status_code)
            raise

    async def aclose(self) -> None:
        """Close the SDK's connections."""
        await self._client.close()

    async def _page(self, after: str | None) -> Page:
        """One page of the workspace's batches, newest first as far as is known."""
        query = f"?limit={PAGE}" + (f"&after_id={quote(after, safe='')}" if after else "")
        content = parse_object((await self._get(_BATCHES + query)).content)
        items = listed(content)
        return Page(items=items, after=cursor(content, items, after), goes_on=content.get("has_more") is True)

    async def _runs_on(self, remote: RemoteBatch) -> bool:
        """Whether the batch has neither ended nor been told to."""
        async with repeatable("poll"):
            return status_of(parse_object((await self._get(_path(remote))).content)) not in STOPPING

    async def _get(self, path: str) -> httpx2.Response:
        import httpx2

        return await self._client.get(path, cast_to=httpx2.Response)

    def _read(self, content: Mapping[str, object]) -> RemoteBatch:
        """The batch in `content`; a state that is not known is named in the log once."""
        status = status_of(content)
        self.note_state(status, STATES)
        return remote_batch(content)


def _path(remote: RemoteBatch, suffix: str = "") -> str:
    return f"{_BATCHES}/{quote(remote.remote_id, safe='')}{suffix}"
