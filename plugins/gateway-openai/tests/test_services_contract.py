"""The kinds of this plugin beside `openai`, held to the contract of providers."""

from __future__ import annotations

from gateway.testing import ProviderContract
from gateway_openai import AzureProvider, GroqProvider, KlusterProvider


class TestGroq(ProviderContract):
    """GroqCloud: pages by cursor."""

    provider_class = GroqProvider


class TestKluster(ProviderContract):
    """kluster.ai: times as strings."""

    provider_class = KlusterProvider


class TestAzure(ProviderContract):
    """Azure OpenAI at its `/openai/v1` address."""

    provider_class = AzureProvider
