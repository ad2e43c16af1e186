"""The kind `openai-compatible`: any Batch API of OpenAI's shape, its dialect told by configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

from gateway import Limits, ProviderSettings
from gateway_openai.dialect import Dialect, with_window
from gateway_openai.provider import OpenAIProvider
from gateway_openai.settings import OpenAICompatibleSettings


class OpenAICompatibleProvider(OpenAIProvider):
    """An API that takes OpenAI's calls at another address; its limits are what `[providers.NAME.limits]` says."""

    kind: ClassVar[str] = "openai-compatible"
    Settings: ClassVar[type[ProviderSettings]] = OpenAICompatibleSettings
    #: Cautious: what every known API of this shape accepts.
    limits: ClassVar[Limits] = Limits(
        max_requests=50_000,
        max_bytes=100_000_000,
        max_line_bytes=100_000_000,
        min_poll_seconds=1.0,
        window_seconds=86_400.0,
    )
    simulator: ClassVar[str | None] = "gateway_openai.simulated.services:CompatibleSimulator"

    @property
    def _told(self) -> OpenAICompatibleSettings:
        return cast("OpenAICompatibleSettings", self.settings)

    def headers(self) -> Mapping[str, str | None]:
        """The key in the configured header, and no `Authorization` then."""
        name = self._told.key_header
        return {name: self._told.api_key.get_secret_value(), "Authorization": None} if name else {}

    def dialect(self) -> Dialect:
        """The configured fields."""
        return Dialect(
            drop_fields=self._told.drop_fields,
            refuse_fields=self._told.refuse_fields,
            completion_window=self._told.completion_window,
            create_endpoint=self._told.endpoint,
            line_url=self._told.endpoint,
            create_fields=self._told.create_fields,
            idempotency_header=self._told.idempotency_header,
            carried_ids=True,
        )

    @classmethod
    def limits_of(cls, settings: ProviderSettings) -> Limits:
        """With the window that is asked for."""
        return with_window(cls.limits, cast("OpenAICompatibleSettings", settings).completion_window)
