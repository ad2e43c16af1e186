"""What the provider makes of connections that fail, answers that are lost, and files that are cut."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import structlog
from openai_lab import CHAT, MARKER, Lab, chat, provider_at

from gateway import Ambiguous, Batch, Call, RemoteBatch, RemoteState, Retryable, Unauthorised
from gateway.sandbox import Fault, FaultKind, Operation
from gateway.testing import deaf
from gateway_openai import OpenAIProvider


@pytest.mark.parametrize(("when", "batches"), [("before", 0), ("after", 1)])
async def test_a_lost_response_is_ambiguous_and_can_be_found(lab: Lab, when: str, batches: int) -> None:
    """A create call whose connection is cut is Ambiguous, sent once, and listing tells what became of it."""
    batch = await lab.uploaded(chat("x"))
    lab.simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.CREATE, when=when))
    with pytest.raises(Ambiguous):
        await lab.provider.submit(batch)

    assert lab.simulator.ledger.calls["create"] == 1
    assert len(await lab.provider.find(batch)) == batches


async def test_a_create_call_that_hangs_is_ambiguous(lab: Lab) -> None:
    """No answer within the time limit leaves open what happened."""
    batch = await lab.uploaded(chat("x"))
    async with deaf() as url, provider_at(url, lab.directory, timeout_seconds=0.2) as provider:
        with pytest.raises(Ambiguous):
            await provider.submit(batch)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_connection_that_is_never_made_is_retryable(lab: Lab, scheme: str) -> None:
    """A refused connection, or a TLS handshake that fails, cannot have created anything."""
    batch = await lab.uploaded(chat("x"))
    port = lab.server.port
    if scheme == "http":
        await lab.server.stop()
    async with provider_at(f"{scheme}://127.0.0.1:{port}/v1", lab.directory) as provider:
        with pytest.raises(Retryable):
            await provider.submit(batch)


async def test_an_account_that_cannot_pay_is_unauthorised(lab: Lab) -> None:
    """A 429 that says that the quota is used up stops the account, since waiting does not help."""
    batch = await lab.uploaded(chat("x"))
    fault = Fault(kind=FaultKind.STATUS, operation=Operation.CREATE, status=429, code="insufficient_quota")
    lab.simulator.faults.order(fault)
    with pytest.raises(Unauthorised):
        await lab.provider.submit(batch)


OPERATIONS: dict[Operation, Callable[[OpenAIProvider, Batch, RemoteBatch], Awaitable[object]]] = {
    Operation.UPLOAD: lambda provider, batch, _: provider.upload(batch),
    Operation.POLL: lambda provider, _, remote: provider.poll(remote),
    Operation.LIST: lambda provider, batch, _: provider.find(batch),
    Operation.FETCH: lambda provider, batch, remote: provider.fetch(remote, batch.spool.with_name("fetched")),
    Operation.DISCARD: lambda provider, batch, remote: provider.discard(batch, remote),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("status", [0, 408, 409, 429, 500, 503])
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
async def test_a_batch_that_runs_on_has_not_been_cancelled(lab: Lab, status: int) -> None:
    """A cancel call that failed is Retryable as long as the batch still runs, and the next one works."""
    remote = await lab.provider.submit(await lab.uploaded(chat("x")))
    kind = FaultKind.STATUS if status else FaultKind.CUT
    lab.simulator.faults.order(Fault(kind=kind, operation=Operation.CANCEL, status=status))
    with pytest.raises(Retryable):
        await lab.provider.cancel(remote)
    await lab.provider.cancel(remote)

    assert (await lab.provider.poll(remote)).state is RemoteState.ENDED


async def test_a_cancel_call_whose_answer_is_lost_has_worked(lab: Lab) -> None:
    """When only the answer was lost, the batch itself tells that it was cancelled."""
    remote = await lab.provider.submit(await lab.uploaded(chat("x")))
    lab.simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.CANCEL, when="after"))
    await lab.provider.cancel(remote)

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
    async with provider_at(lab.server.url(lab.simulator) + "/v2", lab.directory) as provider:
        for call in (provider.upload(lab.seal(chat("x"))), provider.find(lab.seal(chat("x")))):
            with pytest.raises(Retryable):
                await call


async def test_a_download_that_is_cut_is_retryable(lab: Lab) -> None:
    """Half a file never passes for a whole one; the next download has everything."""
    remote = await lab.run(*(chat(f"{n} {'x' * 500}") for n in range(200)))
    lab.simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.FETCH, when="during"))
    with pytest.raises(Retryable):
        await lab.provider.fetch(remote, lab.directory / "x")

    assert not (lab.directory / "x").exists()
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


async def test_an_unknown_state_is_named_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that nobody has heard of counts as running, and is in the log once."""
    remote = await lab.provider.submit(await lab.uploaded(chat("x")))
    monkeypatch.setattr(
        "gateway_openai.simulated.batches.batch_object",
        lambda batch, *_, **_how: {"id": batch.id, "status": "levitating"},
    )
    with structlog.testing.capture_logs() as logs:
        states = [(await lab.provider.poll(remote)).state for _ in range(3)]

    assert states == [RemoteState.RUNNING] * 3
    assert [(entry["event"], entry["state"]) for entry in logs] == [("unknown_remote_state", "levitating")]


async def test_a_synchronous_call_without_an_answer_raises(lab: Lab) -> None:
    """`complete` is Ambiguous when its connection is cut, and Retryable when it was never made."""
    call = Call(endpoint=CHAT, model="sim-small", body=chat("x"))
    lab.simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.COMPLETE))
    with pytest.raises(Ambiguous):
        await lab.provider.complete(call)
    await lab.server.stop()
    with pytest.raises(Retryable):
        await lab.provider.complete(call)
