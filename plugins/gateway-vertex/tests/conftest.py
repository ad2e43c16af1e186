"""A simulated project on a real socket, the official SDKs and our provider in front of it, and a quick clock."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.testing import Lab, sandboxed
from gateway_vertex import VertexProvider

# Under importlib mode a test folder is not on the path, and this folder's helpers go with the plugin, not with the gateway.
sys.path.insert(0, str(Path(__file__).parent))

from vertex_lab import TABLE, Google


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """Jobs take 10 s of validation, 100 s of running and 10 s of finalizing."""
    async with sandboxed(VertexProvider, tmp_path, settings=TABLE) as lab:
        yield lab


@pytest.fixture
async def google(lab: Lab) -> AsyncIterator[Google]:
    """Google's own clients of the lab's project."""
    async with Google.at(lab) as google:
        yield google
