"""What an operator can find out of a storage that does not do what was asked of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.errors import LedgerError
from tests.unit.house import open_house, question, request_bytes


@pytest.mark.parametrize(("room", "verb"), [("slots", "of"), ("requests", "admit")])
async def test_why_storage_failed_is_in_the_log(
    room: str, verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the id that a caller was told an operator finds why nothing was accepted: a read that failed, or a commit."""

    async def fail(*_arguments: object, **_named: object) -> object:
        raise LedgerError("disk I/O error")

    async with open_house(tmp_path) as house:
        monkeypatch.setattr(getattr(house.gateway.ledger, room), verb, fail)
        with capture_logs() as logs:
            answer = await house.exchange(request_bytes(body=question()))
        monkeypatch.undo()
    assert (answer.status, answer.code) == (503, "storage_failed")
    told = [(log["request_id"], log["reason"]) for log in logs if log["event"] == "storage_failed"]
    assert told == [(answer.headers["x-request-id"], "disk I/O error")]
