"""The provider against the simulator where the contract's suite does not reach: names of files, states, outputs, refusals."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import web
from gemini_lab import MARKER, call, chat, message_of, simulator

from gateway import (
    Batch,
    Missing,
    ProviderError,
    RemoteBatch,
    RemoteState,
    Retryable,
    TokenLimit,
)
from gateway.failures import StatusError
from gateway.sandbox import Fault, FaultKind
from gateway.testing import Lab, QuickClock, served
from gateway_gemini import GeminiProvider, register_providers
from gateway_gemini.encode import EMBEDDINGS
from gateway_gemini.failures import FAILURES, answered
from gateway_gemini.settings import GeminiSettings


def test_the_plugin_brings_one_kind() -> None:
    """The hook returns the kind, and it says where its simulator is."""
    [kind] = register_providers()

    assert (kind.kind, kind.simulator) == ("gemini", "gateway_gemini.sandbox:GeminiSimulator")


def test_listing_the_kinds_does_not_load_the_sdk() -> None:
    """Start-up stays quick: neither the SDK nor the simulator is imported with the plugin."""
    code = "import gateway_gemini, sys; print({'google.genai', 'httpx2', 'aiohttp'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert shown.stdout.strip() == "set()"


def test_the_limits_are_the_documented_ones() -> None:
    """2 GB in its smaller reading, 100 batches at once, results and window of 48 hours."""
    limits = GeminiProvider.limits

    assert (limits.max_bytes, limits.max_open_batches) == (2_000_000_000, 100)
    assert (limits.window_seconds, limits.retention_days) == (172_800, 2)


async def test_the_marker_names_batch_and_file(lab: Lab) -> None:
    """The marker is the batch's display name and the file's own name."""
    batch = await lab.upload(chat("x"))
    remote = await lab.provider.submit(batch)
    [made] = lab.simulator.store.batches.values()

    assert batch.file_id == f"files/{MARKER}"
    assert made.metadata == {"displayName": f"batchway-{MARKER}", "fileName": batch.file_id}
    assert remote.remote_id == f"batches/{made.id}"


@pytest.mark.parametrize("inline", [0, 100])
async def test_results_come_by_file_or_inline(lab: Lab, inline: int) -> None:
    """A batch from a file is fetched wherever its output is."""
    simulator(lab).inline_output_lines = inline
    results = await lab.results(await lab.run(*(chat(f"question {n}") for n in range(5))))

    texts = {result.line_id: str(message_of(result)["content"]) for result in results}
    assert {name: text[:20] for name, text in texts.items()} == {
        f"{MARKER}-{n}": f"You said: question {n}" for n in range(5)
    }


async def test_a_cancelled_batch_yields_what_it_has(lab: Lab) -> None:
    """Where the API keeps what was done before the end, it is fetched; where it keeps nothing, nothing is."""
    lab.simulator.faults.order(Fault(kind=FaultKind.CANCELLED, times=2))
    remote = await lab.run(*(chat(str(n)) for n in range(4)))
    nothing = await lab.rows(remote)
    simulator(lab).keeps_cancelled = True

    assert (remote.state, nothing) == (RemoteState.ENDED, [])
    assert len(await lab.rows(remote)) == 2


async def test_a_repeated_result_file_is_gone_after_its_time(lab: Lab) -> None:
    """Results that are older than their retention are Missing, although the API answers 403."""
    remote = await lab.run(chat("x"))
    file = remote.where["responses_file"]
    lab.clock.jump(172_800)
    answer = answered(403, {"error": {"message": f"... access the File {file} or it may not exist."}})

    assert isinstance(FAILURES.repeatable_failure(StatusError(answer), "fetch"), Missing)
    assert (await lab.rows(remote)) == []


async def test_discard_leaves_nothing(lab: Lab) -> None:
    """Input, result and batch are deleted, and again without harm; a batch that still runs is left alone."""
    batch = await lab.upload(chat("x"))
    running = await lab.provider.submit(batch)
    await lab.provider.discard(batch, running)
    assert (await lab.provider.poll(running)).state is RemoteState.RUNNING
    ended = await lab.later(running)
    for _ in range(2):
        await lab.provider.discard(batch, ended)

    assert lab.simulator.store.files == {}
    with pytest.raises(Missing):
        await lab.provider.poll(ended)


async def test_a_token_limit_is_told_by_create_or_poll(lab: Lab) -> None:
    """A full queue of tokens is TokenLimit, whether the create call says so or the failed batch does."""
    lab.simulator.faults.order(Fault(kind=FaultKind.TOKEN_LIMIT, when="after"))
    lab.simulator.faults.order(Fault(kind=FaultKind.TOKEN_LIMIT, when="before"))
    batch = await lab.upload(chat("x"))
    with pytest.raises(TokenLimit):
        await lab.provider.submit(batch)
    ended = await lab.later(await lab.provider.submit(batch))

    assert ended.state is RemoteState.REFUSED
    assert isinstance(ended.refusal, TokenLimit)


async def test_an_embedding_batch_walks_through(lab: Lab) -> None:
    """Rows of embeddings go to their own verb and come back as OpenAI's lists."""
    body = {"model": "gemini-embedding-001", "input": "hello", "dimensions": 4}
    batch = lab.seal(body, endpoint=EMBEDDINGS)
    batch = replace(batch, file_id=await lab.provider.upload(batch))
    [result] = await lab.results(await lab.later(await lab.provider.submit(batch)))
    at_once = await lab.provider.complete(call(body, EMBEDDINGS))

    for found in (result, at_once):
        assert found.body is not None
        data: Any = found.body["data"]
        assert len(data[0]["embedding"]) == 4


