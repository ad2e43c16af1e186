"""The provider against the simulator, over real HTTP, when all goes well or the provider says no."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from mistral_lab import MARKER, Lab, call, chat, provider_at, text_of

from gateway import Missing, Rejected, RemoteState, Retryable, TokenLimit, Unauthorised
from gateway.clock import as_datetime
from gateway.sandbox import Fault, FaultKind, Operation, body_hash
from gateway_mistral import MistralProvider, register_providers


def test_the_plugin_brings_one_kind() -> None:
    """The hook returns the kind, which says where its simulator is."""
    kinds = {kind.kind: kind.simulator for kind in register_providers()}

    assert kinds == {"mistral": "gateway_mistral.sandbox:MistralSimulator"}


def test_listing_the_kind_does_not_load_the_sdk() -> None:
    """Start-up stays quick: neither the SDK nor the simulator is imported with the plugin."""
    code = "import gateway_mistral, sys; print({'mistralai.client', 'httpx2', 'aiohttp'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert shown.stdout.strip() == "set()"


def test_the_limits_are_the_documented_ones() -> None:
    """A million requests, the smaller reading of 512 MB, a day's window, at most 10,000 requests inline."""
    limits = MistralProvider.limits

    assert (limits.max_requests, limits.max_bytes, limits.window_seconds) == (1_000_000, 512_000_000, 86_400)
    with pytest.raises(ValueError, match="inline_max_requests"):
        MistralProvider.Settings.model_validate({"inline_max_requests": 10_001})


@pytest.mark.parametrize(("settings", "hours"), [({}, 24), ({"timeout_hours": 72}, 72), ({"timeout_hours": 1}, 1)])
def test_the_window_is_the_one_that_is_asked_for(settings: dict[str, int], hours: int) -> None:
    """A job that may run for three days is not given up after two, nor one of an hour waited for."""
    limits = MistralProvider.limits_of(MistralProvider.Settings.model_validate(settings))

    assert limits == replace(MistralProvider.limits, window_seconds=hours * 3_600)


@pytest.mark.parametrize("url", ["https://api.eu.mistral.ai", "https://api.eu.mistral.ai/v1/"])
def test_the_version_may_stand_in_the_address(url: str) -> None:
    """The SDK puts `/v1` before every path, so one in the address is taken off."""
    assert MistralProvider.Settings.model_validate({"base_url": url}).base_url == "https://api.eu.mistral.ai"


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("inline_files", [False, True])
async def test_a_batch_walks_through(lab: Lab, inside: bool, inline_files: bool) -> None:
    """By file or inside the create call, with results in files or in the job: every line gets its own answer."""
    lab.simulator.inline_files = inline_files
    bodies = [chat(f"question {n} \u2028 line") for n in range(20)]
    remote = await lab.run(*bodies, by=lab.inline if inside else lab.provider)
    results = {result.line_id: result for result in await lab.results(remote)}

    assert (remote.state, remote.total, remote.done) == (RemoteState.ENDED, 20, 20)
    assert results.keys() == {f"{MARKER}-{n}" for n in range(20)}
    for n, body in enumerate(bodies):
        assert text_of(results[f"{MARKER}-{n}"]).endswith(f"#{body_hash(body)}")


async def test_small_batches_leave_no_file(lab: Lab) -> None:
    """A batch within both limits is not uploaded; one beyond either of them is."""
    batch = lab.seal(*(chat(str(n)) for n in range(3)))
    counts = {"inline_max_requests": 3, "inline_max_bytes": batch.size}
    uploads = []
    for changes in ({}, {"inline_max_requests": 2}, {"inline_max_bytes": batch.size - 1}):
        async with provider_at(lab.clock, lab.directory, lab.url, **{**counts, **changes}) as provider:
            uploads.append(await provider.upload(batch) is not None)

    assert uploads == [False, True, True]
    assert lab.simulator.ledger.calls["upload"] == 2


async def test_a_large_batch_goes_inline_line_by_line(lab: Lab) -> None:
    """Ten thousand requests go into one create call, and all of them arrive."""
    async with provider_at(
        lab.clock, lab.directory, lab.url, inline_max_requests=10_000, inline_max_bytes=10_000_000
    ) as provider:
        batch = lab.seal(*(chat(f"question {n}") for n in range(10_000)))
        assert await provider.upload(batch) is None
        await provider.submit(batch)
    submissions = await lab.simulator.submissions()

    assert (submissions.lines, submissions.distinct, submissions.calls["create"]) == (10_000, 10_000, 1)


