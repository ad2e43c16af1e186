"""Both kinds of this plugin pass the contract of providers."""

from __future__ import annotations

from gateway.testing import ProviderContract
from gateway_openai import OpenAICompatibleProvider, OpenAIProvider


class TestOpenAI(ProviderContract):
    provider_class = OpenAIProvider


class TestOpenAICompatible(ProviderContract):
    provider_class = OpenAICompatibleProvider
