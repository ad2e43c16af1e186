"""Batchway's provider for Together AI's Batch API.

Importing this does not load the `together` package: a provider does, when it is made.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway import Provider, hookimpl
from gateway_together.provider import TogetherProvider

__all__ = ["TogetherProvider", "register_providers"]


@hookimpl
def register_providers() -> Iterable[type[Provider]]:
    """The kind `together`."""
    return [TogetherProvider]
