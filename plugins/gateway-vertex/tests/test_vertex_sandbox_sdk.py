"""Google's own SDKs, driven directly against the sandbox."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from google.api_core.exceptions import NotFound, PreconditionFailed
from google.genai import types
from google.genai.errors import ClientError
from vertex_lab import BUCKET, LOCATION, MODEL, PROJECT, Google, line

from gateway.sandbox import Fault, FaultKind
from gateway.testing import Lab

PARENT = f"projects/{PROJECT}/locations/{LOCATION}"


async def test_a_job_from_create_to_its_rows(lab: Lab, google: Google) -> None:
    """A job is queued, runs and succeeds, and each of its rows repeats the request it answers."""
    job = await google.job(line("hello", asked="one"), line("goodbye", asked="two"))
    states = []
    for seconds in (15, 100):
        lab.clock.jump(seconds)
        states.append((await google.jobs.batches.get(name=job.name or "")).state)
    lab.clock.jump(1_000)
    ended = await google.jobs.batches.get(name=job.name or "")
    rows = await google.rows(ended)
    texts = {row["request"]["labels"]["asked"]: row["response"]["candidates"][0] for row in rows}

    assert (job.name or "").startswith(f"{PARENT}/batchPredictionJobs/")
    assert job.state is types.JobState.JOB_STATE_QUEUED
    assert states == [types.JobState.JOB_STATE_RUNNING] * 2
    assert ended.state is types.JobState.JOB_STATE_SUCCEEDED
    assert ended.completion_stats is not None
    assert ended.completion_stats.successful_count == 2
    assert "You said: hello" in texts["one"]["content"]["parts"][0]["text"]
    assert "You said: goodbye" in texts["two"]["content"]["parts"][0]["text"]
    assert {row["status"] for row in rows} == {""}


async def test_outputs_are_told_only_after_the_run(lab: Lab, google: Google) -> None:
    """A job that still runs names no output directory: nobody can guess it."""
    job = await google.job(line("hello"))
    lab.clock.jump(50)
    running = await google.jobs.batches.get(name=job.name or "")

    assert running.output_info is None
    assert await google.names("mine/") == []


async def test_jobs_are_listed_by_filter(lab: Lab, google: Google) -> None:
    """The list's filter finds jobs by display name, label and state, and nothing else."""
    first = await google.job(line("a"), name="first")
    options = types.HttpOptions(extra_body={"labels": {"team": "blue"}})
    second = await google.job(line("b"), name="second", http_options=options)
    lab.clock.jump(1_000)
    await google.jobs.batches.get(name=first.name or "")
    found: dict[str, list[str | None]] = {}
    for asked in (
        'display_name="first"',
        'display_name="no such"',
        'labels.team="blue"',
        "labels.team:*",
        'state="JOB_STATE_SUCCEEDED"',
        'display_name="first" OR display_name="second"',
        'NOT display_name="first"',
    ):
        pager = await google.jobs.batches.list(config={"filter": asked})
        found[asked] = [job.name async for job in pager]

    assert list(found.values()) == [
        [first.name],
        [],
        [second.name],
        [second.name],
        [first.name],
        [second.name, first.name],
        [second.name],
    ]


async def test_a_long_list_comes_in_pages(google: Google) -> None:
    """A pager walks through all jobs, newest first, each once."""
    made = [(await google.job(line("x"), name=f"job-{n}")).name for n in range(7)]
    pager = await google.jobs.batches.list(config={"page_size": 3})
    listed = [job.name async for job in pager]

    assert listed == made[::-1]


async def test_a_location_has_its_own_jobs(lab: Lab, google: Google) -> None:
    """A job is listed, polled and cancelled in its own location only."""
    job = await google.job(line("x"))
    async with Google.at(lab, location="europe-west4", version="v1") as elsewhere:
        pager = await elsewhere.jobs.batches.list()
        listed = [job.name async for job in pager]
        with pytest.raises(ClientError) as caught:
            await elsewhere.jobs.batches.get(name=(job.name or "").rpartition("/")[2])

    assert listed == []
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")


async def test_a_cancelled_job_keeps_what_is_done(lab: Lab, google: Google) -> None:
    """Cancelling takes a while, and leaves the rows that were finished by then."""
    lab.simulator.settings = replace(lab.simulator.settings, cancelling_seconds=20)
    job = await google.job(*(line(f"{n}", n=f"{n}") for n in range(10)))
    lab.clock.jump(60)
    await google.jobs.batches.cancel(name=job.name or "")
    stopping = await google.jobs.batches.get(name=job.name or "")
    lab.clock.jump(30)
    cancelled = await google.jobs.batches.get(name=job.name or "")

    assert stopping.state is types.JobState.JOB_STATE_CANCELLING
    assert cancelled.state is types.JobState.JOB_STATE_CANCELLED
    assert cancelled.completion_stats is not None
    assert cancelled.completion_stats.successful_count == 5
    assert cancelled.completion_stats.incomplete_count == 5
    assert len(await google.rows(cancelled)) == 5


