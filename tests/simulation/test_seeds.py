"""Hundreds of worlds, each with its own workload, faults and crashes: in each of them every promise holds.

A failure prints its seed; `python -m tests.simulation SEED` lives through it again, step for step.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.seeds import run_seed

SEEDS = int(os.environ.get("BATCHWAY_SEEDS", "240"))
#: Small enough for the test runners to share them evenly.
GROUP = 8


@pytest.mark.parametrize("first", range(0, SEEDS, GROUP))
def test_every_promise_holds_in_the_worlds_from(first: int, tmp_path: Path) -> None:
    """In a phase of faults, crashes and restarts nothing is lost, mixed up or paid twice, and after it everything ends."""
    for seed in range(first, first + GROUP):
        run_seed(seed, tmp_path)


@pytest.mark.parametrize("seed", [5, 17])
def test_a_seed_is_always_the_same_world(seed: int, tmp_path: Path) -> None:
    """The same seed leads to the same events at the same moments, also in a process that hashes strings otherwise."""
    here = run_seed(seed, tmp_path).trace
    again = run_seed(seed, tmp_path / "again").trace
    script = f"from tests.simulation.seeds import run_alone; print(run_alone({seed}).trace)"
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    elsewhere = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )

    assert (here, here) == (again, elsewhere.stdout.strip())
