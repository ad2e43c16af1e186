"""Batchway's provider for Gemini's Batch Mode.

Importing this does not load the `google-genai` package: a provider does, when it is made.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway import Provider, hookimpl
from gateway_gemini.provider import GeminiProvider

__all__ = ["GeminiProvider", "register_providers"]


@hookimpl
def register_providers() -> Iterable[type[Provider]]:
    """The kind `gemini`."""
    return [GeminiProvider]
