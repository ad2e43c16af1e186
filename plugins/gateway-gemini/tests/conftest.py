"""A simulated project at Gemini, and our provider and the official SDK in front of it, on a quick clock."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.testing import Lab, sandboxed
from gateway_gemini import GeminiProvider

# Under importlib mode a test folder is not on the path, and this folder's helpers go with the plugin, not with the gateway.
sys.path.insert(0, str(Path(__file__).parent))

from gemini_lab import sdk_of
from google.genai.client import AsyncClient


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """Batches take 10 s of validation, 100 s of running and 10 s of finalizing."""
    async with sandboxed(GeminiProvider, tmp_path) as provider_at_work:
        yield provider_at_work


@pytest.fixture(params=["v1", "v1beta"])
async def sdk(lab: Lab, request: pytest.FixtureRequest) -> AsyncIterator[AsyncClient]:
    """Google's client as it comes, asynchronous, with either version in its paths."""
    async with sdk_of(lab, request.param) as client:
        yield client
