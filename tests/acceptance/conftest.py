"""Fixtures of the acceptance tests: a stand in a temporary directory, and the environments of real clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.acceptance.stand import Stand, open_stand


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    """A stand whose gateway has not been started; batches end at once."""
    async with open_stand(tmp_path) as stand:
        yield stand
