"""What the provider makes of connections that fail, answers that are lost, and files that are cut."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from mistral_lab import MARKER, Lab, call, chat, provider_at

from gateway import Ambiguous, Batch, RemoteBatch, RemoteState, Retryable
from gateway.sandbox import Fault, FaultKind, Operation
from gateway.testing import deaf
from gateway_mistral import MistralProvider


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(("when", "jobs"), [("before", 0), ("after", 1)])
async def test_a_lost_response_is_ambiguous_and_can_be_found(
    lab: Lab,
    when: str,
    jobs: int,
    inside: bool,
) -> None:
    """A create call whose connection is cut is Ambiguous, sent once, and listing tells what became of it."""
    batch = await lab.ready(inside=inside)
    lab.simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.CREATE, when=when))
    with pytest.raises(Ambiguous):
        await lab.creator(inside=inside).submit(batch)

    assert lab.simulator.ledger.calls["create"] == 1
    assert len(await lab.provider.find(batch)) == jobs


@pytest.mark.parametrize("inside", [False, True])
async def test_a_create_call_that_hangs_is_ambiguous(lab: Lab, inside: bool) -> None:
    """No answer within the time limit leaves open what happened."""
    batch = await lab.ready(inside=inside)
    limits = {"timeout_seconds": 0.2, "transfer_timeout_seconds": 0.2}
    async with deaf() as url, provider_at(lab.clock, lab.directory, url, **limits) as provider:
        with pytest.raises(Ambiguous):
            await provider.submit(batch)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_connection_that_is_never_made_is_retryable(lab: Lab, scheme: str, inside: bool) -> None:
    """A refused connection, or a TLS handshake that fails, cannot have created anything."""
    batch = await lab.ready(inside=inside)
    port = lab.server.port
    if scheme == "http":
        await lab.server.stop()
    async with provider_at(lab.clock, lab.directory, f"{scheme}://127.0.0.1:{port}") as provider:
        with pytest.raises(Retryable):
            await provider.submit(batch)


OPERATIONS: dict[Operation, Callable[[MistralProvider, Batch, RemoteBatch], Awaitable[object]]] = {
    Operation.UPLOAD: lambda provider, batch, _: provider.upload(batch),
    Operation.POLL: lambda provider, _, remote: provider.poll(remote),
    Operation.LIST: lambda provider, batch, _: provider.find(batch),
    Operation.FETCH: lambda provider, batch, remote: provider.fetch(remote, batch.spool.with_name("fetched")),
    Operation.DISCARD: lambda provider, batch, remote: provider.discard(batch, remote),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("status", [0, 302, 408, 409, 429, 500, 503])
async def test_other_operations_can_be_repeated(lab: Lab, operation: Operation, status: int) -> None:
    """A cut connection (0) or a passing failure of anything but a create call is Retryable, and the next try works."""
    batch = await lab.uploaded(chat("x"))
    remote = await lab.provider.submit(batch)
    lab.clock.jump(1_000)
    remote = await lab.provider.poll(remote)
    kind = FaultKind.STATUS if status else FaultKind.CUT
    lab.simulator.faults.order(Fault(kind=kind, operation=operation, status=status))
    with pytest.raises(Retryable):
        await OPERATIONS[operation](lab.provider, batch, remote)

    await OPERATIONS[operation](lab.provider, batch, remote)


@pytest.mark.parametrize("status", [0, 400, 409, 429, 500])
async def test_a_job_that_runs_on_has_not_been_cancelled(lab: Lab, status: int) -> None:
    """A cancel call that failed is Retryable as long as the job still runs, and the next one works."""
    remote = await lab.provider.submit(await lab.uploaded(chat("x")))
    kind = FaultKind.STATUS if status else FaultKind.CUT
    lab.simulator.faults.order(Fault(kind=kind, operation=Operation.CANCEL, status=status))
    with pytest.raises(Retryable):
        await lab.provider.cancel(remote)
    await lab.provider.cancel(remote)

    assert (await lab.provider.poll(remote)).state is RemoteState.ENDED


async def test_a_job_on_its_way_to_its_end_is_left_alone(lab: Lab) -> None:
    """When only the answer was lost, or the job is being cancelled already, cancelling has worked."""
    lab.simulator.settings = replace(lab.simulator.settings, cancelling_seconds=30)
    remote = await lab.provider.submit(await lab.uploaded(chat("x")))
    lab.simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.CANCEL, when="after"))
    await lab.provider.cancel(remote)
    during = await lab.provider.poll(remote)
    lab.clock.jump(31)

    assert during.state is RemoteState.RUNNING
    assert (await lab.provider.poll(remote)).state is RemoteState.ENDED


@pytest.mark.parametrize("operation", [Operation.POLL, Operation.LIST, Operation.FETCH])
async def test_a_refused_look_is_only_a_lost_look(lab: Lab, operation: Operation) -> None:
    """A 400 for a poll, a list or a download refuses no batch: nothing is decided by it."""
    remote = await lab.run(chat("x"))
    lab.simulator.faults.order(Fault(kind=FaultKind.STATUS, operation=operation, status=400))
    with pytest.raises(Retryable):
        await OPERATIONS[operation](lab.provider, lab.seal(chat("x")), remote)


async def test_a_wrong_address_is_retryable(lab: Lab) -> None:
    """A 404 for an upload or a list means that the base URL is wrong, and refuses nobody's request."""
    async with provider_at(lab.clock, lab.directory, lab.url + "/v2", inline_max_requests=0) as provider:
        for waiting in (provider.upload(lab.seal(chat("x"))), provider.find(lab.seal(chat("x")))):
            with pytest.raises(Retryable):
                await waiting


