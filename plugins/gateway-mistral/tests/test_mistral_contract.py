"""The contract of every provider, held by both ways in which this one creates its jobs."""

from __future__ import annotations

from gateway.testing import ProviderContract
from gateway_mistral import MistralProvider


class TestByFile(ProviderContract):
    """Every batch is uploaded."""

    provider_class = MistralProvider
    settings = {"inline_max_requests": 0}  # noqa: RUF012 - the suite's own form


class TestInline(ProviderContract):
    """Small batches travel in the create call."""

    provider_class = MistralProvider