@pytest.mark.parametrize("inside", [False, True])
async def test_the_marker_is_where_it_can_be_found(lab: Lab, inside: bool) -> None:
    """The marker is in the job's metadata and in the input file's name; model and window are the job's."""
    provider = lab.inline if inside else lab.provider
    batch = lab.seal(chat("x"))
    batch = replace(batch, file_id=await provider.upload(batch))
    remote = await provider.submit(batch)
    made = await lab.sdk.batch.jobs.get_async(job_id=remote.remote_id)
    names = [(await lab.sdk.files.retrieve_async(file_id=name)).filename for name in made.input_files]

    assert made.metadata == {"batchway": MARKER}
    assert made.model == batch.model
    assert names == ([] if inside else [f"{MARKER}.jsonl"])
    assert remote.created == as_datetime(made.created_at)
    assert remote.where == ({} if inside else {"input_file": batch.file_id})


async def test_the_window_is_the_configured_one(lab: Lab) -> None:
    """`timeout_hours` reaches the job, by either way."""
    for changes in ({}, {"inline_max_requests": 0}):
        async with provider_at(lab.clock, lab.directory, lab.url, timeout_hours=100, **changes) as provider:
            batch = lab.seal(chat("x"))
            await provider.submit(replace(batch, file_id=await provider.upload(batch)))
    windows = {batch.plan.window_seconds for batch in lab.simulator.store.batches.values()}

    assert windows == {100 * 3600.0}


async def test_a_file_that_is_not_visible_yet_is_retryable(lab: Lab) -> None:
    """A create call that does not see the file that was just uploaded is tried again, and then works."""
    lab.simulator.faults.order(Fault(kind=FaultKind.FILE_LAG, seconds=10))
    batch = await lab.uploaded(chat("x"))
    with pytest.raises(Retryable, match="not found"):
        await lab.provider.submit(batch)
    lab.clock.jump(11)

    assert (await lab.provider.submit(batch)).state is RemoteState.RUNNING


async def test_a_refused_job_gives_its_reason(lab: Lab) -> None:
    """A job that fails before anything was run comes back as refused, with what the provider said, and no line."""
    remote = await lab.run(chat("a"), chat("b"), chat("c [sandbox: poison]"))

    assert remote.state is RemoteState.REFUSED
    assert isinstance(remote.refusal, Rejected)
    assert "poisoned" in remote.refusal.reason
    assert not remote.refusal.lines


async def test_a_full_queue_is_told_by_poll_or_create(lab: Lab) -> None:
    """No room for more pending requests comes out as TokenLimit from a create call, and as a refusal from a poll."""
    lab.simulator.faults.order(Fault(kind=FaultKind.TOKEN_LIMIT, when="after"))
    lab.simulator.faults.order(Fault(kind=FaultKind.TOKEN_LIMIT, when="before"))
    batch = await lab.uploaded(chat("x"))
    with pytest.raises(TokenLimit):
        await lab.provider.submit(batch)
    remote = await lab.provider.submit(batch)
    lab.clock.jump(1_000)
    polled = await lab.provider.poll(remote)

    assert polled.state is RemoteState.REFUSED
    assert isinstance(polled.refusal, TokenLimit)


@pytest.mark.parametrize("kind", [FaultKind.EXPIRED, FaultKind.CANCELLED])
async def test_a_half_done_job_gives_every_line(lab: Lab, kind: FaultKind) -> None:
    """Answers and errors of a timed-out or cancelled job are both fetched, answers first."""
    lab.simulator.faults.order(Fault(kind=kind))
    remote = await lab.run(*(chat(str(n)) for n in range(10)))
    await lab.provider.fetch(remote, lab.directory / "raw")
    rows = [lab.provider.decode(row) for row in (lab.directory / "raw").read_bytes().split(b"\n")[:-1]]

    assert remote.state is RemoteState.ENDED
    assert [result.body is not None for result in rows] == [True] * 5 + [False] * 5
    assert {result.line_id for result in rows} == {f"{MARKER}-{n}" for n in range(10)}
    assert all(result.retriable for result in rows[5:])


