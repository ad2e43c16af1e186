"""What failed calls to Anthropic mean, where it says so by more than a status."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from anthropic_lab import bodies, call_of, chat, speaking_to, user

from gateway import (
    Ambiguous,
    Missing,
    ProviderError,
    Rejected,
    RemoteBatch,
    RemoteState,
    Retryable,
    Unauthorised,
)
from gateway.sandbox import Fault, FaultKind, Operation
from gateway.testing import Lab


@pytest.mark.parametrize("content", [[], {"id": 7}, {"type": "message_batch"}])
async def test_an_answer_without_an_id_is_ambiguous(lab: Lab, tmp_path: Path, content: object) -> None:
    """Something was said to the create call, and nobody knows what it did; a poll that reads so is repeated."""
    async with speaking_to(content, tmp_path) as (own, _):
        with pytest.raises(Ambiguous):
            await own.submit(lab.seal(chat()))
        with pytest.raises(Retryable):
            await own.poll(RemoteBatch(remote_id="x", state=RemoteState.RUNNING))


async def test_results_that_are_gone_are_missing(lab: Lab) -> None:
    """After 29 days there is nothing to fetch, and that is told apart from a bad connection."""
    remote = await lab.run(chat())
    lab.clock.jump(29 * 86_400)
    with pytest.raises(Missing):
        await lab.rows(remote)


async def test_a_batch_too_large_is_refused_without_a_line(lab: Lab) -> None:
    """A body over the limit is Rejected while it is still being sent; which line is at fault nobody says."""
    lab.simulator.settings = replace(lab.simulator.settings, max_bytes=1_000)
    with pytest.raises(Rejected) as refused:
        await lab.submit(*[chat(user("x" * 100_000)) for _ in range(50)])

    assert refused.value.lines == {}
    assert "413" in refused.value.reason


async def test_a_named_request_is_the_line_at_fault(lab: Lab) -> None:
    """The provider counts from 0, and says which request spoils the batch."""
    with pytest.raises(Rejected) as refused:
        await lab.submit(*bodies(2), chat(user("[sandbox: poison]")))

    assert set(refused.value.lines) == {2}
    assert "poisoned" in refused.value.lines[2]


async def test_an_account_that_cannot_pay_stops(lab: Lab) -> None:
    """The 400 that speaks of the balance is no fault of the requests."""
    words = "Your credit balance is too low to access the Anthropic API."
    for operation in (Operation.CREATE, Operation.POLL):
        lab.simulator.faults.order(Fault(kind=FaultKind.STATUS, operation=operation, status=400, message=words))
    with pytest.raises(Unauthorised):
        await lab.submit(chat())
    with pytest.raises(Unauthorised):
        await lab.provider.poll(await lab.submit(chat()))


async def test_an_overloaded_create_call_is_ambiguous(lab: Lab) -> None:
    """529 says nothing about what was done; for a poll it is a lost poll."""
    for operation in (Operation.CREATE, Operation.POLL):
        lab.simulator.faults.order(Fault(kind=FaultKind.STATUS, operation=operation, status=529, retry_after=7))
    with pytest.raises(Ambiguous):
        await lab.submit(chat())
    with pytest.raises(Retryable) as lost:
        await lab.provider.poll(await lab.submit(chat()))

    assert lost.value.retry_after == 7


async def test_an_error_at_once_keeps_its_words(lab: Lab) -> None:
    """What the provider says of a refused call reaches the caller."""
    result = await lab.provider.complete(call_of(chat(user("[sandbox: status=529]"))))

    assert (result.status, result.retriable) == (529, True)
    assert result.error is not None
    assert result.error.type == "overloaded_error"


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        (404, "<html>404 Not Found</html>", Retryable),
        (404, '{"detail": "Not Found"}', Retryable),
        (400, "<html>400 Bad Request</html>", Retryable),
        (405, "", Retryable),
        (413, "<html>413 Request Entity Too Large</html>", Rejected),
        (404, '{"type": "error", "error": {"type": "not_found_error", "message": "model: m"}}', Rejected),
    ],
)
async def test_a_page_of_a_proxy_refuses_nobody(lab: Lab, status: int, body: str, meaning: type[ProviderError]) -> None:
    """A refusal of a create call counts in the provider's words only, so that no request fails for a proxy that is renewed."""

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=status, text=body)

    async with speaking_to(answer, lab.directory) as (own, _):
        with pytest.raises(meaning):
            await own.submit(lab.seal(chat()))
