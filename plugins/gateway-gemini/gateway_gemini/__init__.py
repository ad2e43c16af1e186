"""Batchway's provider for Gemini's Batch Mode."""

from __future__ import annotations

from collections.abc import Iterable

from gateway import Provider, hookimpl

__all__ = ["register_providers"]


@hookimpl
def register_providers() -> Iterable[type[Provider]]:
    """No kind yet."""
    return []