async def test_no_output_file_is_fine(lab: Lab) -> None:
    """A job whose lines all failed has only an error file, and each line its status."""
    lab.simulator.faults.order(Fault(kind=FaultKind.ALL_FAILED, status=400))
    results = await lab.results(await lab.run(chat("a"), chat("b")))

    assert [(result.status, result.retriable) for result in results] == [(400, False), (400, False)]


async def test_a_job_without_results_gives_no_rows(lab: Lab) -> None:
    """A job that ended with neither file nor results inside is fetched without rows: that is no error."""
    lab.simulator.faults.order(Fault(kind=FaultKind.ROW_MISSING))
    lab.simulator.inline_files = False
    remote = await lab.run(chat("x"), by=lab.inline)

    assert (remote.state, remote.where) == (RemoteState.ENDED, {})
    assert await lab.results(remote) == []


async def test_cancel_and_discard(lab: Lab) -> None:
    """Cancelling ends a job, cancelling again is harmless, discarding removes its files and may be repeated."""
    batch = await lab.uploaded(*(chat(str(n)) for n in range(4)))
    remote = await lab.provider.submit(batch)
    lab.clock.jump(60)
    await lab.provider.cancel(remote)
    remote = await lab.provider.poll(remote)
    await lab.provider.cancel(remote)
    states = (remote.state, remote.done)
    for _ in range(2):
        await lab.provider.discard(batch, remote)

    assert states == (RemoteState.ENDED, 4)
    assert lab.simulator.store.files == {}


async def test_an_unknown_job_is_missing(lab: Lab) -> None:
    """A 404 of poll, cancel or fetch is Missing, and during the lag after a create as well."""
    lab.simulator.faults.order(Fault(kind=FaultKind.POLL_LAG, seconds=10))
    remote = await lab.provider.submit(await lab.uploaded(chat("x")))
    stranger = replace(remote, remote_id="00000000-0000-0000-0000-000000000000")
    with pytest.raises(Missing):
        await lab.provider.poll(remote)
    with pytest.raises(Missing):
        await lab.provider.cancel(stranger)
    with pytest.raises(Missing):
        await lab.provider.fetch(stranger, lab.directory / "x")
    with pytest.raises(Missing):
        await lab.provider.fetch(replace(remote, where={"output_file": "none"}), lab.directory / "x")
    lab.clock.jump(10)

    assert (await lab.provider.poll(remote)).state is RemoteState.RUNNING


async def test_a_bad_key_is_told_where_results_are_inside_the_job(lab: Lab) -> None:
    """A job that is asked for its results with a key that is refused is Unauthorised, and the key is not repeated."""
    remote = await lab.provider.submit(await lab.uploaded(chat("x")))
    told = "Incorrect API key provided: sandbox."
    lab.simulator.faults.order(Fault(kind=FaultKind.STATUS, status=401, message=told, times=None))
    with pytest.raises(Unauthorised) as caught:
        await lab.provider.fetch(replace(remote, where={}), lab.directory / "x")

    assert "sandbox" not in caught.value.reason


async def test_the_synchronous_endpoint_answers(lab: Lab) -> None:
    """`complete` gives the answer as a result; a refused body and an exhausted rate are results too."""
    body = chat("right now", stream=False)
    lab.simulator.faults.order(Fault(kind=FaultKind.STATUS, operation=Operation.COMPLETE, status=429, code="slow_down"))
    limited = await lab.provider.complete(call(body))
    answered = await lab.provider.complete(call(body))
    async with provider_at(lab.clock, lab.directory, lab.url, pass_fields=["logprobs"]) as careless:
        refused = await careless.complete(call(body | {"logprobs": True}))

    assert (limited.status, limited.retriable) == (429, True)
    assert text_of(answered).endswith(f"#{body_hash(body)}")
    assert (refused.status, refused.retriable) == (422, False)
    assert refused.error is not None
    assert refused.error.param == "logprobs"


async def test_answers_are_not_lost_with_the_error_file(lab: Lab) -> None:
    """Answers in an output file are fetched though the error file is gone: they are not asked for, and paid, again."""
    remote = await lab.run(chat("a"))
    torn = replace(remote, where={**remote.where, "error_file": "file-gone"})

    assert [result.status for result in await lab.results(torn)] == [200]
