"""The provider against its simulator, over real HTTP, in what the contract of providers leaves open."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestServer
from anthropic_lab import NEWEST, chat, user

from gateway import (
    Ambiguous,
    Batch,
    Call,
    Missing,
    Rejected,
    RemoteBatch,
    RemoteState,
    Retryable,
    Unauthorised,
    Unsupported,
)
from gateway.clock import as_datetime
from gateway.records import line_id
from gateway.sandbox import Fault, FaultKind, Operation
from gateway.testing import Lab, QuickClock, sandboxed
from gateway_anthropic import AnthropicProvider, body, provider, register_providers


def bodies(count: int) -> list[dict[str, object]]:
    """So many different questions."""
    return [chat(user(f"question {n}")) for n in range(count)]


def test_the_plugin_brings_one_kind() -> None:
    """The hook returns the kind, which has no marker and says where its simulator is."""
    [kind] = register_providers()

    assert (kind.kind, kind.marked, kind.batch) == ("anthropic", False, True)
    assert kind.simulator == "gateway_anthropic.sandbox:AnthropicSimulator"


def test_listing_the_kind_does_not_load_the_sdk() -> None:
    """Start-up stays quick: neither the SDK nor the simulator is imported with the plugin."""
    code = "import gateway_anthropic, sys; print({'anthropic', 'httpx2', 'aiohttp'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert shown.stdout.strip() == "set()"


def test_the_limits_are_the_documented_ones() -> None:
    """100,000 requests, the smaller reading of 256 MB for the whole body, a day's window, 29 days of results."""
    limits = AnthropicProvider.limits

    assert limits.max_requests == 100_000
    assert limits.max_bytes is not None
    assert body.body_length(limits.max_bytes) <= 256_000_000
    assert (limits.window_seconds, limits.retention_days) == (86_400, 29)


