"""What every test shares: Hypothesis's profile, so that a slow machine is no failure, and logs as they are by themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

settings.register_profile("batchway", deadline=None, print_blob=True)
settings.load_profile("batchway")


@pytest.fixture(autouse=True)
def logs_by_themselves() -> Iterator[None]:
    """Commands that run within a test configure the logs of the process: the next test would wait for a line in vain."""
    yield
    structlog.reset_defaults()
