"""The official SDKs against the simulator: what they send is taken, what it answers they understand."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import orjson
import pytest
import together
from together_lab import CHAT, base_url, chat, line, sdk, sync_sdk, written

from gateway.sandbox import Fault, FaultKind, SandboxServer, body_hash
from gateway.testing import FakeClock, Lab
from gateway_together.sandbox import TogetherSimulator


async def test_the_asynchronous_sdk_walks_through(lab: Lab, tmp_path: Path) -> None:
    """Upload, create, retrieve, list, content and delete with AsyncTogether."""
    bodies = [chat(f"question {n}") for n in range(5)]
    path = written(tmp_path / "in.jsonl", *(line(f"q-{n}", body) for n, body in enumerate(bodies)))
    async with sdk(lab) as client:
        file = await client.files.upload(path, purpose="batch-api", check=False)
        assert (file.filename, file.bytes, file.file_type) == ("in.jsonl", path.stat().st_size, "jsonl")
        assert file.processing_status == "COMPLETED"

        created = await client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
        assert created.job is not None
        assert (created.warning, created.job.status, created.job.x_model_id) == (None, "VALIDATING", "sim-small")
        lab.clock.jump(60)
        running = await client.batches.retrieve(str(created.job.id))
        assert (running.status, running.progress) == ("IN_PROGRESS", 50.0)
        lab.clock.jump(1_000)
        [listed] = await client.batches.list()
        ended = await client.batches.retrieve(str(created.job.id))
        assert (ended.status, ended.progress, ended.error_file_id) == ("COMPLETED", 100.0, None)
        assert (listed.id, listed.input_file_id) == (ended.id, file.id)
        assert ended.completed_at is not None
        assert ended.created_at is not None
        assert (ended.completed_at - ended.created_at).total_seconds() == 120

        content = await client.files.content(str(ended.output_file_id))
        rows = [orjson.loads(row) for row in (await content.read()).splitlines()]
        answers = {row["custom_id"]: row["response"]["body"]["choices"][0] for row in rows}
        assert {name: answer["finish_reason"] for name, answer in answers.items()} == {
            f"q-{n}": "eos" for n in range(5)
        }
        for n, body in enumerate(bodies):
            assert answers[f"q-{n}"]["message"]["content"].endswith("#" + body_hash(body))

        deleted = await client.files.delete(str(ended.output_file_id))
        assert deleted.deleted
        assert [kept.id for kept in (await client.files.list()).data] == [file.id]
        with pytest.raises(together.NotFoundError):
            await client.files.retrieve(str(ended.output_file_id))


async def test_the_synchronous_sdk_walks_through(lab: Lab, tmp_path: Path) -> None:
    """The same with Together, in a thread, with its own check of the file switched on."""
    path = written(tmp_path / "in.jsonl", line("a", chat("one")), line("b", chat("two [sandbox: status=404]")))

    def submit() -> str:
        with sync_sdk(lab) as client:
            file = client.files.upload(str(path), purpose="batch-api", check=True)
            again = client.files.upload(str(path), purpose="batch-api", check=False)
            assert again.id == file.id
            created = client.batches.create(input_file_id=file.id, endpoint=CHAT)
            assert created.job is not None
            return str(created.job.id)

    def read(job_id: str) -> tuple[list[bytes], list[bytes]]:
        with sync_sdk(lab) as client:
            job = client.batches.retrieve(job_id)
            assert job.status == "COMPLETED"
            assert [listed.id for listed in client.batches.list()] == [job_id]
            files = (job.output_file_id, job.error_file_id)
            output, errors = (client.files.content(str(name)).read().splitlines() for name in files)
            for name in files:
                client.files.delete(str(name))
            return output, errors

    job_id = await asyncio.to_thread(submit)
    lab.clock.jump(1_000)
    [output], [error] = await asyncio.to_thread(read, job_id)

    assert orjson.loads(output)["custom_id"] == "a"
    assert orjson.loads(error) == {
        "custom_id": "b",
        "error": {"message": "The sandbox was told to fail with 404.", "code": "invalid_model"},
    }


async def test_a_job_can_be_cancelled(lab: Lab, tmp_path: Path) -> None:
    """A cancelled job gives what was done; one that has ended cannot be cancelled."""
    path = written(tmp_path / "in.jsonl", *(line(str(n), chat(str(n))) for n in range(10)))
    async with sdk(lab) as client:
        file = await client.files.upload(path, purpose="batch-api", check=False)
        created = await client.batches.create(input_file_id=file.id, endpoint=CHAT)
        assert created.job is not None
        job_id = str(created.job.id)
        lab.clock.jump(60)
        cancelled = await client.batches.cancel(job_id)
        ended = await client.batches.retrieve(job_id)
        with pytest.raises(together.BadRequestError):
            await client.batches.cancel(job_id)
        with pytest.raises(together.NotFoundError):
            await client.batches.cancel("00000000-0000-0000-0000-000000000000")
        content = await client.files.content(str(ended.output_file_id))

        assert (cancelled.status, ended.status) == ("CANCELLED", "CANCELLED")
        assert len((await content.read()).splitlines()) == 5


async def test_the_same_bytes_are_refused_to_who_asks_for_new_ones(lab: Lab, tmp_path: Path) -> None:
    """The 409 of known bytes reaches an SDK that wants to know of it."""
    path = written(tmp_path / "in.jsonl", line("a", chat("x")))
    async with sdk(lab) as client:
        file = await client.files.upload(path, purpose="batch-api", check=False)
        with pytest.raises(together.lib.resources.files.FileAlreadyExistsError) as caught:
            await client.files.upload(path, purpose="batch-api", check=False, raise_if_already_exists=True)

    assert caught.value.file_id == file.id


async def test_chat_completions_at_once(lab: Lab) -> None:
    """The synchronous endpoint answers in Together's words; models come as a bare array."""
    async with sdk(lab) as client:
        answer = await client.chat.completions.create(
            model="sim-small", messages=[{"role": "user", "content": "hi there"}], logprobs=1, n=2, echo=True
        )
        models = await client.get("/v1/models", cast_to=list[dict[str, object]])

    assert [choice.finish_reason for choice in answer.choices] == ["eos", "eos"]
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.tokens is not None
    assert answer.choices[0].logprobs.tokens[:2] == ["You", "said:"]
    assert answer.prompt[0].text == "hi there"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert "sim-small" in [model["id"] for model in models]


