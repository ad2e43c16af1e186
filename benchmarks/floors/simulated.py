"""The simulator of one kind in a process of its own: `simulated KIND DIRECTORY`; a batch takes no time of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.servants import Command, serve
from gateway.cli.demo.cast import parts
from gateway.clock import SystemClock
from gateway.sandbox import SandboxServer, SandboxSettings

#: More than any provider takes: the gateway keeps to the kind's own limits.
MOST_LINES = 200_000
MOST_BYTES = 1_000_000_000


async def _commands() -> Mapping[str, Command]:
    kind, directory = sys.argv[1], Path(sys.argv[2])
    settings = SandboxSettings(
        validating_seconds=0.0,
        running_seconds=0.0,
        finalizing_seconds=0.0,
        max_creates_per_hour=None,
        max_requests=MOST_LINES,
        max_bytes=MOST_BYTES,
    )
    [part] = parts([kind])
    simulator = part.simulator_class(clock=SystemClock(), name=kind, settings=settings, directory=directory)
    server = SandboxServer([simulator])
    await server.start()

    async def ready() -> dict[str, float]:
        return {"port": server.port}

    async def submitted() -> dict[str, float]:
        count = await simulator.submissions()
        return {"lines": count.accepted_lines, "distinct": count.distinct, "answered": count.answered}

    return {"ready": ready, "submitted": submitted}


if __name__ == "__main__":
    serve(_commands)
