"""Fetching a result file from Together, or from the storage that it points to."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from gateway import Retryable
from gateway.transfers import PIECE_BYTES, append_rows
from gateway_together.failures import repeatable
from gateway_together.uploads import REDIRECTS, redirected

if TYPE_CHECKING:
    import httpx
    import together


class Downloads:
    """Downloads from one account."""

    def __init__(self, client: together.AsyncTogether, http: httpx.AsyncClient, transfer: together.Timeout) -> None:
        """`http` is what `client` speaks through; storage is reached over it without the key."""
        self._client = client
        self._http = http
        self._transfer = transfer

    async def append(self, file_id: str, target: IO[bytes]) -> None:
        """Write the file behind what `target` holds, byte by byte as it is.

        Uploads go to a storage that the API names by a redirect; whether downloads come from there is not documented, and the
        SDK would follow. So one redirect is followed here: nothing of ours is in that call but the file's id, and not the key.
        """
        import together

        content = self._client.files.with_streaming_response.content
        async with repeatable("fetch"):
            try:
                async with content(file_id, timeout=self._transfer) as response:
                    await append_rows(response.iter_bytes(PIECE_BYTES), target)
            except together.APIStatusError as error:
                location = error.response.headers.get("Location")
                if error.status_code not in REDIRECTS or not location:
                    raise
                secure = self._client.base_url.scheme == "https"
                await self._append_from(redirected(str(error.request.url), location, secure=secure), target)

    async def _append_from(self, place: str, target: IO[bytes]) -> None:
        async with self._http.stream("GET", place, timeout=self._transfer) as response:
            if response.status_code != 200:
                raise Retryable(f"fetch: storage answered with status {response.status_code}")
            await append_rows(response.aiter_bytes(PIECE_BYTES), target)
