"""The upstream: the sandbox's simulator of OpenAI in a process of its own; a batch takes no time of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.servants import Command, serve
from gateway.clock import SystemClock
from gateway.sandbox import Fault, FaultKind, SandboxServer, SandboxSettings, StoredBatch
from gateway.sandbox.lifecycle import Life
from gateway_openai.sandbox import OpenAISimulator


class Watched(OpenAISimulator):
    """Knows which of its batches somebody has asked for."""

    def __init__(self, directory: Path) -> None:
        settings = SandboxSettings(
            validating_seconds=0.0, running_seconds=0.0, finalizing_seconds=0.0, max_creates_per_hour=None
        )
        super().__init__(clock=SystemClock(), name="sim", settings=settings, directory=directory)
        self.polled: set[str] = set()

    async def current(self, batch_id: str) -> tuple[StoredBatch, Life]:
        """The batch as it is now."""
        self.polled.add(batch_id)
        return await super().current(batch_id)


async def _commands() -> Mapping[str, Command]:
    simulator = Watched(Path(sys.argv[1]))
    server = SandboxServer([simulator])
    await server.start()

    async def ready() -> dict[str, float]:
        return {"port": server.port}

    async def submitted() -> dict[str, float]:
        count = await simulator.submissions()
        return {"lines": count.accepted_lines, "distinct": count.distinct}

    async def endless() -> dict[str, float]:
        """From now on batches run until the end of the process."""
        simulator.faults.order(Fault(kind=FaultKind.ENDLESS, times=None))
        return {}

    async def forget() -> dict[str, float]:
        """Count anew what was polled."""
        simulator.polled.clear()
        return {}

    async def polled() -> dict[str, float]:
        """How many batches have been asked for."""
        return {"batches": len(simulator.polled)}

    return {"ready": ready, "submitted": submitted, "endless": endless, "forget": forget, "polled": polled}


if __name__ == "__main__":
    serve(_commands)
