"""A simulated workspace at Anthropic, and our provider in front of it, on a quick clock."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anthropic
import pytest

from gateway.testing import Lab, sandboxed
from gateway_anthropic import AnthropicProvider

# Under importlib mode a test folder is not on the path, and this folder's helpers go with the plugin, not with the gateway.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """Batches take 10 s of validation, 100 s of running and 10 s of finalizing."""
    async with sandboxed(AnthropicProvider, tmp_path) as provider_at_work:
        yield provider_at_work


@pytest.fixture
async def sdk(lab: Lab) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """The SDK as anybody uses it, without retries."""
    assert lab.server is not None
    url = lab.server.base_url(lab.simulator)
    async with anthropic.AsyncAnthropic(api_key="sandbox", base_url=url, max_retries=0) as client:
        yield client


@pytest.fixture
async def old_sdk(lab: Lab) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """The SDK under the older version of the API."""
    assert lab.server is not None
    url = lab.server.base_url(lab.simulator)
    headers = {"anthropic-version": "2023-06-01"}
    async with anthropic.AsyncAnthropic(
        api_key="sandbox", base_url=url, max_retries=0, default_headers=headers
    ) as client:
        yield client