async def test_only_an_ended_job_can_be_deleted(lab: Lab, google: Google) -> None:
    """Deleting a job that runs is refused; a deleted one is gone from lists and polls, and its objects stay."""
    job = await google.job(line("x"))
    with pytest.raises(ClientError) as caught:
        await google.jobs.batches.delete(name=job.name or "")
    lab.clock.jump(1_000)
    await google.jobs.batches.get(name=job.name or "")
    deleted = await google.jobs.batches.delete(name=job.name or "")
    pager = await google.jobs.batches.list()

    assert (caught.value.code, caught.value.status) == (400, "FAILED_PRECONDITION")
    assert deleted.done
    assert [job.name async for job in pager] == []
    assert len(await google.names("mine/")) == 1
    with pytest.raises(ClientError, match="404"):
        await google.jobs.batches.get(name=job.name or "")


async def test_rows_that_failed_say_so(lab: Lab, google: Google) -> None:
    """A line that fails has a row with the reason as its status, and the job succeeded in part."""
    job = await google.job(line("a"), line("b [sandbox: status=400]"), line("c [sandbox: status=503]"))
    lab.clock.jump(1_000)
    ended = await google.jobs.batches.get(name=job.name or "")
    statuses = sorted(row["status"][:11] for row in await google.rows(ended))

    assert ended.state is types.JobState.JOB_STATE_PARTIALLY_SUCCEEDED
    assert statuses == ["", "Bad Request", "UNAVAILABLE"]


async def test_a_job_that_is_refused_has_an_error(lab: Lab, google: Google) -> None:
    """A job whose input cannot be read fails with a code and a reason, and has no output."""
    lab.simulator.faults.order(Fault(kind=FaultKind.REFUSED, message="bad input"))
    job = await google.job(line("x"))
    lab.clock.jump(1_000)
    failed = await google.jobs.batches.get(name=job.name or "")

    assert failed.state is types.JobState.JOB_STATE_FAILED
    assert failed.error is not None
    assert (failed.error.code, failed.error.message) == (3, "bad input")
    assert failed.output_info is None


async def test_a_model_answers_at_once(google: Google) -> None:
    """The models' own endpoint answers the SDK, and refuses what the API refuses."""
    answer = await google.jobs.models.generate_content(model=MODEL, contents="hello")
    with pytest.raises(ClientError) as caught:
        await google.jobs.models.generate_content(model=MODEL, contents="x", config={"temperature": 3})

    assert "You said: hello" in (answer.text or "")
    assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")


async def test_objects_are_made_read_listed_and_deleted(google: Google) -> None:
    """Cloud Storage's client writes an object, reads it back whole and in part, lists it and deletes it."""
    content = bytes(range(256)) * 100
    await google.put("a b/ü.bin", content)
    whole = await google.read("a b/ü.bin")
    part = await google.blocking(lambda bucket: bucket.blob("a b/ü.bin").download_as_bytes(start=5, end=9, retry=None))
    size = await google.blocking(lambda bucket: bucket.get_blob("a b/ü.bin", retry=None).size)
    await google.blocking(lambda bucket: bucket.blob("a b/ü.bin").delete(retry=None))

    assert whole == content
    assert part == content[5:10]
    assert size == len(content)
    assert await google.names() == []
    with pytest.raises(NotFound):
        await google.read("a b/ü.bin")


@pytest.mark.parametrize("size", [0, 1, 8_388_608, 8_388_609, 10_000_000])
async def test_uploads_of_every_size_arrive_whole(google: Google, size: int) -> None:
    """An object in one request, and one in a session of several pieces, have the bytes and checksums that were sent."""
    content = (b"0123456789abcdef" * (size // 16 + 1))[:size]

    def upload(bucket: object) -> None:
        blob = google.storage.bucket(BUCKET).blob("large", chunk_size=1 << 20)
        blob.upload_from_file(io.BytesIO(content), size=size, retry=None)

    await google.blocking(upload)

    assert await google.read("large") == content


@pytest.mark.parametrize("size", [10, 9_000_000])
async def test_an_object_can_be_made_once_only(google: Google, size: int) -> None:
    """A second upload under the condition that there is no such object is refused, and the first object stays."""

    def upload(content: bytes) -> None:
        blob = google.storage.bucket(BUCKET).blob("once", chunk_size=1 << 20)
        blob.upload_from_file(io.BytesIO(content), size=len(content), if_generation_match=0, retry=None)

    await google.blocking(lambda _: upload(b"a" * size))
    with pytest.raises(PreconditionFailed):
        await google.blocking(lambda _: upload(b"b" * size))

    assert (await google.read("once"))[:1] == b"a"


async def test_a_long_list_of_objects_comes_in_pages(google: Google) -> None:
    """Every object below a prefix is listed once, in the order of names, whatever the size of a page."""
    for n in range(5):
        await google.put(f"p/{n}", b"x")
    await google.put("q/0", b"x")
    listed = await google.blocking(
        lambda bucket: [blob.name for blob in bucket.client.list_blobs(BUCKET, prefix="p/", page_size=2, retry=None)]
    )

    assert listed == [f"p/{n}" for n in range(5)]
