"""The kind `groq`: GroqCloud's Batch API, OpenAI's shape with a window of its own and pages by cursor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

from gateway import Limits, ProviderSettings
from gateway.listing import Page
from gateway.reading import mapping, parse_object, text
from gateway_openai.dialect import Dialect, with_window
from gateway_openai.listing import cursor
from gateway_openai.provider import OpenAIProvider
from gateway_openai.remote import listed
from gateway_openai.settings import GroqSettings


class GroqProvider(OpenAIProvider):
    """GroqCloud through OpenAI's SDK, which its documents allow; sources and dates are in the README."""

    kind: ClassVar[str] = "groq"
    Settings: ClassVar[type[ProviderSettings]] = GroqSettings
    limits: ClassVar[Limits] = Limits(
        max_requests=50_000,
        max_bytes=100_000_000,
        max_line_bytes=100_000_000,
        min_poll_seconds=1.0,
        window_seconds=86_400.0,
        retention_days=30.0,
    )
    simulator: ClassVar[str | None] = "gateway_openai.simulated.services:GroqSimulator"

    @classmethod
    def limits_of(cls, settings: ProviderSettings) -> Limits:
        """With the window that is asked for."""
        return with_window(cls.limits, cast("GroqSettings", settings).completion_window)

    def dialect(self) -> Dialect:
        """What Groq answers with 400, refused before it costs a batch its place."""
        return Dialect(
            refuse_fields=frozenset({"logprobs", "top_logprobs", "logit_bias", "n"}),
            message_names=False,
            message_echoes=False,
            completion_window=cast("GroqSettings", self.settings).completion_window,
        )

    async def page(self, after: str | None) -> Page:
        """A page by `cursor`, which the SDK has no word for; the next one is in `paging.next_cursor`.

        A page without `paging` that says `has_more` is one of OpenAI's, and goes on by `after`.
        """
        import httpx2

        way, _, place = (after or "").partition("=")
        query: Mapping[str, object] = {way: place} if place else {}
        response = await self._client.get("/batches", cast_to=httpx2.Response, options={"params": query})
        content = parse_object(response.content)
        following = _next_page(content)
        following = following if following != after else None
        return Page(items=listed(content), after=following, goes_on=content.get("has_more") is True)


def _next_page(content: Mapping[str, object]) -> str | None:
    """The query that asks for the page after `content`; None when it is the last."""
    following = text(mapping(content.get("paging")).get("next_cursor"))
    if following is not None:
        return f"cursor={following}"
    last = cursor(content, listed(content)) if content.get("has_more") else None
    return f"after={last}" if last else None
