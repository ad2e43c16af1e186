"""The upstream: the sandbox's simulator of OpenAI in a process of its own; a batch takes no time of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.servants import Command, serve
from gateway.clock import SystemClock
from gateway.sandbox import SandboxServer, SandboxSettings
from gateway_openai.sandbox import OpenAISimulator


async def _commands() -> Mapping[str, Command]:
    settings = SandboxSettings(
        validating_seconds=0.0, running_seconds=0.0, finalizing_seconds=0.0, max_creates_per_hour=None
    )
    simulator = OpenAISimulator(clock=SystemClock(), name="sim", settings=settings, directory=Path(sys.argv[1]))
    server = SandboxServer([simulator])
    await server.start()

    async def ready() -> dict[str, float]:
        return {"port": server.port}

    async def submitted() -> dict[str, float]:
        count = await simulator.submissions()
        return {"lines": count.accepted_lines, "distinct": count.distinct}

    return {"ready": ready, "submitted": submitted}


if __name__ == "__main__":
    serve(_commands)
