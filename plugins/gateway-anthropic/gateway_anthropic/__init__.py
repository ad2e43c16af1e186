"""Batchway's provider for Anthropic's Message Batches API.

Importing this does not load the `anthropic` package: a provider does, when it is made.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway import Provider, hookimpl
from gateway_anthropic.provider import AnthropicProvider

__all__ = ["AnthropicProvider", "register_providers"]


@hookimpl
def register_providers() -> Iterable[type[Provider]]:
    """The kind `anthropic`."""
    return [AnthropicProvider]
