"""What lines are answered with, and what that costs: a function of the request and of the line, so that nothing is mistaken."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import orjson

from tests.simulation.jobs import Job, Line


def text_of(prompt: str, source: str) -> str:
    """What the answer to `prompt` says, made by line `source` of a batch."""
    return f"{prompt} | {source}"


def usage_of(prompt: str) -> dict[str, int]:
    """What an answer to `prompt` costs, in tokens."""
    digest = hashlib.sha256(prompt.encode()).digest()
    return {
        "prompt_tokens": 100 + digest[0],
        "completion_tokens": 10 + digest[1],
        "total_tokens": 110 + digest[0] + digest[1],
    }


def completion(model: str, prompt: str, source: str) -> dict[str, object]:
    """An answer that says whose it is and where it was made."""
    message = {"role": "assistant", "content": text_of(prompt, source)}
    return {
        "id": "chatcmpl-simulated",
        "object": "chat.completion",
        "created": 1_800_000_000,
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": usage_of(prompt),
    }


def source_of(job: Job, line: Line) -> str:
    """The name of a line among all lines of all batches."""
    return f"{job.remote_id}/{line.line_id}"


def row_of(job: Job, line: Line, take: int) -> bytes:
    """A finished line's row; its second one has another answer."""
    if line.status == 200:
        # A second row for the same line is another answer: whichever was taken first must stay.
        body: dict[str, object] = completion(line.model, line.prompt, source_of(job, line) + "+" * take)
    else:
        body = {"error": {"message": f"simulated {line.status}", "type": "server_error"}}
    row = orjson.dumps({"custom_id": line.line_id, "response": {"status_code": line.status, "body": body}})
    return row[: len(row) // 2] if line.garbled else row


def unfinished(line: Line, *, cancelled: bool) -> bytes:
    """The row of a line that was not done when its batch ended."""
    code = "batch_cancelled" if cancelled else "batch_expired"
    return orjson.dumps({"custom_id": line.line_id, "response": None, "error": {"code": code, "message": "not done"}})


def prompt_in(row: dict[str, object]) -> str:
    """What an input line asks."""
    body = row["body"]
    return prompt_of(body) if isinstance(body, dict) else ""


def prompt_of(body: dict[str, object]) -> str:
    """The last message's content."""
    messages = body["messages"]
    assert isinstance(messages, Sequence)
    return str(messages[-1]["content"])
