"""The kind passes the contract of providers."""

from __future__ import annotations

from gateway.testing import ProviderContract
from gateway_vertex import VertexProvider


class TestVertex(ProviderContract):
    provider_class = VertexProvider
    model = "gemini-2.5-flash"
