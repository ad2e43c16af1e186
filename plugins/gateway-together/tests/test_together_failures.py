"""What failed calls to Together mean, which it tells in sentences."""

from __future__ import annotations

from dataclasses import replace

import pytest
from together_lab import chat, provider_at

from gateway import Ambiguous, Missing, Rejected, RemoteState, Retryable, TokenLimit, Unauthorised
from gateway.sandbox import Fault, FaultKind, Operation
from gateway.testing import Lab, deaf, saying


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
