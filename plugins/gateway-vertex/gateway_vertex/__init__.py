"""Batchway's provider for batch prediction on Vertex AI.

Importing this loads none of Google's packages: a provider does, when it is made.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway import Provider, hookimpl
from gateway_vertex.provider import VertexProvider

__all__ = ["VertexProvider", "register_providers"]


@hookimpl
def register_providers() -> Iterable[type[Provider]]:
    """The kind `vertex`."""
    return [VertexProvider]
