"""The kind `fanout`: any server that speaks OpenAI's chat completions and has no Batch API, asked one request at a time.

vLLM, Ollama, LM Studio, llama.cpp and their like. Nothing is discounted; what the gateway brings is that a request
survives whatever happens, is asked at a pace the server bears, and is answered once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from pydantic import Field, SecretStr

from gateway import Call, Limits, ProviderError, ProviderSettings, Result, Retryable, Unauthorised, UnbatchedProvider
from gateway.clock import Clock
from gateway.failures import retry_after
from gateway.reading import parse_object
from gateway_openai.decode import decode_response
from gateway_openai.encode import encode_line, sent_body
from gateway_openai.failures import FAILURES, creating
from gateway_openai.wire import http_client

if TYPE_CHECKING:
    from openai import APIStatusError

#: How llama.cpp says with its 503 that the model is still being loaded.
_LOADING = "unavailable_error"


class FanOutSettings(ProviderSettings):
    """Where the server is, and how much of it may be asked for."""

    base_url: str = Field(default=..., min_length=1)
    #: Local servers ask for none, and the SDK insists on one.
    api_key: SecretStr = SecretStr("none")
    #: Calls under way at once.
    concurrency: int = Field(default=4, ge=1, le=10_000)
    #: For how long one answer may take.
    timeout_seconds: float = Field(default=600.0, gt=0)
    #: Top-level body fields that are left out: servers differ in what they refuse.
    drop_fields: frozenset[str] = frozenset()


class FanOutProvider(UnbatchedProvider):
    """One such server."""

    kind: ClassVar[str] = "fanout"
    Settings: ClassVar[type[ProviderSettings]] = FanOutSettings
    limits: ClassVar[Limits] = Limits()
    simulator: ClassVar[str | None] = "gateway_openai.sandbox:OpenAISimulator"

    def __init__(self, name: str, settings: ProviderSettings, clock: Clock, directory: Path) -> None:
        """Make the SDK's client; nothing is sent."""
        super().__init__(name, settings, clock, directory)
        import openai

        own = cast("FanOutSettings", settings)
        self.concurrency = own.concurrency
        self.completion_seconds = own.timeout_seconds
        self._drop_fields = own.drop_fields
        self._client = openai.AsyncOpenAI(
            api_key=own.api_key.get_secret_value() or "none",
            base_url=own.base_url,
            timeout=openai.Timeout(own.timeout_seconds, connect=min(10.0, own.timeout_seconds)),
            max_retries=0,
            http_client=http_client(),
        )
        # The SDK takes both from the environment, where they are meant for another server.
        self._client.organization = self._client.project = None

    def encode(self, call: Call) -> bytes:
        """The caller's body as it is, less what nobody streams to and what is to be dropped."""
        return encode_line(call, drop=self._drop_fields)

    def dropped(self, call: Call) -> Sequence[str]:
        """Configured fields that the call has."""
        return sorted(field for field in self._drop_fields if call.body.get(field) is not None)

    async def complete(self, call: Call) -> Result:
        """One POST. An answer of any status is a result, unless it is about the key or says to come back later."""
        import httpx2
        import openai

        try:
            async with creating("complete"):
                response = await self._client.post(
                    call.endpoint.removeprefix("/v1"),
                    body=sent_body(call, drop=self._drop_fields),
                    cast_to=httpx2.Response,
                )
                answer = parse_object(response.content)
        except ProviderError as error:
            if isinstance(error.__cause__, openai.APIStatusError) and error.__cause__.status_code >= 400:
                return judged(error.__cause__)
            raise
        return decode_response(None, response.status_code, answer)

    async def aclose(self) -> None:
        """Close the SDK's connections."""
        await self._client.close()


def judged(error: APIStatusError) -> Result:
    """What an answer with an error status says of its request.

    Raises `Unauthorised` for a refused key, and `Retryable` where the server says that it cannot take anything now: a 429 or
    503 with `Retry-After`, a model that is being loaded. Without such a word the request may be the reason, so it counts.
    """
    failure = FAILURES.repeatable_failure(error, "complete")
    if isinstance(failure, Unauthorised):
        raise failure from error
    wish = retry_after(error.response.headers)
    if error.status_code in (429, 503) and (wish is not None or _is_loading(error)):
        raise Retryable(f"complete: status {error.status_code}", retry_after=wish) from error
    return decode_response(None, error.status_code, {"error": error.body})


def _is_loading(error: APIStatusError) -> bool:
    return isinstance(error.body, dict) and error.body.get("type") == _LOADING
