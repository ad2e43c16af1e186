"""Answers that Mistral should not give, or that no document foretells."""

from __future__ import annotations

import pytest
import structlog
from aiohttp import web
from mistral_lab import MARKER, Lab, answering, chat, provider_at

from gateway import Ambiguous, RemoteBatch, RemoteState, Retryable
from gateway.testing import served


@pytest.mark.parametrize("inside", [False, True])
async def test_a_redirect_is_not_followed(lab: Lab, inside: bool) -> None:
    """A create call that is sent elsewhere is not sent again: nobody knows whether the first has acted."""
    batch = await lab.ready(inside=inside)
    seen: list[str] = []

    async def move(request: web.Request) -> web.Response:
        seen.append(request.method)
        await request.read()
        return web.Response(status=307, headers={"Location": f"{lab.url}/v1/batch/jobs"})

    async with served(move) as url, provider_at(lab.clock, lab.directory, url) as provider:
        with pytest.raises(Ambiguous):
            await provider.submit(batch)

    assert seen == ["POST"]
    assert lab.simulator.ledger.calls["create"] == 0


async def test_an_unknown_state_is_named_once(lab: Lab) -> None:
    """A state that nobody has heard of counts as running, and is in the log once; what else is missing does not matter."""
    remote = await lab.provider.submit(await lab.uploaded(chat("x")))
    whole = (await lab.sdk.batch.jobs.get_async(job_id=remote.remote_id)).model_dump(mode="json")
    async with (
        answering({"id": remote.remote_id, "status": "LEVITATING"}, whole | {"status": "LEVITATING"}) as url,
        provider_at(lab.clock, lab.directory, url) as provider,
    ):
        with structlog.testing.capture_logs() as logs:
            states = [(await provider.poll(remote)).state for _ in range(3)]

    assert states == [RemoteState.RUNNING] * 3
    assert [(entry["event"], entry["state"]) for entry in logs] == [("unknown_remote_state", "LEVITATING")]


async def test_odd_rows_do_not_spoil_a_list(lab: Lab) -> None:
    """A list whose rows the SDK's models do not like is read all the same."""
    page = {"object": "list", "data": [{"id": "a", "metadata": {"batchway": MARKER}}, {"id": 7}, None], "total": 3}
    async with answering(page, {"data": [], "total": 3}) as url, provider_at(lab.clock, lab.directory, url) as provider:
        found = await provider.find(lab.seal(chat("x")))

    assert [remote.remote_id for remote in found] == ["a"]


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ({"object": "list", "data": [{"id": "a"}], "total": 9}, "came twice"),
        ({"data": "none"}, "not a list"),
        ([], "not a JSON object"),
    ],
)
async def test_a_list_that_does_not_end_is_no_answer(lab: Lab, page: object, reason: str) -> None:
    """An empty result needs a whole list: a page that comes again, or is no page, is Retryable."""
    async with answering(page) as url, provider_at(lab.clock, lab.directory, url) as provider:
        with pytest.raises(Retryable, match=reason):
            await provider.find(lab.seal(chat("x")))


async def test_a_total_may_count_its_page_only(lab: Lab) -> None:
    """No page is taken for the last one because of its total or its size, but an empty one."""
    pages = [
        {"object": "list", "data": [{"id": str(n)} for n in range(100)], "total": 100},
        {"object": "list", "data": [{"id": "other"}], "total": 1},
        {"object": "list", "data": [{"id": "mine", "metadata": {"batchway": MARKER}}], "total": 1},
        {"object": "list", "data": [], "total": 0},
    ]
    async with answering(*pages) as url, provider_at(lab.clock, lab.directory, url) as provider:
        found = await provider.find(lab.seal(chat("x")))

    assert [remote.remote_id for remote in found] == ["mine"]


@pytest.mark.parametrize("inside", [False, True])
async def test_a_create_call_answered_with_nonsense_is_ambiguous(lab: Lab, inside: bool) -> None:
    """A 200 without a job leaves open what happened."""
    batch = await lab.ready(inside=inside)
    for nonsense in ({"object": "batch"}, [], "x"):
        async with answering(nonsense) as url, provider_at(lab.clock, lab.directory, url) as provider:
            with pytest.raises(Ambiguous):
                await provider.submit(batch)


@pytest.mark.parametrize(
    ("job", "state"),
    [
        ({"output_file": "f"}, RemoteState.ENDED),
        ({"error_file": "f"}, RemoteState.ENDED),
        ({"succeeded_requests": 3}, RemoteState.ENDED),
        ({"failed_requests": 3}, RemoteState.REFUSED),
        ({"errors": [{"message": "bad", "count": 2}]}, RemoteState.REFUSED),
        ({"errors": "odd"}, RemoteState.REFUSED),
    ],
)
async def test_a_failed_job_with_results_is_fetched(lab: Lab, job: dict[str, object], state: RemoteState) -> None:
    """FAILED means refused, unless there are answers that were paid for."""
    remote = RemoteBatch(remote_id="a", state=RemoteState.RUNNING)
    async with (
        answering({"id": "a", "status": "FAILED", **job}) as url,
        provider_at(lab.clock, lab.directory, url) as provider,
    ):
        assert (await provider.poll(remote)).state is state
