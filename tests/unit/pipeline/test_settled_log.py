"""What the log says of a batch that came back: how its requests ended, what it cost, and which of them failed."""

from __future__ import annotations

from pathlib import Path

from structlog.testing import capture_logs

from tests.unit.pipeline.test_collector import open_case


async def test_the_log_says_how_the_lines_of_a_batch_ended(tmp_path: Path) -> None:
    """Answered, failed and asked again are told apart; failures have the names that commands take; no price is guessed."""
    async with open_case(
        tmp_path, 4, lambda case: [case.row(0) + case.row(1) + case.row(2, status=422) + case.row(3, status=500)]
    ) as case:
        names = [request.custom_id for request in await case.rig.ledger.requests.listed(None)]
        with capture_logs() as logs:
            await case.collect()
    [log] = [log for log in logs if log["event"] == "lines_settled"]

    assert log["outcomes"] == {"succeeded": 2, "failed": 1, "again": 1}
    assert log["failed"] == [names[2]]
    assert log["cost_usd"] is None
