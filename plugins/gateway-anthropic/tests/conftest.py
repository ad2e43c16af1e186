"""A simulated workspace at Anthropic, and our provider in front of it, on a quick clock."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

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
