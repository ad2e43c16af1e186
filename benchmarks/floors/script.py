"""The floor of a whole job: what a careful person writes by hand with the official SDK for one batch."""

from __future__ import annotations

import asyncio
import io
import sys
import time
from collections.abc import Mapping

import orjson
from openai import AsyncOpenAI

from benchmarks.bodies import Bodies
from benchmarks.servants import Command, serve

POLL_SECONDS = 0.1


class Script:
    """Writes a JSONL, uploads it, creates a batch, polls, downloads, matches by custom_id."""

    def __init__(self, base_url: str) -> None:
        self._client = AsyncOpenAI(api_key="sandbox", base_url=base_url, max_retries=0)

    async def run(self, count: int, tag: str) -> dict[str, float]:
        """Seconds from the first body to the last answer matched and checked; the bodies themselves are given."""
        bodies = Bodies(tag=tag)
        calls = [bodies.of(number) for number in range(count)]
        began = time.perf_counter()
        lines = [
            orjson.dumps(
                {"custom_id": str(n), "method": "POST", "url": "/v1/chat/completions", "body": orjson.loads(call)}
            )
            for n, call in enumerate(calls)
        ]
        answers = await self._answers(b"\n".join(lines) + b"\n")
        right = sum(bodies.name(number).decode() in answers[str(number)] for number in range(count))
        return {"seconds": time.perf_counter() - began, "right": right, "wrong": count - right}

    async def _answers(self, jsonl: bytes) -> dict[str, str]:
        client = self._client
        file = await client.files.create(file=("job.jsonl", io.BytesIO(jsonl)), purpose="batch")
        batch = await client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        while batch.status not in {"completed", "failed", "expired", "cancelled"}:
            batch = await client.batches.retrieve(batch.id)
            if batch.status != "completed":
                await asyncio.sleep(POLL_SECONDS)
        assert batch.output_file_id is not None
        content = await client.files.content(batch.output_file_id)
        rows = [orjson.loads(line) for line in content.content.splitlines()]
        return {row["custom_id"]: row["response"]["body"]["choices"][0]["message"]["content"] for row in rows}


async def _commands() -> Mapping[str, Command]:
    return {"run": Script(sys.argv[1]).run}


if __name__ == "__main__":
    serve(_commands)