@pytest.mark.parametrize("count", [1, 2, 500])
async def test_the_body_is_the_spool_in_one_array(lab: Lab, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Wherever the pieces are cut, the body is one array of the lines, as long as was said."""
    batch = lab.seal(*bodies(count))
    for size in (1, 7, 1 << 19):
        if size == 1 and count > 2:
            continue
        monkeypatch.setattr(body, "_CHUNK_BYTES", size)
        whole = b"".join([piece async for piece in body.create_body(batch.spool, batch.size)])

        assert len(whole) == body.body_length(batch.size)
        lines = batch.spool.read_bytes().splitlines()
        assert orjson.loads(whole) == {"requests": [orjson.loads(line) for line in lines]}


async def test_a_large_batch_costs_no_memory(lab: Lab, tmp_path: Path) -> None:
    """A body is sent piece by piece, with its length: what is held at once does not grow with the batch."""

    async def swallow(request: web.Request) -> web.Response:
        got = 0
        async for piece in request.content.iter_any():
            got += len(piece)
        assert request.headers.get("Transfer-Encoding") is None
        assert got == request.content_length == body.body_length(batch.size)
        return web.json_response({"id": "msgbatch_1", "processing_status": "in_progress"})

    spool = tmp_path / "large.spool"
    line = orjson.dumps({"custom_id": "x", "params": {"text": "y" * 100_000}}) + b"\n"
    with spool.open("wb") as file:
        for _ in range(200):
            file.write(line)
    batch = replace(lab.seal(chat()), spool=spool, size=spool.stat().st_size, count=200)
    async with speaking_to(swallow, tmp_path) as (own, _):
        tracemalloc.start()
        remote = await own.submit(batch)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert remote.remote_id == "msgbatch_1"
    assert peak < batch.size // 4


@asynccontextmanager
async def speaking_to(
    answer: object, tmp_path: Path, **settings: object
) -> AsyncIterator[tuple[AnthropicProvider, list[web.Request]]]:
    """A provider in front of a server that gives one answer to everything, and what it was asked."""
    asked: list[web.Request] = []

    async def answered(request: web.Request) -> web.StreamResponse:
        asked.append(request)
        if callable(answer):
            response: web.StreamResponse = await answer(request)
            return response
        return web.json_response(answer)

    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", answered)
    server = TestServer(app)
    await server.start_server()
    own = AnthropicProvider.Settings.model_validate({"api_key": "k", "base_url": str(server.make_url("")), **settings})
    made = AnthropicProvider("anthropic", own, QuickClock(), tmp_path)
    yield made, asked
    await made.aclose()
    await server.close()


@pytest.mark.parametrize(
    ("version", "headers"),
    [
        ("2026-10-21", {"Authorization": "Bearer k", "X-Api-Key": None}),
        ("2023-06-01", {"Authorization": None, "X-Api-Key": "k"}),
    ],
)
async def test_the_version_and_its_key_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, headers: dict[str, str | None]
) -> None:
    """Each version is named, with the key where that version has it; the SDK's environment is not read."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "other")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "other")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    async with speaking_to({"data": [], "has_more": False}, tmp_path, api_version=version) as (own, asked):
        batch = Batch(marker="m", endpoint="", model="", count=1, size=1, spool=tmp_path)
        assert await own.find(batch) == []

    assert asked[0].headers["anthropic-version"] == version
    assert {name: asked[0].headers.get(name) for name in headers} == headers


async def test_an_unknown_state_runs_on_and_is_logged_once(tmp_path: Path) -> None:
    """A word that nobody has told us of is no end."""
    async with speaking_to({"id": "msgbatch_1", "processing_status": "pondering"}, tmp_path) as (own, _):
        with structlog.testing.capture_logs() as logs:
            seen = [await own.poll(RemoteBatch(remote_id="msgbatch_1", state=RemoteState.RUNNING)) for _ in range(2)]

    assert [remote.state for remote in seen] == [RemoteState.RUNNING] * 2
    assert [log["state"] for log in logs] == ["pondering"]


@pytest.mark.parametrize("content", [[], {"id": 7}, {"type": "message_batch"}])
async def test_an_answer_without_an_id_is_ambiguous(lab: Lab, tmp_path: Path, content: object) -> None:
    """Something was said to the create call, and nobody knows what it did; a poll that reads so is repeated."""
    async with speaking_to(content, tmp_path) as (own, _):
        with pytest.raises(Ambiguous):
            await own.submit(lab.seal(chat()))
        with pytest.raises(Retryable):
            await own.poll(RemoteBatch(remote_id="x", state=RemoteState.RUNNING))


async def test_counts_are_read_as_they_are_meant(lab: Lab) -> None:
    """The total is known from the start; nothing is done until everything is."""
    created = await lab.submit(*bodies(3), chat(user("[sandbox: status=400]")))
    ended = await lab.later(created)

    assert (created.total, created.done, created.state) == (4, 0, RemoteState.RUNNING)
    assert (ended.total, ended.done, ended.state) == (4, 4, RemoteState.ENDED)
    assert created.created == as_datetime(lab.clock.now() - 1_000)


async def test_a_lost_answer_leaves_one_candidate(lab: Lab) -> None:
    """The create call is sent once; what it made is found by its time and its number of requests, and proven by its lines."""
    started = as_datetime(lab.clock.now())
    lab.simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.CREATE, when="after"))
    batch = lab.seal(*bodies(3))
    with pytest.raises(Ambiguous):
        await lab.provider.submit(batch)
    for count in (1, 2, 4):
        await lab.submit(*bodies(count), marker="z" * 20)
    [found] = await lab.provider.find(replace(batch, first_sent=started))
    results = await lab.results(await lab.later(found))

    assert lab.simulator.ledger.calls["create"] == 4
    assert {result.line_id for result in results} == {line_id(batch.marker, n) for n in range(3)}


async def test_candidates_are_as_old_as_they_can_be(lab: Lab) -> None:
    """Batches from before the first create call, less a day, are not ours; of the others all that fit, oldest first."""
    old = await lab.submit(chat(), marker="0" * 20)
    lab.clock.jump(2 * 86_400)
    made = []
    for n in range(3):
        made.append(await lab.submit(chat(), marker=f"{n:020d}"))
        lab.clock.jump(60)
    now = as_datetime(lab.clock.now())
    batch = lab.seal(chat())

    found = await lab.provider.find(replace(batch, first_sent=now))
    assert [remote.remote_id for remote in found] == [remote.remote_id for remote in made]
    assert old.remote_id in {remote.remote_id for remote in await lab.provider.find(batch)}
    assert await lab.provider.find(replace(batch, count=7, first_sent=now)) == []


