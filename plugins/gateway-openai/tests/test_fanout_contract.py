"""The kind without batches passes the contract of providers."""

from __future__ import annotations

from gateway.testing import ProviderContract
from gateway_openai import FanOutProvider


class TestFanOut(ProviderContract):
    provider_class = FanOutProvider
