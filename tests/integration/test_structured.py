"""Structured output over HTTP: what a caller gets whose answers never satisfy its schema."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.config import Retries
from tests.integration.house import open_house


def form(**word: object) -> dict[str, object]:
    """A request for an object with a word in it."""
    properties = {"word": {"type": "string", **word}, "sure": {"type": "boolean"}}
    schema = {"type": "object", "properties": properties, "required": ["word", "sure"], "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}


@pytest.mark.parametrize(("wish", "status"), [("retry", 200), ("fail", 502)])
async def test_an_answer_that_never_satisfies_its_schema(wish: str, status: int, tmp_path: Path) -> None:
    """Asked again as often as configured; then the caller gets it as it is, or a 502 that no SDK tries again."""
    retries = Retries(invalid_output=wish, max_attempts=2, backoff_seconds=0.05)
    async with open_house(tmp_path, retries=retries) as house:
        wanted = {"response_format": form(pattern="^[0-9]{40}$")}
        asking = asyncio.gather(house.ask("How sure are you?", **wanted))
        await house.skip_until(asking)
        [answered] = await asking
        assert answered.status == status
        assert await house.lines() == 2
        assert (await house.wasted_and_billed()) == (1 if wish == "retry" else 2, 2)
        if wish == "fail":
            assert (answered.code, answered.headers["x-should-retry"]) == ("invalid_output", "false")