async def test_a_refused_key_is_no_clients_fault(lab: Lab) -> None:
    """A synchronous call with a bad key, which Google answers with 400, counts as 401: the gateway's, not the caller's."""
    lab.simulator.faults.order(Fault(kind=FaultKind.REVOKED))

    assert (await lab.provider.complete(call(chat("x")))).status == 401


async def test_a_create_call_that_is_cut_arrives_once(tmp_path: Path) -> None:
    """The SDK's hidden second sending stays off: a server that hangs up after reading the body sees one create call."""
    seen: list[str] = []

    async def hang_up(request: web.Request) -> web.StreamResponse:
        await request.read()
        seen.append(request.path)
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    spool = tmp_path / "spool"
    spool.write_bytes(b'{"key":"a","request":{}}\n')
    batch = Batch(marker=MARKER, endpoint="/v1/chat/completions", model="m", count=1, size=25, spool=spool)
    async with served(hang_up) as url:
        settings = GeminiSettings.model_validate({"api_key": "k", "base_url": url})
        provider = GeminiProvider("gemini", settings, QuickClock(), tmp_path)
        with pytest.raises(ProviderError) as caught:
            await provider.submit(replace(batch, file_id="files/x"))
        created = list(seen)
        with pytest.raises(Retryable):
            await provider.upload(batch)
        await provider.aclose()

    assert type(caught.value).__name__ == "Ambiguous"
    assert created == ["/v1beta/models/m:batchGenerateContent"]
    assert seen[1:] == ["/upload/v1beta/files"]


async def test_a_list_that_goes_in_circles_is_retryable(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page token that comes again ends the reading: an empty answer is only given for a whole list."""
    asked: list[object] = []

    async def page(method: str, path: str, **options: object) -> dict[str, object]:
        asked.append(options["query"])
        return {"operations": [], "nextPageToken": "again"}

    monkeypatch.setattr(lab.provider._wire, "call", page)  # type: ignore[attr-defined]
    with pytest.raises(Retryable, match="not at its end"):
        await lab.provider.find(lab.seal(chat("x")))

    assert len(asked) == 2


async def test_a_strange_state_is_named_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that nobody has heard of counts as running, and stands in the log once."""

    async def strange(method: str, path: str, **options: object) -> dict[str, object]:
        return {"name": "batches/b", "metadata": {"state": "BATCH_STATE_DREAMING"}}

    monkeypatch.setattr(lab.provider._wire, "call", strange)  # type: ignore[attr-defined]
    with structlog.testing.capture_logs() as logs:
        states = [
            (await lab.provider.poll(RemoteBatch(remote_id="batches/b", state=RemoteState.RUNNING))).state for _ in "ab"
        ]

    assert states == [RemoteState.RUNNING, RemoteState.RUNNING]
    assert [entry["state"] for entry in logs] == ["DREAMING"]
