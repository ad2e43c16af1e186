"""The simulator as the official SDK sees it: what the real API says, in types that the SDK can read."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import openai
import orjson
import pytest
from openai import OpenAI
from openai.types import Batch
from openai_lab import CHAT, Lab, chat, frame, jsonl

from gateway.sandbox import body_hash


async def test_a_batch_goes_through_its_life(lab: Lab) -> None:
    """A batch is validated, runs, finalizes and completes in the configured times, with a time stamp for each stage."""
    created = await lab.create(frame("a", chat("one")), frame("b", chat("two")))
    stages = [created.status]
    for step in (11, 50, 55, 10):
        lab.clock.jump(step)
        batch = await lab.sdk.batches.retrieve(created.id)
        stages.append(batch.status)

    assert stages == ["validating", "in_progress", "in_progress", "finalizing", "completed"]
    assert (batch.in_progress_at, batch.finalizing_at, batch.completed_at) == (
        created.created_at + 10,
        created.created_at + 110,
        created.created_at + 120,
    )
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (2, 2, 0)
    assert batch.usage is not None
    assert batch.usage.total_tokens > 0
    assert batch.error_file_id is None


async def test_each_line_gets_its_own_answer(lab: Lab) -> None:
    """An answer carries the hash of the request it belongs to, in rows of another order than the lines."""
    bodies = {f"line-{n}": chat(f"question {n}") for n in range(50)}
    batch = await lab.ended(await lab.create(*(frame(name, body) for name, body in bodies.items())))
    rows = await lab.rows(batch.output_file_id)
    texts = {row["custom_id"]: row["response"]["body"]["choices"][0]["message"]["content"] for row in rows}

    assert {name: f"#{body_hash(body)}" for name, body in bodies.items()} == {
        name: text[-17:] for name, text in texts.items()
    }
    assert [row["custom_id"] for row in rows] != list(bodies)
    assert all(row["response"]["status_code"] == 200 and row["error"] is None for row in rows)


async def test_the_synchronous_client_works_too(lab: Lab) -> None:
    """The blocking SDK uploads, creates, lists and reads from the same simulator."""

    def walk() -> Batch:
        with OpenAI(base_url=lab.server.base_url(lab.simulator), api_key="sandbox", max_retries=0) as client:
            file = client.files.create(file=("x.jsonl", jsonl(frame("a", chat("hello")))), purpose="batch")
            created = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
            assert client.files.retrieve(file.id).status == "processed"
            assert [batch.id for batch in client.batches.list()] == [created.id]
            return created

    created = await asyncio.to_thread(walk)

    assert (await lab.ended(created)).status == "completed"


async def test_lists_come_in_pages_newest_first(lab: Lab) -> None:
    """The SDK's own pagination walks through every batch once."""
    created = [(await lab.create(frame("a", chat(str(n))))).id for n in range(7)]
    first = await lab.sdk.batches.list(limit=3)
    everything = [batch.id async for batch in lab.sdk.batches.list(limit=3)]

    assert len(first.data) == 3
    assert first.has_more
    assert everything == created[::-1]


async def test_files_live_and_die(lab: Lab) -> None:
    """A file can be listed, read back byte for byte and deleted, and is gone after its own time."""
    content = jsonl(frame("a", chat("é\u2028ü")))
    file = await lab.sdk.files.create(
        file=("in.jsonl", content), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    other = await lab.sdk.files.create(file=("other.jsonl", content), purpose="batch")

    assert (file.bytes, file.filename, file.expires_at) == (len(content), "in.jsonl", file.created_at + 3600)
    assert (await lab.sdk.files.content(file.id)).content == content
    assert {found.id async for found in lab.sdk.files.list(purpose="batch")} == {file.id, other.id}
    assert (await lab.sdk.files.delete(other.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await lab.sdk.files.retrieve(other.id)
    lab.clock.jump(3601)
    with pytest.raises(openai.NotFoundError):
        await lab.sdk.files.content(file.id)


async def test_a_cancelled_batch_keeps_what_was_done(lab: Lab) -> None:
    """Cancelling half-way gives the finished half in the output file and tells of the others in the error file."""
    created = await lab.create(*(frame(str(n), chat(f"question {n}")) for n in range(10)))
    lab.clock.jump(60)
    await lab.sdk.batches.cancel(created.id)
    batch = await lab.ended(created)
    answered = await lab.rows(batch.output_file_id)
    cancelled = await lab.rows(batch.error_file_id)

    assert batch.status == "cancelled"
    assert (len(answered), len(cancelled)) == (5, 5)
    assert {row["error"]["code"] for row in cancelled} == {"batch_cancelled"}
    with pytest.raises(openai.ConflictError):
        await lab.sdk.batches.cancel(created.id)


async def test_the_key_is_checked(lab: Lab) -> None:
    """A call with another key than the configured one gets a 401 and does nothing."""
    lab.simulator.settings = replace(lab.simulator.settings, api_key="right")
    with pytest.raises(openai.AuthenticationError):
        await lab.sdk.files.create(file=("x.jsonl", b"{}"), purpose="batch")

    assert lab.simulator.store.files == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"completion_window": "1h"}, "completion_window"),
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"input_file_id": "file-none"}, "Cannot find file"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "more than 16"),
        ({"metadata": {"k": "v" * 513}}, "512"),
        ({"metadata": {"k" * 65: "v"}}, "64"),
        ({"metadata": {"k": 5}}, "512"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 5}}, "3600"),
        ({"extra_body": {"priority": 1}}, "Unknown parameter"),
    ],
)
async def test_create_calls_are_checked(lab: Lab, arguments: dict[str, object], said: str) -> None:
    """A create call that the real API refuses gets a 400 that says why, and no batch is made."""
    file = await lab.sdk.files.create(file=("in.jsonl", jsonl(frame("a", chat("x")))), purpose="batch")
    asked = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h", **arguments}
    with pytest.raises(openai.BadRequestError, match=said):
        await lab.sdk.batches.create(**asked)

    assert lab.simulator.store.batches == {}


async def test_a_synchronous_call_is_answered_at_once(lab: Lab) -> None:
    """The chat endpoint gives the same answer as a batch, refuses bad bodies, and books the call in the ledger."""
    body = chat("What is new?")
    completion = await lab.sdk.chat.completions.create(**body)
    with pytest.raises(openai.BadRequestError, match="messages"):
        await lab.sdk.chat.completions.create(model="sim-small", messages=[])

    assert completion.choices[0].message.content is not None
    assert completion.choices[0].message.content.endswith(f"#{body_hash(body)}")
    assert [line.hash for line in lab.simulator.ledger.lines()][:1] == [body_hash(body)]


async def test_models_are_listed(lab: Lab) -> None:
    """The list of models is what was configured, in the SDK's type."""
    names = [model.id async for model in lab.sdk.models.list()]

    assert tuple(names) == lab.simulator.settings.models


async def test_unknown_paths_get_an_error_object(lab: Lab) -> None:
    """A path that does not exist is answered with 404 in OpenAI's own form."""
    with pytest.raises(openai.NotFoundError) as caught:
        await lab.sdk.get("/nothing", cast_to=object)

    assert orjson.loads(caught.value.response.content)["error"]["code"] == "unknown_url"
