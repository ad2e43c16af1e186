"""The kind `azure`: Azure OpenAI's batch deployments, in both forms of their address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

from gateway import Call, Limits, ProviderSettings
from gateway_openai.dialect import Dialect
from gateway_openai.provider import OpenAIProvider
from gateway_openai.settings import AzureSettings


class AzureProvider(OpenAIProvider):
    """One resource. `model` is the name of a batch deployment; sources and dates are in the README."""

    kind: ClassVar[str] = "azure"
    Settings: ClassVar[type[ProviderSettings]] = AzureSettings
    limits: ClassVar[Limits] = Limits(
        max_requests=100_000,
        max_bytes=200_000_000,
        max_line_bytes=200_000_000,
        min_poll_seconds=60.0,
        # Nothing expires there by itself: this is when we begin to count the days.
        window_seconds=86_400.0,
        retention_days=30.0,
    )
    simulator: ClassVar[str | None] = "gateway_openai.simulated.services:AzureSimulator"

    @property
    def _told(self) -> AzureSettings:
        return cast("AzureSettings", self.settings)

    def headers(self) -> Mapping[str, str | None]:
        """The key in `api-key`; an Entra token where the SDK puts its own."""
        if self._told.auth == "entra":
            return {}
        return {"api-key": self._told.api_key.get_secret_value(), "Authorization": None}

    def query(self) -> Mapping[str, object]:
        """`api-version`, where the address wants one."""
        return {"api-version": self._told.api_version} if self._told.api_version else {}

    def dialect(self) -> Dialect:
        """The paths that create calls and lines name."""
        return Dialect(create_endpoint=self._told.create_endpoint, line_url=self._told.line_url)

    def path_of(self, call: Call) -> str:
        """The synchronous path: without a version in it, it names the deployment."""
        path = super().path_of(call)
        return f"/deployments/{call.model}{path}" if self._told.api_version else path
