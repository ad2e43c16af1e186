"""Batchway's provider for Mistral's Batch API.

Importing this does not load the `mistralai` package: a provider does, when it is made.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway import Provider, hookimpl
from gateway_mistral.provider import MistralProvider

__all__ = ["MistralProvider", "register_providers"]


@hookimpl
def register_providers() -> Iterable[type[Provider]]:
    """The kind `mistral`."""
    return [MistralProvider]
