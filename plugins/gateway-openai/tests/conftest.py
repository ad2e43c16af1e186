"""A simulated OpenAI account on a real socket, the official SDK and our provider in front of it, and a quick clock."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI

from gateway.sandbox import SandboxServer, SandboxSettings
from gateway.testing import QuickClock
from gateway_openai import OpenAIProvider
from gateway_openai.sandbox import OpenAISimulator

# Under importlib mode a test folder is not on the path, and this folder's helpers go with the plugin, not with the gateway.
sys.path.insert(0, str(Path(__file__).parent))

from openai_lab import Lab


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """Batches take 10 s of validation, 100 s of running and 10 s of finalizing."""
    clock = QuickClock()
    settings = SandboxSettings(validating_seconds=10, running_seconds=100, finalizing_seconds=10)
    simulator = OpenAISimulator(clock=clock, settings=settings, directory=tmp_path / "sandbox")
    async with SandboxServer([simulator]) as server:
        url = server.base_url(simulator)
        own = OpenAIProvider.Settings.model_validate({"api_key": "sandbox", "base_url": url})
        provider = OpenAIProvider("openai", own, clock, tmp_path)
        async with AsyncOpenAI(base_url=url, api_key="sandbox", max_retries=0) as sdk:
            yield Lab(clock=clock, simulator=simulator, server=server, sdk=sdk, provider=provider, directory=tmp_path)
        await provider.aclose()
