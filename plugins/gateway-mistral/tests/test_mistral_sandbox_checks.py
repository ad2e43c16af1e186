"""What the simulator refuses the official SDK: create calls at once, lines at their end."""

from __future__ import annotations

from dataclasses import replace

import pytest
from mistral_lab import CHAT, MODEL, Lab, chat
from mistral_sandbox_lab import create, ended, refused, rows, upload
from mistralai.client import Mistral
from mistralai.client.errors import MistralError


async def test_create_calls_are_checked(lab: Lab) -> None:
    """Too many requests, no source or two, unknown words and files, windows and metadata out of bounds."""
    file_id = await upload(lab, {"custom_id": "0", "body": chat("x")})
    one = [{"custom_id": "0", "body": chat("x")}]
    cases: list[dict[str, object]] = [
        {"requests": one * 10_001},
        {"requests": one, "input_files": [file_id]},
        {},
        {"requests": []},
        {"requests": one, "timeout_hours": 169},
        {"requests": one, "timeout_hours": 0},
        {"requests": one, "metadata": {"k" * 33: "v"}},
        {"requests": one, "metadata": {"k": "v" * 513}},
        {"requests": one, "metadata": {"k": ""}},
        {"requests": [{"body": {"messages": []}}], "model": None},
    ]
    statuses = [(await refused(lab, **case))[0] for case in cases]

    assert statuses == [422] * len(cases)
    assert (await refused(lab, input_files=["00000000-0000-0000-0000-000000000000"]))[0] == 404
    assert lab.simulator.store.batches == {}


async def test_a_job_with_bad_lines_fails(lab: Lab) -> None:
    """Lines that are no JSON, lack a body, or repeat a name fail the job, which counts them and names none."""
    file_id = (
        await lab.sdk.files.upload_async(
            file={"file_name": "x", "content": b'{"custom_id":"a","body":{}}\noops\noops\n'}, purpose="batch"
        )
    ).id
    job = await lab.sdk.batch.jobs.create_async(endpoint=CHAT, input_files=[file_id], model=MODEL)
    done = await ended(lab, job)

    assert (done.status, done.output_file, done.total_requests) == ("FAILED", None, 0)
    assert ("A line of the input is not valid JSON.", 2) in {(error.message, error.count) for error in done.errors}


async def test_a_body_with_an_unknown_field_fails_its_line(lab: Lab) -> None:
    """The schema forbids extra keys, in the form that callers have reported."""
    job = await ended(lab, await create(lab, chat("x", max_completion_tokens=5), chat("y")))
    [row] = await rows(lab, job.error_file)
    response = row["response"]
    assert isinstance(response, dict)

    assert row["custom_id"] == "0"
    assert response["status_code"] == 422
    assert response["body"]["message"]["detail"][0] == {
        "type": "extra_forbidden",
        "loc": ["body", "max_completion_tokens"],
        "msg": "Extra inputs are not permitted",
        "input": 5,
    }


async def test_a_key_is_needed(lab: Lab) -> None:
    """The configured key is the only one; without configuration any key will do, but there has to be one."""
    lab.simulator.settings = replace(lab.simulator.settings, api_key="secret")
    with pytest.raises(MistralError) as caught:
        await lab.sdk.batch.jobs.list_async()
    async with Mistral(api_key="secret", server_url=lab.url) as sdk:
        listed = await sdk.batch.jobs.list_async()

    assert caught.value.status_code == 401
    assert listed.total == 0