async def test_a_refused_job_says_why_in_a_sentence(lab: Lab, tmp_path: Path) -> None:
    """A job that fails in validation has one sentence about it, and no files."""
    path = written(tmp_path / "in.jsonl", line("a", chat("x")), line("b", chat("x [sandbox: poison]")))
    async with sdk(lab) as client:
        file = await client.files.upload(path, purpose="batch-api", check=False)
        created = await client.batches.create(input_file_id=file.id, endpoint=CHAT)
        assert created.job is not None
        lab.clock.jump(1_000)
        failed = await client.batches.retrieve(str(created.job.id))

    assert (failed.status, failed.output_file_id) == ("FAILED", None)
    assert str(failed.error).startswith("line 2: ")


async def test_a_lag_hides_a_job_from_lists(lab: Lab, tmp_path: Path) -> None:
    """A list that lags does not show a job that polls find."""
    path = written(tmp_path / "in.jsonl", line("a", chat("x")))
    lab.simulator.faults.order(Fault(kind=FaultKind.LIST_LAG, seconds=10))
    async with sdk(lab) as client:
        file = await client.files.upload(path, purpose="batch-api", check=False)
        created = await client.batches.create(input_file_id=file.id, endpoint=CHAT)
        assert created.job is not None
        before = await client.batches.list()
        await client.batches.retrieve(str(created.job.id))
        lab.clock.jump(10)

        assert (len(before), len(await client.batches.list())) == (0, 1)


async def test_a_restart_keeps_files_and_jobs(lab: Lab, tmp_path: Path) -> None:
    """A simulator that starts anew in the same folder knows its files, its tickets and its jobs."""
    remote = await lab.submit(chat("x"))
    batch = await lab.upload(chat("y"), marker="z" * 20)
    again = TogetherSimulator(clock=lab.clock, settings=lab.simulator.settings, directory=tmp_path / "sandbox")

    assert again.store.batches[remote.remote_id] == lab.simulator.store.batches[remote.remote_id]
    assert again.store.files == lab.simulator.store.files
    assert str(batch.file_id) in again.store.files


@pytest.mark.parametrize("path", ["/v1/files/upload", "/v1/files"])
async def test_a_file_in_one_step(lab: Lab, path: str) -> None:
    """The one-step routes take the file with its form, and know bytes that they have seen."""
    content = orjson.dumps(line("a", chat("x"))) + b"\n"
    form = {"purpose": "batch-api", "file_name": "one.jsonl", "file_type": "jsonl"}
    async with httpx.AsyncClient(base_url=base_url(lab), headers={"Authorization": "Bearer k"}) as client:
        first = await client.post(path, data=form, files={"file": ("one.jsonl", content)})
        again = await client.post(path, data=form, files={"file": ("one.jsonl", content)})
        bare = await client.post("/v1/files/upload", data=form)
        wrong = await client.post(path, data=form | {"purpose": "poetry"}, files={"file": ("one.jsonl", b"{}")})

    assert (first.status_code, first.json()["processing_status"]) == (200, "COMPLETED")
    assert (again.status_code, again.json()) == (409, {"file_id": first.json()["id"]})
    assert (bare.status_code, wrong.status_code) == (400, 400)
    assert len(lab.simulator.store.files) == 1


async def test_storage_takes_its_own_signature_only(lab: Lab) -> None:
    """Step two needs the signature and a length, and nothing of the API's key; wrong bytes are found out."""
    key = {"Authorization": "Bearer k"}
    form = {"purpose": "batch-api", "file_name": "one.jsonl", "file_type": "jsonl", "checksum": "0" * 64}
    async with httpx.AsyncClient(base_url=base_url(lab)) as client:
        ticket = await client.post("/v1/files", data=form, headers=key)
        place, file_id = ticket.headers["Location"], ticket.headers["X-Together-File-Id"]
        unsigned = await client.put(place.partition("?")[0], content=b"{}")
        keyed = await client.put(place, content=b"{}", headers=key)
        wrong = await client.put(place, content=b"{}")
        early = await client.post(f"/v1/files/{file_id}/preprocess", headers=key)
        missing = await client.post("/v1/files/file-none/preprocess", headers=key)

    assert ticket.status_code == 302
    assert [answer.status_code for answer in (unsigned, keyed, wrong, early, missing)] == [401, 400, 400, 400, 404]


async def test_the_default_limits_are_togethers(tmp_path: Path) -> None:
    """Without settings the simulator takes 100 MB, and as many creates as come."""
    simulator = TogetherSimulator(clock=FakeClock(), directory=tmp_path)

    assert (simulator.settings.max_bytes, simulator.settings.max_creates_per_hour) == (100_000_000, None)
    assert SandboxServer([simulator]).base_url(simulator).endswith("/together")
