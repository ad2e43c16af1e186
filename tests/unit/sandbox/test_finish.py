"""Hurrying a simulated batch."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson

from gateway.clock import SystemClock
from gateway.sandbox import Fault, FaultKind, NewBatch, SandboxSettings, StoredBatch, StoredFile
from gateway.sandbox.lifecycle import Stage
from gateway_openai.sandbox import CHAT, OpenAISimulator

LINES = 1_000


async def test_a_batch_that_is_being_read_can_be_finished(tmp_path: Path) -> None:
    """An order to finish that comes while the lines are being checked is not lost."""
    settings = SandboxSettings(validating_seconds=0.0)
    simulator = OpenAISimulator(clock=SystemClock(), settings=settings, directory=tmp_path)
    simulator.faults.order(Fault(kind=FaultKind.ENDLESS))
    body = {"model": "sim-small", "messages": [{"role": "user", "content": "Done?"}]}
    lines = [{"custom_id": f"{n}", "method": "POST", "url": CHAT, "body": body} for n in range(LINES)]
    spool = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    simulator.store.path("file-1").write_bytes(spool)
    simulator.store.put_file(
        StoredFile(id="file-1", filename="spool.jsonl", purpose="batch", size=len(spool), created=0.0)
    )
    batch = await simulator.create(NewBatch(file_id="file-1", endpoint=CHAT, model="sim-small", size=len(spool)))
    assert isinstance(batch, StoredBatch)

    await asyncio.gather(simulator.current(batch.id), simulator.finish(batch.id))

    _, where = await simulator.current(batch.id)
    assert where.stage is Stage.COMPLETED
