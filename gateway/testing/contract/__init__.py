"""`ProviderContract`: what every provider promises, as tests that a plugin inherits.

    class TestEcho(ProviderContract):
        provider_class = EchoProvider

That is all for a provider whose simulator stands on `gateway.sandbox`. The suite runs against that simulator over real
HTTP, orders faults from it and reads its ledger. `settings`, `model`, `body` and `simulated` say what differs; `exempt`
names what the provider cannot do, each with its reason, which belongs into the plugin's README too.
"""

from __future__ import annotations

from gateway.testing.contract.base import ContractBase
from gateway.testing.contract.completing import CompletingContract
from gateway.testing.contract.declaring import DeclaringContract
from gateway.testing.contract.encoding import EncodingContract
from gateway.testing.contract.failing import FailingContract
from gateway.testing.contract.finding import FindingContract
from gateway.testing.contract.rows import RowsContract
from gateway.testing.contract.walking import WalkingContract

__all__ = ["ContractBase", "ProviderContract"]


class ProviderContract(
    DeclaringContract,
    EncodingContract,
    RowsContract,
    WalkingContract,
    FailingContract,
    FindingContract,
    CompletingContract,
):
    """The whole contract. Without a simulator its pure part runs; with `batch = False`, that and the synchronous endpoint."""
