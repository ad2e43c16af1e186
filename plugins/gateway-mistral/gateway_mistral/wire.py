"""The SDK's client over an HTTP client of ours, and the calls that are made on that one directly.

Direct calls are those that the SDK's models would hold in memory or stall the loop for: the create call with its
requests inside, downloads, and synchronous completions, whose bodies are stored as bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from typing import IO, TYPE_CHECKING

import orjson

from gateway import Ambiguous, Batch
from gateway.failures import StatusError
from gateway.reading import parse_object
from gateway_mistral.failures import answered
from gateway_mistral.listing import MARKER_KEY
from gateway_mistral.settings import MistralSettings

if TYPE_CHECKING:
    import httpx2
    from mistralai.client.types import BaseModel

_CHUNK_BYTES = 1 << 16
#: More of an error's body is not read.
_MAX_ERROR_BYTES = 1 << 16


class Wire:
    """One account's connections."""

    def __init__(self, settings: MistralSettings) -> None:
        """Make the clients; nothing is sent."""
        import httpx2
        from mistralai.client import Mistral

        key = settings.api_key.get_secret_value() or "missing"
        self._headers = {"Authorization": f"Bearer {key}"}
        self._url = settings.base_url
        self._transfer = httpx2.Timeout(settings.transfer_timeout_seconds, connect=10.0)
        # The SDK's own client would follow a redirect of a create call, which is a second one.
        self._http = httpx2.AsyncClient(
            timeout=httpx2.Timeout(settings.timeout_seconds, connect=10.0), follow_redirects=False
        )
        self.sdk = Mistral(
            api_key=key,
            server_url=settings.base_url,
            async_client=self._http,
            timeout_ms=int(settings.timeout_seconds * 1000),
        )

    async def post(self, path: str, content: bytes | AsyncIterator[bytes], length: int) -> bytes:
        """The body of the answer to a JSON body of `length` bytes. Raises `StatusError` unless it is 200."""
        headers = {**self._headers, "Content-Type": "application/json", "Content-Length": str(length)}
        response = await self._http.post(self._url + path, content=content, headers=headers, timeout=self._transfer)
        if response.status_code != 200:
            raise refused(response, response.content)
        return response.content

    @asynccontextmanager
    async def stream(self, path: str, query: Mapping[str, str] | None = None) -> AsyncIterator[httpx2.Response]:
        """A download that has begun, whatever its content type. Raises `StatusError` unless it is 200."""
        async with self._http.stream(
            "GET", self._url + path, params=query, headers=self._headers, timeout=self._transfer
        ) as response:
            if response.status_code != 200:
                content = b""
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > _MAX_ERROR_BYTES:
                        break
                raise refused(response, content)
            yield response

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def refused(response: httpx2.Response, content: bytes) -> StatusError:
    """An answer that is an error."""
    return StatusError(answered(response.status_code, content.decode("utf-8", "replace"), response.headers))


def job_fields(batch: Batch, timeout_hours: int) -> dict[str, object]:
    """What a create call says beside its requests."""
    return {
        "endpoint": batch.endpoint,
        "model": batch.model,
        "metadata": {MARKER_KEY: batch.marker},
        "timeout_hours": timeout_hours,
    }


def inline_length(head: bytes, spool_bytes: int) -> int:
    """How long `inline_body` is: the last line's newline becomes the bracket that closes the list."""
    return len(head) + spool_bytes + 1


def inline_head(batch: Batch, timeout_hours: int) -> bytes:
    """The beginning of a create call that carries its requests."""
    return orjson.dumps(job_fields(batch, timeout_hours))[:-1] + b',"requests":['


async def inline_body(head: bytes, spool: IO[bytes], spool_bytes: int) -> AsyncIterator[bytes]:
    """A create call around the lines of the spool, which hold no newline but the one at their end."""
    yield head
    left = spool_bytes - 1
    while left > 0 and (chunk := spool.read(min(_CHUNK_BYTES, left))):
        left -= len(chunk)
        yield chunk.replace(b"\n", b",")
    yield b"]}"


async def seen(call: Awaitable[BaseModel]) -> dict[str, object]:
    """What the SDK's call answered, also where its model does not like that: readers are liberal, models are not.

    Raises `Ambiguous` when it is no JSON object, and whatever the SDK raises for errors.
    """
    from mistralai.client.errors import ResponseValidationError

    try:
        return (await call).model_dump(mode="json", by_alias=True, warnings=False)
    except ResponseValidationError as error:
        return parse_object(error.body)
    except (KeyError, ValueError) as error:
        raise Ambiguous(f"the SDK cannot read the answer: {type(error).__name__}") from error
