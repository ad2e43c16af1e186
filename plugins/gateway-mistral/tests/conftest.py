"""A simulated Mistral workspace on a real socket, the official SDK and our provider in front of it, and a quick clock."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mistralai.client import Mistral

from gateway.sandbox import SandboxServer, SandboxSettings
from gateway.testing import QuickClock
from gateway_mistral import MistralProvider
from gateway_mistral.sandbox import MistralSimulator

# Under importlib mode a test folder is not on the path, and this folder's helpers go with the plugin, not with the gateway.
sys.path.insert(0, str(Path(__file__).parent))

from mistral_lab import Lab, provider_at


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """Jobs wait 10 s, run 100 s, and take 10 s more."""
    clock = QuickClock()
    settings = SandboxSettings(validating_seconds=10, running_seconds=100, finalizing_seconds=10)
    simulator = MistralSimulator(clock=clock, settings=settings, directory=tmp_path / "sandbox")
    async with SandboxServer([simulator]) as server:
        url = server.base_url(simulator)
        async with (
            provider_at(clock, tmp_path, url) as inline,
            provider_at(clock, tmp_path, url, inline_max_requests=0) as provider,
            Mistral(api_key="sandbox", server_url=url) as sdk,
        ):
            yield Lab(
                clock=clock,
                simulator=simulator,
                server=server,
                sdk=sdk,
                provider=provider,
                inline=inline,
                directory=tmp_path,
            )


@pytest.fixture
def anyone(tmp_path: Path) -> MistralProvider:
    """A provider that talks to nobody."""
    own = MistralProvider.Settings.model_validate({"api_key": "k"})
    return MistralProvider("mistral", own, QuickClock(), tmp_path)
