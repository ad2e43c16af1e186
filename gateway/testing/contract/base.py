"""What a plugin's author fills in, and the fixtures that the suite lives on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import pytest
import pytest_asyncio

from gateway.provider import Provider
from gateway.records import Call
from gateway.sandbox import SandboxSettings
from gateway.testing.lab import CHAT, SIMULATED, Lab, sandboxed


class ContractBase:
    """Which provider is tested, and where it differs from the usual."""

    #: The kind under test.
    provider_class: ClassVar[type[Provider]]
    #: Keys of its table that it cannot do without; address and key are filled in.
    settings: ClassVar[Mapping[str, object]] = MappingProxyType({})
    #: A model that its simulator serves.
    model: ClassVar[str] = "sim-small"
    #: How its simulator behaves.
    simulated: ClassVar[SandboxSettings] = SIMULATED
    #: Whether a batch that expired or was cancelled still yields the answers it had by then.
    keeps_partial_results: ClassVar[bool] = True
    #: Name of a test -> why this provider is let off; the reason stands in the plugin's README too.
    exempt: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def body(self, text: str, **fields: object) -> dict[str, object]:
        """A chat body that asks `text`, as a client writes it. Override it where the provider wants more."""
        return {"model": self.model, "messages": [{"role": "user", "content": text}], **fields}

    def call(self, body: Mapping[str, object]) -> Call:
        """What the gateway makes of `body` at admission."""
        return Call(endpoint=CHAT, model=str(body["model"]), body=body)

    @pytest.fixture(autouse=True)
    def _let_off(self, request: pytest.FixtureRequest) -> None:
        """Skip what the author has named in `exempt`, with the reason."""
        name = getattr(request.node, "originalname", None) or request.node.name
        if name in self.exempt:
            pytest.skip(f"exempt: {self.exempt[name]}")

    @pytest_asyncio.fixture
    async def lab(self, tmp_path: Path) -> AsyncIterator[Lab]:
        """The provider against its sandbox. Override it to put something into the simulator first."""
        async with sandboxed(
            self.provider_class, tmp_path, settings=self.settings, simulated=self.simulated
        ) as provider_at_work:
            yield provider_at_work

    @pytest.fixture
    def provider(self, lab: Lab) -> Provider:
        """The provider alone, for what is pure."""
        return lab.provider

    @pytest.fixture
    def batches(self, lab: Lab) -> Lab:
        """A lab in which batches can be made."""
        if not lab.provider.batch:
            pytest.skip(f"{lab.provider.kind} has no batches")
        return self._simulated(lab)

    @pytest.fixture
    def synchronous(self, lab: Lab) -> Lab:
        """A lab whose provider has a synchronous endpoint."""
        if not overrides(lab.provider, "complete"):
            pytest.skip(f"{lab.provider.kind} offers no synchronous endpoint")
        return self._simulated(lab)

    def _simulated(self, lab: Lab) -> Lab:
        if lab.account is None:
            pytest.skip(f"{lab.provider.kind} has no simulator: only what is pure is tested")
        return lab


def overrides(provider: Provider, method: str) -> bool:
    """Whether the provider brings an optional method of its own."""
    return getattr(type(provider), method) is not getattr(Provider, method)
