"""The kind passes the contract of providers."""

from __future__ import annotations

from gateway.testing import ProviderContract
from gateway_together import TogetherProvider


class TestTogether(ProviderContract):
    provider_class = TogetherProvider
