"""The two ways to the API: the SDK, for files, and plain calls over the SDK's own connections, for everything else.

Plain, because the SDK leaves out what recovery needs (an operation's error, `batchStats`, `inputConfig`), and because its
typed create call would take every inline request apart and put it together again. Nothing here sends a call twice: the
SDK is given an httpx2 client, since its aiohttp path repeats a call whose connection was lost.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import orjson

from gateway.failures import StatusError, is_foreign
from gateway.reading import parse_object
from gateway_gemini.failures import answered
from gateway_gemini.settings import GeminiSettings

if TYPE_CHECKING:
    from google.genai.client import AsyncClient
    from google.genai.types import File

#: Parsing more than this, as inlined responses can be, would hold up the loop.
_LARGE_BYTES = 1 << 20


class Wire:
    """One account's connections. Made without any I/O."""

    def __init__(self, settings: GeminiSettings) -> None:
        """The SDK is imported here."""
        import httpx2
        from google import genai
        from google.genai import types

        key = settings.api_key.get_secret_value() or "missing"
        self._root = f"{settings.base_url.rstrip('/')}/{settings.api_version}"
        self._headers = {"x-goog-api-key": key, "content-type": "application/json"}
        self._quick = httpx2.Timeout(settings.timeout_seconds, connect=10.0)
        self._slow = httpx2.Timeout(settings.transfer_timeout_seconds, connect=10.0)
        # One reading of the certificates for all: each takes 20 ms.
        trust = httpx2.create_ssl_context()
        self._http = httpx2.AsyncClient(timeout=self._quick, verify=trust)
        self._uploads = httpx2.Client(timeout=self._slow, verify=trust)
        self._client = genai.Client(
            vertexai=False,
            api_key=key,
            http_options=types.HttpOptions(
                base_url=settings.base_url,
                api_version=settings.api_version,
                timeout=int(settings.transfer_timeout_seconds * 1000),
                httpx_client=self._uploads,
                httpx_async_client=self._http,
                retry_options=types.HttpRetryOptions(attempts=1),
            ),
        )

    @property
    def sdk(self) -> AsyncClient:
        """Google's client."""
        return self._client.aio

    async def call(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        query: Mapping[str, str | int] | None = None,
        slow: bool = False,
    ) -> dict[str, object]:
        """One request, sent once, and the object that it was answered with; `path` is below the API's version.

        Raises `StatusError` for any status but 200, `Ambiguous` for an answer that is no object, and what httpx2 raises.
        """
        response = await self._http.request(
            method,
            f"{self._root}/{path}",
            content=content,
            params=query,
            headers=self._headers,
            timeout=self._slow if slow else self._quick,
        )
        if response.status_code != 200:
            status, content = response.status_code, response.content
            foreign = is_foreign(status, content)
            raise StatusError(answered(status, _parsed(content), response.headers, foreign=foreign))
        if len(response.content) > _LARGE_BYTES:
            return await asyncio.to_thread(parse_object, response.content)
        return parse_object(response.content)

    async def upload(self, path: Path, *, name: str, display_name: str) -> File:
        """Upload `path` as the file `name`, in a thread: sending a chunk of the SDK's 8 MiB holds up a loop for 20 ms.

        A caller that is cancelled stops the thread at its next chunk. Raises what the SDK raises.
        """
        spool = _Stoppable(path, "rb")
        try:
            return await asyncio.to_thread(self._send, spool, name, display_name)
        except asyncio.CancelledError:
            spool.stopped = True
            raise

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()
        self._uploads.close()

    def _send(self, spool: _Stoppable, name: str, display_name: str) -> File:
        with spool:
            return self._client.files.upload(
                file=spool,
                config={"name": name, "display_name": display_name, "mime_type": "application/jsonl"},
            )


class _Stoppable(io.FileIO):
    """A file that stops being readable when nobody waits for its upload any more."""

    stopped = False

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes. Raises `InterruptedError` once it was stopped."""
        if self.stopped:
            raise InterruptedError("the upload was cancelled")
        return super().read(-1 if size is None else size) or b""


def model_path(model: str) -> str:
    """The resource name of a model, safe in a path."""
    name = model if model.startswith(("models/", "tunedModels/")) else f"models/{model}"
    return quote(name, safe="/-._~")


def _parsed(content: bytes) -> object:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
