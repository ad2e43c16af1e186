"""Batchway's provider for OpenAI's Batch API, and for any other API of the same shape.

Importing this does not load the `openai` package: a provider does, when it is made.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway import Provider, hookimpl
from gateway_openai.azure import AzureProvider
from gateway_openai.compatible import OpenAICompatibleProvider
from gateway_openai.fanout import FanOutProvider
from gateway_openai.groq import GroqProvider
from gateway_openai.kluster import KlusterProvider
from gateway_openai.provider import OpenAIProvider

__all__ = [
    "AzureProvider",
    "FanOutProvider",
    "GroqProvider",
    "KlusterProvider",
    "OpenAICompatibleProvider",
    "OpenAIProvider",
    "register_providers",
]


@hookimpl
def register_providers() -> Iterable[type[Provider]]:
    """OpenAI itself, the services of its shape that are kinds of their own, any other, and servers without batches."""
    return [OpenAIProvider, OpenAICompatibleProvider, AzureProvider, FanOutProvider, GroqProvider, KlusterProvider]
