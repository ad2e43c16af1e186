"""The provider against its simulator, over real HTTP, in what the contract of providers leaves open."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
import structlog
from aiohttp import web
from anthropic_lab import NEWEST, bodies, call_of, chat, speaking_to, user

from gateway import (
    Batch,
    Missing,
    RemoteBatch,
    RemoteState,
    Unsupported,
)
from gateway.clock import as_datetime
from gateway.testing import Lab, sandboxed
from gateway_anthropic import AnthropicProvider, body, register_providers


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


async def test_counts_are_read_as_they_are_meant(lab: Lab) -> None:
    """The total is known from the start; nothing is done until everything is."""
    created = await lab.submit(*bodies(3), chat(user("[sandbox: status=400]")))
    ended = await lab.later(created)

    assert (created.total, created.done, created.state) == (4, 0, RemoteState.RUNNING)
    assert (ended.total, ended.done, ended.state) == (4, 4, RemoteState.ENDED)
    assert created.created == as_datetime(lab.clock.now() - 1_000)


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
    result = await lab.provider.complete(call_of(asked))
    with pytest.raises(Unsupported):
        await lab.provider.complete(call_of(chat(logprobs=True)))

    assert lab.provider.dropped(call_of(asked)) == ("seed",)
    assert result.status == 200
    assert "hello" in str(result.body)
    assert lab.simulator.ledger.calls["complete"] == 1


async def test_an_edited_history_is_answered_where_that_is_wanted(tmp_path: Path) -> None:
    """A model that binds its thoughts refuses a history that was edited before them, unless they may be dropped."""
    function = {"type": "function", "function": {"name": "weather"}}
    question = chat(user("Use weather"), model=NEWEST, reasoning_effort="low", tools=[function])
    statuses = []
    for wish in ("refuse", "drop"):
        async with sandboxed(AnthropicProvider, tmp_path / wish, settings={"stale_thoughts": wish}) as lab:
            first = await lab.provider.complete(call_of(question))
            turn = orjson.loads(orjson.dumps(first.body))["choices"][0]["message"]
            answer = {"role": "tool", "tool_call_id": turn["tool_calls"][0]["id"], "content": "sunny"}
            edited = {**question, "messages": [user("Edited"), turn, answer]}
            statuses.append((await lab.provider.complete(call_of(edited))).status)

    assert statuses == [400, 200]
