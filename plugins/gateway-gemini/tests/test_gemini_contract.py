"""The kind passes the contract of providers by file, and with the lines inside the create call too."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from gateway.testing import ProviderContract
from gateway_gemini import GeminiProvider


class TestGemini(ProviderContract):
    provider_class = GeminiProvider
    keeps_partial_results = False


class TestGeminiInline(ProviderContract):
    provider_class = GeminiProvider
    keeps_partial_results = False
    settings: ClassVar[Mapping[str, object]] = MappingProxyType({"inline_max_bytes": 1_000_000, "api_version": "v1"})
