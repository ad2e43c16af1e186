"""What failed calls to Together mean, which it tells in sentences."""

from __future__ import annotations

from dataclasses import replace

import pytest
from together_lab import chat, provider_at

from gateway import Ambiguous, Missing, ProviderError, Rejected, RemoteState, Retryable, TokenLimit, Unauthorised
from gateway.sandbox import Fault, FaultKind, Operation
from gateway.testing import Lab, deaf, saying


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Rejected),
        (401, Unauthorised),
        (402, Unauthorised),
        (403, Unauthorised),
        (404, Rejected),
        (408, Ambiguous),
        (409, Ambiguous),
        (413, Rejected),
        (422, Rejected),
        (429, Retryable),
        (500, Ambiguous),
        (503, Ambiguous),
        (200, Ambiguous),
        (202, Ambiguous),
        (302, Ambiguous),
    ],
)
async def test_create_failures_by_status(lab: Lab, status: int, kind: type[ProviderError]) -> None:
    """Every status of a create call has its class, and the call is sent once, whatever the SDK would do."""
    batch = await lab.upload(chat("x"))
    lab.simulator.faults.order(Fault(kind=FaultKind.STATUS, operation=Operation.CREATE, status=status, when="after"))
    with pytest.raises(ProviderError) as caught:
        await lab.provider.submit(batch)

    assert type(caught.value) is kind
    assert lab.simulator.ledger.calls["create"] == 1


async def test_reasons_are_sentences_and_objects(lab: Lab) -> None:
    """The sentence of the batch endpoints and the object of the others both reach the operator; a wish to wait as well."""
    batch = await lab.upload(chat("x"))
    with pytest.raises(Rejected, match="endpoint must be"):
        await lab.provider.submit(replace(batch, endpoint="/v1/embeddings"))
    with pytest.raises(Missing, match="File not found"):
        await lab.provider.fetch(
            replace(await lab.submit(chat("x")), where={"output_file_id": "file-none"}), lab.directory / "rows"
        )
    lab.simulator.faults.order(Fault(kind=FaultKind.STATUS, operation=Operation.CREATE, status=429, retry_after=17))
    with pytest.raises(Retryable) as caught:
        await lab.provider.submit(batch)

    assert caught.value.retry_after == 17


async def test_a_file_that_is_not_visible_yet_refuses_nobody(lab: Lab) -> None:
    """A create call that does not find its file is tried again, and works when the file has shown up."""
    lab.simulator.faults.order(Fault(kind=FaultKind.FILE_LAG, seconds=10))
    batch = await lab.upload(chat("x"))
    with pytest.raises(Retryable, match="not found"):
        await lab.provider.submit(batch)
    lab.clock.jump(11)

    assert (await lab.provider.submit(batch)).state is RemoteState.RUNNING


@pytest.mark.parametrize("status", [400, 429])
async def test_an_account_that_cannot_pay_is_unauthorised(lab: Lab, status: int) -> None:
    """A refusal that speaks of credits stops the account, since neither waiting nor smaller batches help."""
    batch = await lab.upload(chat("x"))
    told = "Insufficient credits. Please add funds."
    lab.simulator.faults.order(Fault(kind=FaultKind.STATUS, operation=Operation.CREATE, status=status, message=told))
    with pytest.raises(Unauthorised):
        await lab.provider.submit(batch)


async def test_a_full_queue_is_no_refusal(lab: Lab) -> None:
    """Too many tokens waiting is TokenLimit, from the create call and from a failed job."""
    lab.simulator.faults.order(Fault(kind=FaultKind.TOKEN_LIMIT, when="after"))
    lab.simulator.faults.order(Fault(kind=FaultKind.TOKEN_LIMIT, when="before"))
    batch = await lab.upload(chat("x"))
    with pytest.raises(TokenLimit):
        await lab.provider.submit(batch)
    remote = await lab.later(await lab.provider.submit(batch))

    assert isinstance(remote.refusal, TokenLimit)


@pytest.mark.parametrize("answer", ["null", "[]", "<html>", '{"id": null}', '{"id": 5}'])
async def test_a_poll_that_cannot_be_read_is_lost(lab: Lab, answer: str) -> None:
    """An answer that is no job is a poll that was lost, and never decides anything."""
    remote = await lab.submit(chat("x"))
    async with saying(answer) as url, provider_at(lab, url) as provider:
        with pytest.raises(Retryable):
            await provider.poll(remote)


@pytest.mark.parametrize("answer", ["null", "{}", "<html>", '{"error": "x"}'])
async def test_a_list_that_cannot_be_read_is_not_empty(lab: Lab, answer: str) -> None:
    """An answer that is no list is a listing that was lost: it does not say that the batch is not there."""
    async with saying(answer) as url, provider_at(lab, url) as provider:
        with pytest.raises(Retryable):
            await provider.find(replace(lab.seal(chat("x")), file_id="file-x"))


@pytest.mark.parametrize("answer", ['{"job": null, "warning": "busy"}', "null", "<html>", ""])
async def test_a_success_without_a_job_is_open(lab: Lab, answer: str) -> None:
    """A create call that is answered with anything but a job may have made one."""
    async with saying(answer) as url, provider_at(lab, url) as provider:
        with pytest.raises(Ambiguous):
            await provider.submit(replace(lab.seal(chat("x")), file_id="file-x"))


async def test_a_create_call_that_hangs_is_open(lab: Lab) -> None:
    """No answer within the time limit leaves open what happened."""
    async with deaf() as url, provider_at(lab, url, timeout_seconds=0.2) as provider:
        with pytest.raises(Ambiguous):
            await provider.submit(replace(lab.seal(chat("x")), file_id="file-x"))


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_connection_that_is_never_made_is_retryable(lab: Lab, scheme: str) -> None:
    """A refused connection, or a TLS handshake that fails, cannot have created anything."""
    batch = await lab.upload(chat("x"))
    assert lab.server is not None
    port = lab.server.port
    if scheme == "http":
        await lab.server.stop()
    async with provider_at(lab, f"{scheme}://127.0.0.1:{port}") as provider:
        with pytest.raises(Retryable):
            await provider.submit(batch)


async def test_a_bad_key_is_unauthorised_everywhere(lab: Lab) -> None:
    """A revoked key is Unauthorised from every operation, and not repeated even where the provider repeats it."""
    batch = await lab.upload(chat("x"))
    remote = await lab.provider.submit(batch)
    told = "Invalid API key provided: sandbox."
    lab.simulator.faults.order(Fault(kind=FaultKind.STATUS, status=401, message=told, times=None))
    calls = [
        lab.provider.upload(batch),
        lab.provider.submit(batch),
        lab.provider.find(batch),
        lab.provider.poll(remote),
        lab.provider.fetch(replace(remote, where={"output_file_id": "file-x"}), lab.directory / "x"),
        lab.provider.cancel(remote),
        lab.provider.discard(batch, remote),
    ]
    for operation in calls:
        with pytest.raises(Unauthorised) as caught:
            await operation
        assert "sandbox" not in caught.value.reason
