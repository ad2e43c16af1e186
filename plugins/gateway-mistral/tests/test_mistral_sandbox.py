"""The official SDK, driven directly against the simulator."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from mistral_lab import CHAT, MODEL, Lab, chat, jsonl
from mistral_sandbox_lab import create, ended, rows, upload
from mistralai.client import Mistral
from mistralai.client.errors import MistralError
from mistralai.client.models import ChatCompletionRequest, ChatCompletionResponse
from mistralai.extra.batch import BatchClient, BatchInput

from gateway.clock import as_datetime
from gateway.sandbox import Fault, FaultKind, SandboxServer, body_hash
from gateway_mistral.sandbox import MistralSimulator


async def test_a_job_of_a_file(lab: Lab) -> None:
    """Upload, create, follow, download: every line is answered, in another order than it was sent."""
    lines = [{"custom_id": str(n), "body": chat(f"question {n}")} for n in range(30)]
    file_id = await upload(lab, *lines)
    job = await lab.sdk.batch.jobs.create_async(
        endpoint=CHAT, input_files=[file_id], model=MODEL, metadata={"a": "b"}, timeout_hours=48
    )
    states = [job.status]
    for _ in range(5):
        lab.clock.jump(30)
        states.append((await lab.sdk.batch.jobs.get_async(job_id=job.id)).status)
    done = await ended(lab, job)
    found = await rows(lab, done.output_file)

    assert states == ["QUEUED", "RUNNING", "RUNNING", "RUNNING", "SUCCESS", "SUCCESS"]
    assert (done.total_requests, done.succeeded_requests, done.failed_requests) == (30, 30, 0)
    assert (done.input_files, done.metadata, done.model, done.error_file) == ([file_id], {"a": "b"}, MODEL, None)
    assert {row["custom_id"] for row in found} == {str(n) for n in range(30)}
    assert [row["custom_id"] for row in found] != [str(n) for n in range(30)]
    for row in found:
        answer = ChatCompletionResponse.model_validate(row["response"]["body"])  # type: ignore[index]
        text = answer.choices[0].message
        assert text is not None
        assert str(text.content).endswith(f"#{body_hash(chat('question ' + str(row['custom_id'])))}")


async def test_a_job_with_its_requests_inside(lab: Lab) -> None:
    """No file is needed, and the results can be had inline."""
    job = await create(lab, chat("a"), {"messages": chat("b")["messages"]}, chat("c", user="u"))
    running = await lab.sdk.batch.jobs.get_async(job_id=job.id, inline=True)
    done = await ended(lab, job)
    inline = await lab.sdk.batch.jobs.get_async(job_id=job.id, inline=True)

    assert job.input_files == []
    assert not running.outputs
    assert not done.outputs
    assert isinstance(inline.outputs, list)
    assert {row["custom_id"]: row["response"]["status_code"] for row in inline.outputs} == {
        "0": 200,
        "1": 200,
        "2": 422,
    }
    assert (done.succeeded_requests, done.failed_requests) == (2, 1)


async def test_the_sdk_helper_runs_a_batch(lab: Lab) -> None:
    """The SDK's own batch client finds its way through a whole job, uploaded or not."""
    client = BatchClient(lab.sdk, endpoint=CHAT, response_body_type=ChatCompletionResponse)
    source = BatchInput.from_payload({"x": ChatCompletionRequest.model_validate(chat("hello"))})
    for prepared in (source, await client.upload(source)):
        handle = await client.create(prepared, model=MODEL)
        lab.clock.jump(1_000)
        output = await client.output(handle)

        assert list(output.responses) == ["x"]
        assert output.request_errors == []


async def test_lists_are_paged_and_filtered(lab: Lab) -> None:
    """Pages, order, states, metadata as bare parameters, and time."""
    start = lab.clock.now()
    jobs = []
    for n in range(7):
        lab.clock.jump(10)
        jobs.append((await create(lab, chat(str(n)), metadata={"gw": str(n % 2)})).id)
    await lab.sdk.batch.jobs.cancel_async(job_id=jobs[0])

    async def listed(**filters: object) -> list[str]:
        return [job.id for job in (await lab.sdk.batch.jobs.list_async(**filters)).data or []]

    pages = [await listed(page=number, page_size=3) for number in range(4)]

    assert sum(pages, []) == jobs[::-1]  # noqa: RUF017 - a handful
    assert [len(page) for page in pages] == [3, 3, 1, 0]
    assert (await lab.sdk.batch.jobs.list_async(page_size=2)).total == 7
    assert await listed(order_by="created") == jobs
    assert await listed(metadata={"gw": "1"}) == jobs[1::2][::-1]
    assert await listed(status=["CANCELLED"]) == jobs[:1]
    assert await listed(status=["QUEUED"]) == jobs[1:][::-1]
    assert await listed(status=["QUEUED", "CANCELLED"]) == jobs[::-1]
    assert await listed(created_after=as_datetime(start) + timedelta(seconds=55)) == jobs[5:][::-1]
    assert await listed(model="another") == []