async def test_the_whole_relevant_list_is_read(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A candidate on a later page is found, and reading stops where batches get too old."""
    monkeypatch.setattr(provider, "PAGE", 5)
    for n in range(20):
        lab.clock.jump(14_400)
        await lab.submit(*bodies(2), marker=f"{n:020d}")
    before = as_datetime(lab.clock.now()) + timedelta(minutes=1)
    ours = await lab.submit(chat())
    for n in range(12):
        lab.clock.jump(60)
        await lab.submit(*bodies(2), marker=f"z{n:019d}")
    calls = lab.simulator.ledger.calls["list"]
    found = await lab.provider.find(replace(lab.seal(chat()), first_sent=before))

    assert [remote.remote_id for remote in found] == [ours.remote_id]
    # 19 batches are young enough, so the fifth page is the first that is wholly too old; all 33 would be seven pages.
    assert lab.simulator.ledger.calls["list"] - calls == 5


async def test_a_list_that_breaks_off_is_no_list(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty answer is only given when everything was read."""
    monkeypatch.setattr(provider, "PAGE", 2)
    for n in range(5):
        await lab.submit(*bodies(2), marker=f"{n:020d}")
    lab.simulator.faults.order(
        Fault(kind=FaultKind.STATUS, operation=Operation.LIST, status=500, contains="", when="after")
    )
    with pytest.raises(Retryable):
        await lab.provider.find(lab.seal(chat()))


async def test_results_come_from_our_own_address(tmp_path: Path) -> None:
    """One call below our base URL; the address that a batch names is not asked for, let alone followed."""

    async def rows(request: web.Request) -> web.Response:
        assert request.path == "/v1/messages/batches/msgbatch_1/results"
        return web.Response(body='{"a":"\u2028"}\n{"b":1}'.encode())

    remote = RemoteBatch(remote_id="msgbatch_1", state=RemoteState.ENDED)
    async with speaking_to(rows, tmp_path) as (own, asked):
        await own.fetch(remote, tmp_path / "fetched")

    assert len(asked) == 1
    assert (tmp_path / "fetched").read_bytes() == '{"a":"\u2028"}\n{"b":1}\n'.encode()


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


async def test_batches_stay_unless_told_otherwise(lab: Lab, tmp_path: Path) -> None:
    """A settled batch is left to the provider; with `delete_batches`, it is deleted, and what still runs is left alone."""
    remote = await lab.run(chat())
    batch = lab.seal(chat())
    await lab.provider.discard(batch, remote)
    assert (await lab.provider.poll(remote)).state is RemoteState.ENDED
    async with sandboxed(AnthropicProvider, tmp_path / "other", settings={"delete_batches": True}) as other:
        running = await other.submit(chat())
        await other.provider.discard(batch, running)
        ended = await other.later(running)
        await other.provider.discard(batch, ended)
        with pytest.raises(Missing):
            await other.provider.poll(ended)
        await other.provider.discard(batch, ended)
        await other.provider.discard(batch, None)


async def test_a_call_at_once_is_translated_too(lab: Lab) -> None:
    """The synchronous endpoint gets the same params; what cannot be said is refused before anything is sent."""
    asked = chat(user("hello"), reasoning_effort="low", seed=1)
    result = await lab.provider.complete(_call(asked))
    with pytest.raises(Unsupported):
        await lab.provider.complete(_call(chat(logprobs=True)))

    assert lab.provider.dropped(_call(asked)) == ("seed",)
    assert result.status == 200
    assert "hello" in str(result.body)
    assert lab.simulator.ledger.calls["complete"] == 1


async def test_an_error_at_once_keeps_its_words(lab: Lab) -> None:
    """What the provider says of a refused call reaches the caller."""
    result = await lab.provider.complete(_call(chat(user("[sandbox: status=529]"))))

    assert (result.status, result.retriable) == (529, True)
    assert result.error is not None
    assert result.error.type == "overloaded_error"


def _call(asked: dict[str, object]) -> Call:
    """What the gateway makes of a body."""
    return Call(endpoint="/v1/chat/completions", model=str(asked["model"]), body=asked)


async def test_an_edited_history_is_answered_where_that_is_wanted(tmp_path: Path) -> None:
    """A model that binds its thoughts refuses a history that was edited before them, unless they may be dropped."""
    function = {"type": "function", "function": {"name": "weather"}}
    question = chat(user("Use weather"), model=NEWEST, reasoning_effort="low", tools=[function])
    statuses = []
    for wish in ("refuse", "drop"):
        async with sandboxed(AnthropicProvider, tmp_path / wish, settings={"stale_thoughts": wish}) as lab:
            first = await lab.provider.complete(_call(question))
            turn = orjson.loads(orjson.dumps(first.body))["choices"][0]["message"]
            answer = {"role": "tool", "tool_call_id": turn["tool_calls"][0]["id"], "content": "sunny"}
            edited = {**question, "messages": [user("Edited"), turn, answer]}
            statuses.append((await lab.provider.complete(_call(edited))).status)

    assert statuses == [400, 200]
