"""The jobs API and the models' own endpoint, through google-genai: raw JSON out, raw JSON in.

The SDK's typed methods leave fields out (`partialFailures`), and warn of states that they do not know. Its requests are
sent by the HTTP client that is given here: the one it picks by itself sends a create call twice when a connection is lost.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from gateway.reading import parse_object
from gateway_vertex.credentials import CredentialSource
from gateway_vertex.settings import VertexSettings

if TYPE_CHECKING:
    from google.genai._api_client import BaseApiClient

_JOBS = "batchPredictionJobs"
_VERSION = "v1"
#: Jobs asked for at once; the most there is.
_PAGE = 100


class JobsApi:
    """One project's jobs in one location. Raises what the SDK raises, and `Ambiguous` for answers that are no object."""

    def __init__(self, settings: VertexSettings, credentials: CredentialSource) -> None:
        """Loads the SDK; nothing is sent."""
        import google.genai  # noqa: F401 - a second that the first call need not wait for
        import httpx2

        self._settings = settings
        self._credentials = credentials
        self._http = httpx2.AsyncClient()
        self._making = threading.Lock()
        self._made: BaseApiClient | None = None

    async def create(self, job: dict[str, object]) -> dict[str, object]:
        """One POST, whatever becomes of it."""
        return await self._call("post", _JOBS, job)

    async def get(self, name: str) -> dict[str, object]:
        """The job of that full name."""
        return await self._call("get", name)

    async def page(self, wanted: str, token: str) -> dict[str, object]:
        """One page of the jobs that fit the filter `wanted`; `token` is empty for the first."""
        query = {"filter": wanted, "pageSize": str(_PAGE)}
        if token:
            query["pageToken"] = token
        return await self._call("get", f"{_JOBS}?{urlencode(query)}")

    async def cancel(self, name: str) -> None:
        """Ask for a job's end."""
        await self._sent("post", f"{name}:cancel")

    async def generate(self, model: str, request: dict[str, object]) -> dict[str, object]:
        """One answer at once, of the model of that resource name."""
        return await self._call(
            "post", f"{model}:generateContent", request, seconds=self._settings.transfer_timeout_seconds
        )

    async def aclose(self) -> None:
        """Close connections."""
        await self._http.aclose()

    async def _call(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, seconds: float | None = None
    ) -> dict[str, object]:
        return parse_object(await self._sent(method, path, body, seconds=seconds))

    async def _sent(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, seconds: float | None = None
    ) -> str:
        """The body of the answer, which may be empty."""
        from google.genai.types import HttpOptions

        client = self._made
        if client is None:
            client = await asyncio.to_thread(self._client)
        timeout = max(1, round((seconds or self._settings.timeout_seconds) * 1000))
        response = await client.async_request(method, path, dict(body or {}), HttpOptions(timeout=timeout))
        return response.body or ""

    def _client(self) -> BaseApiClient:
        from google import genai
        from google.genai.types import HttpOptions

        with self._making:
            made = self._made
            if made is None:
                client = genai.Client(
                    vertexai=True,
                    project=self._settings.project,
                    location=self._settings.location,
                    credentials=self._credentials.load(),
                    http_options=HttpOptions(
                        base_url=self._settings.jobs_url, api_version=_VERSION, httpx_async_client=self._http
                    ),
                )
                self._made = made = client._api_client  # noqa: SLF001 - the SDK's one way to send and get raw JSON
            return made