async def test_cancel_and_delete(lab: Lab) -> None:
    """A cancelled job says so, has what was done, and cannot be cancelled twice; a deleted one is gone."""
    lab.simulator.settings = replace(lab.simulator.settings, cancelling_seconds=5)
    job = await create(lab, *(chat(str(n)) for n in range(4)))
    lab.clock.jump(60)
    asked = await lab.sdk.batch.jobs.cancel_async(job_id=job.id)
    done = await ended(lab, job)
    with pytest.raises(MistralError):
        await lab.sdk.batch.jobs.cancel_async(job_id=job.id)
    deleted = await lab.sdk.batch.jobs.delete_async(job_id=job.id)

    assert (asked.status, done.status) == ("CANCELLATION_REQUESTED", "CANCELLED")
    assert (done.succeeded_requests, done.failed_requests) == (2, 2)
    assert deleted.deleted
    with pytest.raises(MistralError) as caught:
        await lab.sdk.batch.jobs.get_async(job_id=job.id)
    assert caught.value.status_code == 404


async def test_a_job_can_run_out_of_time(lab: Lab) -> None:
    """`timeout_hours` is when an endless run is cut off, with what is done by then."""
    lab.simulator.settings = replace(lab.simulator.settings, running_seconds=2 * 3600)
    job = await create(lab, *(chat(str(n)) for n in range(4)), timeout_hours=1)
    lab.clock.jump(3_700)
    done = await lab.sdk.batch.jobs.get_async(job_id=job.id)

    assert done.status == "TIMEOUT_EXCEEDED"
    assert 0 < done.succeeded_requests < 4


async def test_files(lab: Lab) -> None:
    """Files are listed, found by name, fetched by key or by a signed address, and deleted."""
    first, second = [await upload(lab, {"n": n}, name=f"name-{n}.jsonl") for n in range(2)]
    listed = await lab.sdk.files.list_async(page=0, page_size=1, include_total=True)
    found = await lab.sdk.files.list_async(search="name-1", purpose="batch")
    one = await lab.sdk.files.retrieve_async(file_id=first)
    signed = await lab.sdk.files.get_signed_url_async(file_id=first)
    async with aiohttp.ClientSession() as session:
        fetched = await (await session.get(signed.url)).read()
        forged = await session.get(signed.url[:-1] + "x")
    await lab.sdk.files.delete_async(file_id=first)

    assert ([file.id for file in listed.data], listed.total) == ([second], 2)
    assert [file.id for file in found.data] == [second]
    assert (one.filename, one.purpose, one.sample_type, one.source) == (
        "name-0.jsonl",
        "batch",
        "batch_request",
        "upload",
    )
    assert fetched == jsonl({"n": 0})
    assert forged.status == 403
    with pytest.raises(MistralError):
        await lab.sdk.files.retrieve_async(file_id=first)


async def test_several_files_make_one_job(lab: Lab) -> None:
    """The lines of all input files are run."""
    names = [await upload(lab, {"custom_id": str(n), "body": chat(str(n))}) for n in range(3)]
    job = await lab.sdk.batch.jobs.create_async(endpoint=CHAT, input_files=names, model=MODEL)

    assert job.input_files == names
    assert (await ended(lab, job)).succeeded_requests == 3


async def test_the_synchronous_endpoint(lab: Lab) -> None:
    """The SDK's chat call is answered at once; tools, thoughts and lengths as the model's name and the body ask."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {}}}}}
    ask = [{"role": "user", "content": "hi"}]
    plain = await lab.sdk.chat.complete_async(model=MODEL, messages=ask)
    called = await lab.sdk.chat.complete_async(model=MODEL, messages=ask, tools=[tool], tool_choice="any")
    thought = await lab.sdk.chat.complete_async(model="magistral-small", messages=ask)
    short = await lab.sdk.chat.complete_async(model=MODEL, messages=ask, max_tokens=2)
    call = called.choices[0].message.tool_calls[0]  # type: ignore[union-attr,index]

    assert str(plain.choices[0].message.content).startswith("You said: hi")  # type: ignore[union-attr]
    assert (called.choices[0].finish_reason, call.function.name, len(str(call.id))) == ("tool_calls", "f", 9)
    assert [chunk.type for chunk in thought.choices[0].message.content] == ["thinking", "text"]  # type: ignore[union-attr]
    assert short.choices[0].finish_reason == "length"
    assert [model.id for model in (await lab.sdk.models.list_async()).data or []]


async def test_state_survives_the_process(lab: Lab) -> None:
    """Another simulator on the same folder has the jobs, inline ones too, and finishes what was running."""
    body = chat("remember me")
    job = await create(lab, body)
    lab.clock.jump(50)
    folder = Path(lab.directory / "sandbox")
    other = MistralSimulator(clock=lab.clock, directory=folder, settings=lab.simulator.settings)
    async with SandboxServer([other]) as server, Mistral(api_key="k", server_url=server.base_url(other)) as sdk:
        lab.clock.jump(1_000)
        done = await sdk.batch.jobs.get_async(job_id=job.id, inline=True)
    submissions = await other.submissions()

    assert (done.status, done.input_files) == ("SUCCESS", [])
    assert body_hash(body) in str(done.outputs)
    assert (submissions.lines, submissions.calls["create"], submissions.answered) == (1, 1, 1)


async def test_the_ledger_tells_what_was_sent_twice(lab: Lab) -> None:
    """Requests inside a create call are entered as those of files are."""
    lab.simulator.faults.order(Fault(kind=FaultKind.TWICE))
    body = chat("once, please")
    await create(lab, body)
    submissions = await lab.simulator.submissions()

    assert (submissions.calls["create"], submissions.batches) == (1, 2)
    assert submissions.repeated == {body_hash(body): 2}