@pytest.mark.parametrize("inline_files", [False, True])
async def test_a_download_that_is_cut_is_retryable(lab: Lab, inline_files: bool) -> None:
    """Half a file, or half a job with its results, never passes for a whole one; the next download has everything."""
    lab.simulator.inline_files = inline_files
    remote = await lab.run(*(chat(f"{n} {'x' * 500}") for n in range(200)), by=lab.inline)
    lab.simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.FETCH, when="during"))
    with pytest.raises(Retryable):
        await lab.provider.fetch(remote, lab.directory / "x")

    assert not (lab.directory / "x").exists()
    assert not (lab.directory / "x.job").exists()
    assert len(await lab.results(remote)) == 200


async def test_a_truncated_file_does_not_swallow_the_next(lab: Lab) -> None:
    """The newline that a truncated output file lacks is put in, so the first error row stays readable."""
    lab.simulator.faults.order(Fault(kind=FaultKind.LAST_ROW_TRUNCATED))
    remote = await lab.run(chat("a"), chat("b"), chat("c [sandbox: status=400]"))
    results = await lab.results(remote)

    assert sorted(result.status for result in results) == [0, 200, 400]
    assert [result.line_id for result in results if result.status == 400] == [f"{MARKER}-2"]


@pytest.mark.parametrize(
    ("kind", "unreadable", "strangers"),
    [
        (FaultKind.ROW_MALFORMED, 1, 0),
        (FaultKind.ROW_INVALID_UTF8, 1, 0),
        (FaultKind.ROW_STATUS_0, 1, 0),
        (FaultKind.ROW_NO_CHOICES, 1, 0),
        (FaultKind.ROW_UNKNOWN_ID, 0, 1),
        (FaultKind.ROW_DUPLICATE, 0, 0),
    ],
)
async def test_damaged_rows_are_told_apart(lab: Lab, kind: FaultKind, unreadable: int, strangers: int) -> None:
    """Each damaged row decodes to something retriable or unknown, and costs its neighbours nothing."""
    lab.simulator.faults.order(Fault(kind=kind))
    results = await lab.results(await lab.run(chat("a"), chat("b"), chat("c")))
    ours = [result for result in results if (result.line_id or MARKER).startswith(MARKER)]

    assert len([result for result in results if result.retriable]) == unreadable
    assert len(results) - len(ours) == strangers
    assert len({result.line_id for result in ours if result.body is not None}) == 3 - unreadable - strangers


async def test_a_synchronous_call_without_an_answer_raises(lab: Lab) -> None:
    """`complete` is Ambiguous when its connection is cut, and Retryable when it was never made."""
    lab.simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.COMPLETE))
    with pytest.raises(Ambiguous):
        await lab.provider.complete(call(chat("x")))
    await lab.server.stop()
    with pytest.raises(Retryable):
        await lab.provider.complete(call(chat("x")))
