"""The kind `echo` passes the contract of providers."""

from __future__ import annotations

from types import MappingProxyType

from gateway.testing import ProviderContract
from gateway_echo import EchoProvider


class TestEcho(ProviderContract):
    provider_class = EchoProvider
    exempt = MappingProxyType(
        {"test_no_room_for_tokens_is_no_refusal": "the API has no limit of waiting tokens"},
    )
