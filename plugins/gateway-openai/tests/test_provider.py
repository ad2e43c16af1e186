"""The provider against the simulator, over real HTTP, when all goes well or the provider says no."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import pytest
from openai_lab import CHAT, MARKER, Lab, chat, frame, text_of

from gateway import Call, Missing, Rejected, RemoteState, Retryable, TokenLimit
from gateway.clock import as_datetime
from gateway.sandbox import Fault, FaultKind, Operation, body_hash
from gateway_openai import OpenAICompatibleProvider, OpenAIProvider, register_providers


def test_the_plugin_brings_its_kinds() -> None:
    """The hook returns OpenAI and the services of its shape, and each says where its simulator is."""
    kinds = {kind.kind: kind.simulator for kind in register_providers()}

    assert {"openai", "openai-compatible", "azure", "groq", "kluster"} <= kinds.keys()
    assert all((where or "").startswith("gateway_openai.") for where in kinds.values())


def test_another_providers_sdk_may_load_while_ours_is_called() -> None:
    """The SDK uses httpx at every call if it finds it loaded: it is whole before our first call, whoever loads it later."""
    code = (
        "import sys; from pathlib import Path; from gateway.clock import SystemClock; from gateway_openai import OpenAIProvider;"
        "own = OpenAIProvider.Settings.model_validate({'api_key': 'k'});"
        "OpenAIProvider('p', own, SystemClock(), Path('.'));"
        "print('httpx' in sys.modules and hasattr(sys.modules['httpx'], 'Timeout'))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert shown.stdout.strip() == "True"


def test_listing_the_kinds_does_not_load_the_sdk() -> None:
    """Start-up stays quick: neither the SDK nor the simulator is imported with the plugin."""
    code = "import gateway_openai, sys; print({'openai', 'httpx2', 'aiohttp'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert shown.stdout.strip() == "set()"


def test_the_limits_are_the_documented_ones() -> None:
    """50,000 lines, the smaller reading of 200 MB, 2,000 creates an hour, a day's window."""
    limits = OpenAIProvider.limits

    assert (limits.max_requests, limits.max_bytes, limits.max_creates_per_hour) == (50_000, 200_000_000, 2_000)
    assert limits.window_seconds == 86_400


async def test_a_batch_walks_through(lab: Lab) -> None:
    """Upload, create, poll, fetch and decode bring every line its own answer."""
    bodies = [chat(f"question {n}") for n in range(20)]
    remote = await lab.run(*bodies)
    results = {result.line_id: result for result in await lab.results(remote)}

    assert (remote.state, remote.total, remote.done) == (RemoteState.ENDED, 20, 20)
    assert results.keys() == {f"{MARKER}-{n}" for n in range(20)}
    for n, body in enumerate(bodies):
        assert text_of(results[f"{MARKER}-{n}"]).endswith(f"#{body_hash(body)}")


async def test_the_marker_is_where_it_can_be_found(lab: Lab) -> None:
    """The marker is in the batch's metadata and in the input file's name."""
    batch = await lab.uploaded(chat("x"))
    remote = await lab.provider.submit(batch)
    made = await lab.sdk.batches.retrieve(remote.remote_id)

    assert made.metadata == {"batchway": MARKER}
    assert (await lab.sdk.files.retrieve(made.input_file_id)).filename == f"{MARKER}.jsonl"
    assert remote.created == as_datetime(made.created_at)
    assert remote.where == {"input_file_id": batch.file_id}


async def test_find_reads_all_pages(lab: Lab) -> None:
    """Our batch is found behind 150 others, by its marker and by its file, and nothing else is."""
    started = as_datetime(lab.clock.now())
    batch = await lab.uploaded(chat("mine"))
    ours = await lab.provider.submit(batch)
    for n in range(150):
        lab.clock.jump(1)
        await lab.sdk.batches.create(
            input_file_id=(await lab.provider.upload(lab.seal(chat(str(n)), marker=f"{n:020d}"))) or "",
            endpoint=CHAT,
            completion_window="24h",
            metadata={"batchway": f"{n:020d}"},
        )
    by_marker = await lab.provider.find(replace(batch, file_id=None, first_sent=started))
    by_file = await lab.provider.find(replace(batch, marker="z" * 20, first_sent=started))

    assert [remote.remote_id for remote in by_marker] == [ours.remote_id]
    assert [remote.remote_id for remote in by_file] == [ours.remote_id]
    assert await lab.provider.find(replace(batch, marker="z" * 20, file_id=None, first_sent=started)) == []


async def test_find_stops_at_its_horizon(lab: Lab) -> None:
    """A listing is not read further back than a day before the first create call."""
    for n in range(250):
        lab.clock.jump(1_440)
        await lab.create(frame("a", chat(str(n))))
    before = lab.simulator.ledger.calls["list"]
    batch = replace(lab.seal(chat("x")), first_sent=as_datetime(lab.clock.now()) - timedelta(minutes=1))
    found = await lab.provider.find(batch)

    assert found == []
    assert lab.simulator.ledger.calls["list"] - before == 2


async def test_upload_waits_until_the_file_is_usable(lab: Lab) -> None:
    """A file that the provider is still reading is waited for; one that never gets ready is Retryable."""
    lab.simulator.settings = replace(lab.simulator.settings, file_pending_seconds=30)
    batch = await lab.uploaded(chat("x"))
    assert (await lab.provider.submit(batch)).state is RemoteState.RUNNING

    lab.simulator.settings = replace(lab.simulator.settings, file_pending_seconds=1_000_000)
    with pytest.raises(Retryable, match="still pending"):
        await lab.provider.upload(batch)


