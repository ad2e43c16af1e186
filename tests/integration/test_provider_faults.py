"""Damaged results at every kind of provider: every caller gets its own answer, and only what was damaged is paid twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.sandbox import Fault, FaultKind
from tests.integration.crowd import answered, batched, crowded_town, lines, order, repeats, wrong

COUNT = 8


@pytest.mark.parametrize(
    "kind",
    [FaultKind.ROW_DUPLICATE, FaultKind.ROW_MISSING, FaultKind.ROW_MALFORMED, FaultKind.ROW_INVALID_UTF8,
     FaultKind.ROW_UNKNOWN_ID, FaultKind.ROW_STATUS_0, FaultKind.ROW_NO_CHOICES],
)  # fmt: skip
async def test_damaged_rows_harm_nobody(tmp_path: Path, kind: FaultKind) -> None:
    """Rows that are doubled, lost, broken, foreign or empty give nobody a wrong answer; only their lines are asked again."""
    async with crowded_town(tmp_path, batched()) as here:
        order(here, Fault(kind=kind, rows=2))
        answers = await answered(here, COUNT)
        again = 0 if kind is FaultKind.ROW_DUPLICATE else 2

        assert await wrong(here, answers, tmp_path) == []
        assert await lines(here) == dict.fromkeys(here.simulators, COUNT + again)
        assert await repeats(here) == dict.fromkeys(here.simulators, again)
