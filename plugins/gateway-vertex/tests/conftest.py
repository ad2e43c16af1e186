"""A simulated project on a real socket, the official SDKs and our provider in front of it, and a quick clock."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.sandbox import SandboxServer, SandboxSettings
from gateway_vertex import VertexProvider
from gateway_vertex.sandbox import VertexSimulator

# Under importlib mode a test folder is not on the path, and this folder's helpers go with the plugin, not with the gateway.
sys.path.insert(0, str(Path(__file__).parent))

from vertex_lab import Lab, QuickClock, settings_at


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """Jobs take 10 s of validation, 100 s of running and 10 s of finalizing."""
    clock = QuickClock()
    settings = SandboxSettings(validating_seconds=10, running_seconds=100, finalizing_seconds=10)
    simulator = VertexSimulator(clock=clock, settings=settings, directory=tmp_path / "sandbox")
    async with SandboxServer([simulator]) as server:
        provider = VertexProvider("vertex", settings_at(server.base_url(simulator)), clock, tmp_path)
        yield Lab(clock=clock, simulator=simulator, server=server, provider=provider, directory=tmp_path)
        await provider.aclose()
