"""Every gateway that dies at any durable step is continued by the next: every kind of provider, every scenario.

The matrix runs in processes of its own (`python -m tests.crashes.matrix`); here it is cut into pieces for a build. All
points of a marked kind, of one without a marker and of one without batches; of the others those around their calls, and
between the requests of the calls that send several, for that is where they differ. `make soak` tries all of them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Between the requests of these calls nothing else dies: they are several, or of a kind's own making.
BETWEEN = ("--wire", "upload", "--wire", "discard")
WHOLE = ("openai", "anthropic")
OTHERS = ("azure", "gemini", "groq", "kluster", "mistral", "openai-compatible", "together", "vertex")


def matrix(*arguments: str) -> str:
    """Run a piece of the matrix; what it printed, with every case that failed."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.crashes.matrix", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-10_000:] + ended.stderr[-4_000:]
    return ended.stdout


@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", ["walk", "trouble", "cancel"])
@pytest.mark.parametrize("kind", WHOLE)
def test_a_gateway_that_dies_at_any_step_is_continued(kind: str, scenario: str) -> None:
    """Killed at each durable step and started again: answered once and right, never in two live batches, booked once."""
    turns = "2" if scenario == "trouble" else "1"
    assert "0 failed" in matrix("--kind", kind, *BETWEEN, "--scenario", scenario, "--turns", turns)


@pytest.mark.timeout(600)
def test_a_gateway_without_batches_asks_again_what_it_was_asking() -> None:
    """Killed at each step before a server without batches: at most `concurrency` requests are asked again, and counted."""
    assert "0 failed" in matrix("--kind", "fanout")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", OTHERS)
def test_a_gateway_that_dies_around_a_call_is_continued(kind: str) -> None:
    """Killed around each call of its provider, and after each request of an upload or a deletion: all comes out the same."""
    scenarios = ("--scenario", "trouble", "--scenario", "cancel")
    assert "0 failed" in matrix("--kind", kind, "--calls", *BETWEEN, "--turns", "1", *scenarios)


@pytest.mark.timeout(600)
def test_a_gateway_that_dies_again_while_it_recovers_is_continued() -> None:
    """Killed after a create call, and its successor at each of its own steps: the third one finishes all the same."""
    assert "0 failed" in matrix("--kind", "openai", "--scenario", "trouble", "--turns", "1", "--twice", "submit:acted")
