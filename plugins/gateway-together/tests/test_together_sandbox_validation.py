"""What the simulator refuses, of jobs, of lines and of bodies."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest
import together
from together.types import BatchJob
from together_lab import CHAT, chat, line, sdk, written

from gateway.sandbox import FaultKind
from gateway.testing import Lab
from gateway_together.sandbox import TogetherSimulator
from gateway_together.simulated.lines import chat_problem, read_frame
from gateway_together.simulated.objects import row


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"nonsense", "JSON"),
        (b"[]", "object"),
        (orjson.dumps({"body": chat("x")}), "custom_id"),
        (orjson.dumps(line("", chat("x"))), "custom_id"),
        (orjson.dumps(line("x" * 65, chat("x"))), "custom_id"),
        (orjson.dumps(line("a", chat("x"), method="POST")), "method"),
        (orjson.dumps(line("a", chat("x"), url=CHAT)), "url"),
        (orjson.dumps(line("a", "x")), "body"),
        (orjson.dumps(line("a", {"messages": []})), "model"),
        (orjson.dumps(line("a", chat("x", stream=True))), "stream"),
    ],
)
def test_frames_that_fail_a_job(raw: bytes, problem: str) -> None:
    """What is wrong around a body is a problem of the whole job, and says what."""
    read = read_frame(raw)

    assert read.problem is not None
    assert problem in read.problem.message


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": []},
        {"messages": ["x"]},
        {"messages": [{"role": "developer", "content": "x"}]},
        {"messages": [{"role": "system", "content": [{"type": "text", "text": "x"}]}]},
        {"messages": [{"role": "user", "content": []}]},
        {"messages": [{"role": "user", "content": [{"type": "file"}]}]},
        {"messages": [{"role": "assistant", "content": "x", "tool_calls": []}]},
        {"messages": [{"role": "assistant", "content": ["x"]}]},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"logprobs": True},
        {"logprobs": 21},
        {"stop": "END"},
        {"temperature": None},
        {"temperature": 2.5},
        {"max_completion_tokens": 5},
        {"top_logprobs": 5},
        {"user": "u"},
        {"metadata": {}},
        {"custom_id": "leak"},
    ],
)
def test_bodies_that_fail_a_line(fields: dict[str, object]) -> None:
    """What OpenAI takes and Together's schema has not is refused, so that whoever sends it is found out."""
    assert chat_problem(chat("x", **fields)) is not None


def test_unknown_fields_pass_unless_told_otherwise() -> None:
    """The schema does not forbid what it does not know; a strict simulator does."""
    assert chat_problem(chat("x", brand_new=1)) is None
    assert chat_problem(chat("x", brand_new=1), strict=True) is not None
    assert chat_problem(chat("x", top_k=1, prompt_cache_key="k"), strict=True) is None


async def outcome(lab: Lab, path: Path) -> BatchJob:
    """What becomes of a job of this file."""
    async with sdk(lab) as client:
        file = await client.files.upload(path, purpose="batch-api", check=False)
        created = await client.batches.create(input_file_id=file.id, endpoint=CHAT)
        assert created.job is not None
        lab.clock.jump(1_000)
        return await client.batches.retrieve(str(created.job.id))


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([line("a", chat("x")), line("a", chat("y"))], "line 2: .*duplicate"),
        ([line("a", chat("x")), line("b", chat("y", model="other"))], "line 2: .*model"),
        ([line("a", chat("x")), line("b", chat("y"), method="POST")], "line 2: .*method"),
    ],
)
async def test_lines_that_fail_a_job(lab: Lab, tmp_path: Path, lines: list[object], problem: str) -> None:
    """A name that came before, a second model and a field too many fail the job, naming the line."""
    failed = await outcome(lab, written(tmp_path / "in.jsonl", *lines))

    assert failed.status == "FAILED"
    assert re.search(problem, str(failed.error))


async def test_a_bad_body_fails_its_line_alone(lab: Lab, tmp_path: Path) -> None:
    """What is wrong inside a body is told in the error file; its neighbour is answered."""
    job = await outcome(lab, written(tmp_path / "in.jsonl", line("a", chat("x", stop="END")), line("b", chat("y"))))
    async with sdk(lab) as client:
        errors = await client.files.content(str(job.error_file_id))
        told = orjson.loads(await errors.read())

    assert (job.status, told["custom_id"], told["error"]["code"]) == ("COMPLETED", "a", "invalid_request")
    assert job.output_file_id is not None


@pytest.mark.parametrize(
    "asked",
    [
        {"endpoint": "/v1/embeddings"},
        {"endpoint": "/v1/audio/transcriptions"},
        {"completion_window": "1h"},
        {"input_file_id": "file-none"},
        {"model_id": "another"},
    ],
)
async def test_create_calls_that_are_refused(lab: Lab, asked: dict[str, str]) -> None:
    """A create call that cannot become a job gets a 400 with a sentence, and makes none."""
    batch = await lab.upload(chat("x"))
    body = {"endpoint": CHAT, "input_file_id": str(batch.file_id), **asked}
    async with sdk(lab) as client:
        with pytest.raises(together.BadRequestError) as caught:
            await client.post("/v1/batches", body=body, cast_to=object)

    assert isinstance(caught.value.body, dict)
    assert isinstance(caught.value.body["error"], str)
    assert lab.simulator.store.batches == {}


async def test_files_of_another_purpose_or_format_make_no_job(lab: Lab, tmp_path: Path) -> None:
    """A file for fine-tuning and a file that could not be read are no input; metadata is taken and forgotten."""
    good = written(tmp_path / "good.jsonl", line("a", chat("x")))
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(b"no json\n")
    async with sdk(lab) as client:
        tuning = await client.files.upload(good, purpose="fine-tune", check=False)
        broken = await client.files.upload(bad, purpose="batch-api", check=False)
        for file in (tuning, broken):
            with pytest.raises(together.BadRequestError):
                await client.batches.create(input_file_id=file.id, endpoint=CHAT)
        file = await client.files.upload(good, purpose="batch-api", check=False)
        created = await client.batches.create(
            input_file_id=file.id, endpoint=CHAT, extra_body={"metadata": {"batchway": "m"}}
        )

    assert broken.processing_status == "INVALID_FORMAT"
    assert created.job is not None
    assert "metadata" not in created.job.to_dict()


def test_rows_of_failures_without_a_code_are_responses(lab: Lab) -> None:
    """A status that has no code of its own is told as the response that it was."""
    simulator = lab.simulator
    assert isinstance(simulator, TogetherSimulator)
    read = read_frame(orjson.dumps(line("a", chat("x"))))
    shown = orjson.loads(row(read, simulator.failure(418)))

    assert (shown["custom_id"], shown["response"]["status_code"]) == ("a", 418)
    assert orjson.loads(simulator.distort(row(read, simulator.failure(404)), FaultKind.ROW_NO_CHOICES))["error"]