async def test_a_file_that_is_not_visible_yet_is_retryable(lab: Lab) -> None:
    """The known 400 right after an upload is tried again, and then works."""
    lab.simulator.faults.order(Fault(kind=FaultKind.FILE_LAG, seconds=10))
    batch = await lab.uploaded(chat("x"))
    with pytest.raises(Retryable, match="Cannot find file"):
        await lab.provider.submit(batch)
    lab.clock.jump(11)

    assert (await lab.provider.submit(batch)).state is RemoteState.RUNNING


async def test_a_poisoned_line_is_named(lab: Lab) -> None:
    """A batch that fails in validation comes back from poll as refused, with the place of the bad line."""
    remote = await lab.run(chat("a"), chat("b"), chat("c [sandbox: poison]"))

    assert remote.state is RemoteState.REFUSED
    assert isinstance(remote.refusal, Rejected)
    assert set(remote.refusal.lines) == {2}


async def test_a_full_queue_is_told_by_poll_or_create(lab: Lab) -> None:
    """The token limit comes out as TokenLimit from a create call, and as a refusal from a poll."""
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
async def test_a_half_done_batch_gives_every_line(lab: Lab, kind: FaultKind) -> None:
    """Answers and errors of an expired or cancelled batch are both fetched, answers first."""
    lab.simulator.faults.order(Fault(kind=kind))
    remote = await lab.run(*(chat(str(n)) for n in range(10)))
    await lab.provider.fetch(remote, lab.directory / "raw")
    rows = [lab.provider.decode(row) for row in (lab.directory / "raw").read_bytes().split(b"\n")[:-1]]

    assert remote.state is RemoteState.ENDED
    assert [result.body is not None for result in rows] == [True] * 5 + [False] * 5
    assert {result.line_id for result in rows} == {f"{MARKER}-{n}" for n in range(10)}
    assert all(result.retriable for result in rows[5:])


async def test_no_output_file_is_fine(lab: Lab) -> None:
    """A batch whose lines all failed has only an error file, and each line its status."""
    lab.simulator.faults.order(Fault(kind=FaultKind.ALL_FAILED, status=400))
    results = await lab.results(await lab.run(chat("a"), chat("b")))

    assert [(result.status, result.retriable) for result in results] == [(400, False), (400, False)]


async def test_cancel_and_discard(lab: Lab) -> None:
    """Cancelling ends a batch, cancelling again is harmless, discarding removes its files and may be repeated."""
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


async def test_an_unknown_batch_is_missing(lab: Lab) -> None:
    """A 404 of poll, cancel or fetch is Missing, and during the lag after a create as well."""
    lab.simulator.faults.order(Fault(kind=FaultKind.POLL_LAG, seconds=10))
    remote = await lab.provider.submit(await lab.uploaded(chat("x")))
    with pytest.raises(Missing):
        await lab.provider.poll(remote)
    with pytest.raises(Missing):
        await lab.provider.cancel(replace(remote, remote_id="batch_none"))
    with pytest.raises(Missing):
        await lab.provider.fetch(replace(remote, where={"output_file_id": "file-none"}), lab.directory / "x")
    lab.clock.jump(10)

    assert (await lab.provider.poll(remote)).state is RemoteState.RUNNING


async def test_the_synchronous_endpoint_answers(lab: Lab) -> None:
    """`complete` gives the answer as a result; a refused body and an exhausted rate are results too."""
    body = chat("right now", stream=False)
    lab.simulator.faults.order(Fault(kind=FaultKind.STATUS, operation=Operation.COMPLETE, status=429, code="slow_down"))
    limited = await lab.provider.complete(Call(endpoint=CHAT, model="sim-small", body=body))
    answered = await lab.provider.complete(Call(endpoint=CHAT, model="sim-small", body=body))
    refused = await lab.provider.complete(Call(endpoint=CHAT, model="sim-small", body=body | {"n": 0}))

    assert (limited.status, limited.retriable) == (429, True)
    assert text_of(answered).endswith(f"#{body_hash(body)}")
    assert (refused.status, refused.retriable) == (400, False)
    assert refused.error is not None
    assert refused.error.param == "n"


async def test_a_key_can_go_in_another_header(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compatible provider with `key_header` sends its key there, and nowhere else."""
    url = lab.server.base_url(lab.simulator)
    settings = OpenAICompatibleProvider.Settings.model_validate(
        {"api_key": "secret", "base_url": url, "key_header": "api-key"}
    )
    provider = OpenAICompatibleProvider("other", settings, lab.clock, lab.directory)
    lab.simulator.settings = replace(lab.simulator.settings, api_key="secret")
    seen: list[tuple[str | None, str | None]] = []
    authorised = lab.simulator.authorised
    monkeypatch.setattr(
        lab.simulator,
        "authorised",
        lambda request: (
            seen.append((request.headers.get("api-key"), request.headers.get("Authorization"))) or authorised(request)
        ),
    )
    found = await provider.find(lab.seal(chat("x")))
    await provider.aclose()

    assert found == []
    assert seen == [("secret", None)]


async def test_answers_are_not_lost_with_the_error_file(lab: Lab) -> None:
    """Answers in an output file are fetched though the error file is gone: they are not asked for, and paid, again."""
    remote = await lab.run(chat("a"))
    torn = replace(remote, where={**remote.where, "error_file_id": "file-gone"})

    assert [result.status for result in await lab.results(torn)] == [200]
