"""The kind passes the contract of providers by file; and, where no file is in play, inside the create call too."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from gateway.testing import ProviderContract
from gateway.testing.contract.encoding import EncodingContract
from gateway.testing.contract.finding import FindingContract
from gateway.testing.contract.walking import WalkingContract
from gateway_gemini import GeminiProvider


class TestGemini(ProviderContract):
    provider_class = GeminiProvider
    keeps_partial_results = False


class TestGeminiInline(EncodingContract, WalkingContract, FindingContract):
    provider_class = GeminiProvider
    keeps_partial_results = False
    settings: ClassVar[Mapping[str, object]] = MappingProxyType({"inline_max_bytes": 1_000_000, "api_version": "v1"})
