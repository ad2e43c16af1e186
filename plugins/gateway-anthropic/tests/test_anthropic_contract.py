"""The kind passes the contract of providers."""

from __future__ import annotations

from gateway.testing import ProviderContract
from gateway_anthropic import AnthropicProvider


class TestAnthropic(ProviderContract):
    provider_class = AnthropicProvider
