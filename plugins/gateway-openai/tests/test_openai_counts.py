"""Counts that no provider can mean are unknown: the ledger has whole numbers up to 63 bits."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from openai_lab import provider_at

from gateway import RemoteBatch, RemoteState
from gateway.testing import saying


@pytest.mark.parametrize("counted", [(1 << 64) - 1, 1 << 63, "9" * 18])
async def test_a_number_that_ran_below_zero_is_no_count(counted: object, tmp_path: Path) -> None:
    """A service whose unsigned counter ran below zero is polled on, and nothing is stored of it that cannot be."""
    counts = {"total": counted, "completed": counted, "failed": counted}
    batch = {"id": "batch_1", "object": "batch", "status": "in_progress", "request_counts": counts}
    remote = RemoteBatch(remote_id="batch_1", state=RemoteState.RUNNING)
    async with saying(orjson.dumps(batch).decode()) as url, provider_at(f"{url}/v1", tmp_path) as provider:
        polled = await provider.poll(remote)

    assert (polled.state, polled.total, polled.done) == (RemoteState.RUNNING, None, None)
