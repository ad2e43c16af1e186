"""A plugin that fails on one row, or brings no file: that is the plugin's fault, told under its name, and no other line's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.errors import Retryable
from gateway.records import BatchState, RequestState, Result
from tests.unit.pipeline.test_collector import open_case, rows


def leaves(result: Result) -> Result:
    """A bug that would end the process."""
    raise SystemExit(1)


def lacks(result: Result) -> Result:
    """A bug that a row without usage meets."""
    raise KeyError("usage")


def forgets(result: Result) -> Result:
    """A branch without a return."""
    return None  # type: ignore[return-value]


def holds_a_set(result: Result) -> Result:
    """An answer that no JSON can hold."""
    return replace(result, body={**(result.body or {}), "seen": {1, 2}})


@pytest.mark.parametrize("odd", [leaves, lacks, forgets, holds_a_set])
async def test_one_odd_row_withholds_no_other(
    odd: Callable[[Result], Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All other answers are delivered; its own line stays with the parked batch, and a repaired plugin ends it."""
    async with open_case(tmp_path, 3, lambda case: [rows(case, 0, 1, 2)]) as case:
        plugin = case.rig.router.providers["fake"].instance
        assert plugin is not None
        decode = plugin.decode

        with monkeypatch.context() as faulty:
            faulty.setattr(
                plugin, "decode", lambda row: (odd if b"answer 1" in row else lambda same: same)(decode(row))
            )
            after = await case.collect()
        assert after.state is BatchState.ENDED
        assert "plugin of kind 'fake'" in (after.parked_reason or "")
        assert "in decode" in (after.parked_reason or "") or "from decode" in (after.parked_reason or "")
        succeeded = RequestState.SUCCEEDED
        assert await case.rig.states() == [succeeded, RequestState.BATCHED, succeeded]
        assert b'plugin_faults_total{provider="fake"}' in case.rig.metrics.render()
        assert case.rig.faults == []

        await case.rig.clock.advance(300)
        assert (await case.collect()).state is BatchState.COLLECTED
        assert await case.rig.states() == [succeeded] * 3
        assert case.files.made == 1


async def test_a_fetch_that_writes_no_file_is_the_plugins_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch is parked with a reason that names plugin and method: the disk has nothing to do with it."""
    async with open_case(tmp_path, 1, lambda case: [rows(case, 0)]) as case:

        async def nothing(*_: object) -> None:
            """Like a function without its last line."""

        with monkeypatch.context() as faulty:
            faulty.setattr(case.rig.router.providers["fake"].instance, "fetch", nothing)
            after = await case.collect()
        assert after.parked_reason == "plugin of kind 'fake' wrote no file in fetch"
        await case.rig.clock.advance(300)
        assert (await case.collect()).state is BatchState.COLLECTED


async def test_a_download_is_not_put_off_for_a_day(tmp_path: Path) -> None:
    """An error page that asks to come back in 22 hours keeps results from their callers for an hour at most."""
    downloads = [Retryable("status 503", retry_after=80_000.0)]
    async with open_case(tmp_path, 1, lambda case: [*downloads, rows(case, 0)]) as case:
        after = await case.collect()
        assert after.retry_at == case.rig.clock.now() + 3600
