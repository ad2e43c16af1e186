"""Thousands of callers at once, each on a connection of its own."""

from __future__ import annotations

import math
import resource
import sys
from pathlib import Path

import orjson
import pytest

from gateway.sandbox import SandboxSettings
from tests.acceptance.stand import Stand, Times, is_answer, open_stand, run_client

FLOOD = Path(__file__).parent / "clients" / "flood.py"
CALLERS = 5_000
MOST_IN_A_BATCH = 2_000
#: Sockets of the callers, or of the gateway, and what else a process has open.
FILES_NEEDED = CALLERS + 1_000

needs_files = pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_NOFILE)[1] < FILES_NEEDED,
    reason=f"the hard limit of open files is below {FILES_NEEDED}: ulimit -Hn",
)


@needs_files
@pytest.mark.timeout(180)
async def test_thousands_at_once_get_their_own_answers_and_nothing_is_asked_twice(tmp_path: Path) -> None:
    """5,000 simultaneous callers get 5,000 right answers out of nearly full batches; the same again costs nothing."""
    settings = SandboxSettings(validating_seconds=0.0, running_seconds=2.0, finalizing_seconds=0.0)
    async with open_stand(tmp_path, settings) as stand:
        await stand.start(Times(window_seconds=20.0, idle_seconds=2.0, max_requests=MOST_IN_A_BATCH))

        answers = await flood(stand)
        batches = stand.created()
        again = await flood(stand)

        wrong = [text for n, text in enumerate(answers) if not is_answer(text, f"Flood {n}?")]
        assert not wrong, f"{len(wrong)} wrong answers, the first: {wrong[0]}"
        assert len(answers) == CALLERS
        assert batches <= math.ceil(CALLERS / MOST_IN_A_BATCH) + 1
        assert again == answers
        assert await stand.asked_once(CALLERS)


async def flood(stand: Stand) -> list[str]:
    """Everybody asks at once, from another process; the answers in the order of the questions."""
    finished = await run_client([sys.executable, FLOOD, f"{stand.url}/v1", str(CALLERS)], seconds=150)
    assert finished.status == 0, finished.errors
    answers: list[str] = orjson.loads(finished.output)
    return answers
