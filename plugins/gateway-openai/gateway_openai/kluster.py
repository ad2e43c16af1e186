"""The kind `kluster`: kluster.ai's Batch API as it was documented until July 2025; its inference looks discontinued."""

from __future__ import annotations

from typing import ClassVar, cast

from gateway import Limits, ProviderSettings
from gateway_openai.dialect import Dialect, with_window
from gateway_openai.provider import OpenAIProvider
from gateway_openai.settings import KlusterSettings


class KlusterProvider(OpenAIProvider):
    """OpenAI's shape with windows from an hour up; times come as strings, which are read everywhere."""

    kind: ClassVar[str] = "kluster"
    Settings: ClassVar[type[ProviderSettings]] = KlusterSettings
    limits: ClassVar[Limits] = Limits(
        max_bytes=100_000_000, max_line_bytes=100_000_000, min_poll_seconds=1.0, window_seconds=86_400.0
    )
    simulator: ClassVar[str | None] = "gateway_openai.simulated.services:KlusterSimulator"

    @classmethod
    def limits_of(cls, settings: ProviderSettings) -> Limits:
        """With the window that is asked for."""
        return with_window(cls.limits, cast("KlusterSettings", settings).completion_window)

    def dialect(self) -> Dialect:
        """What its last documents call unsupported."""
        return Dialect(
            drop_fields=frozenset({"store"}),
            refuse_fields=frozenset({"n", "response_format", "modalities", "audio"}),
            message_names=False,
            completion_window=cast("KlusterSettings", self.settings).completion_window,
        )
