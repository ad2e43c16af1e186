"""The official SDK in front of the simulator: files and jobs made with it, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
import pytest
from mistral_lab import CHAT, MODEL, Lab, jsonl
from mistralai.client.errors import MistralError
from mistralai.client.models import BatchJob


async def upload(lab: Lab, *lines: object, name: str = "in.jsonl") -> str:
    """A file with these lines."""
    file = {"file_name": name, "content": jsonl(*lines)}
    return (await lab.sdk.files.upload_async(file=file, purpose="batch")).id


async def create(lab: Lab, *bodies: dict[str, object], **fields: object) -> BatchJob:
    """A job whose requests are inside the create call."""
    requests = [{"custom_id": str(n), "body": body} for n, body in enumerate(bodies)]
    return await lab.sdk.batch.jobs.create_async(endpoint=CHAT, requests=requests, model=MODEL, **fields)


async def ended(lab: Lab, job: BatchJob) -> BatchJob:
    """The same job after long enough."""
    lab.clock.jump(1_000)
    return await lab.sdk.batch.jobs.get_async(job_id=job.id)


async def rows(lab: Lab, file_id: object) -> list[Mapping[str, object]]:
    """The rows of a result file."""
    response = await lab.sdk.files.download_async(file_id=str(file_id))
    content = await response.aread()
    return [orjson.loads(row) for row in content.split(b"\n") if row]


async def refused(lab: Lab, **fields: object) -> tuple[int, str]:
    """Status and body of a create call that is refused."""
    with pytest.raises(MistralError) as caught:
        await lab.sdk.batch.jobs.create_async(**{"endpoint": CHAT, "model": MODEL, **fields})
    return caught.value.status_code, caught.value.body
