"""The provider against the simulator, over real HTTP: what is Together's own beside the contract."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import orjson
import pytest
import structlog
from together_lab import CHAT, MARKER, base_url, call, chat, provider_at, sdk

from gateway import RemoteState, Retryable
from gateway.sandbox import Fault, FaultKind, Operation, body_hash
from gateway.testing import Lab
from gateway_together import TogetherProvider, register_providers


def test_the_plugin_brings_one_kind() -> None:
    """The hook returns the kind, and it says where its simulator is."""
    assert [(kind.kind, kind.simulator) for kind in register_providers()] == [
        ("together", "gateway_together.sandbox:TogetherSimulator")
    ]


def test_listing_the_kind_does_not_load_the_sdk() -> None:
    """Start-up stays quick: neither the SDK nor the simulator is imported with the plugin."""
    code = "import gateway_together, sys; print({'together', 'httpx', 'aiohttp'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert shown.stdout.strip() == "set()"


def test_the_limits_are_the_documented_ones() -> None:
    """50,000 lines, the smaller reading of 100 MB, 30 thousand million tokens by model, a poll every 30 s, up to 72 h."""
    limits = TogetherProvider.limits

    assert (limits.max_requests, limits.max_bytes, limits.min_poll_seconds) == (50_000, 100_000_000, 30)
    assert limits.enqueued_tokens("any") == 30_000_000_000
    assert limits.window_seconds == 72 * 3_600


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
async def test_an_address_of_either_sdk_does(lab: Lab, ending: str) -> None:
    """A base URL with `/v1`, as SDK 2 takes it, reaches the same place as one without."""
    async with provider_at(lab, base_url(lab) + ending) as provider:
        assert await provider.find(replace(lab.seal(chat("x")), file_id="file-x")) == []


async def test_lines_are_an_id_and_a_body(lab: Lab) -> None:
    """What is sent has `custom_id` and `body` and nothing else."""
    batch = lab.seal(chat("x"))

    assert orjson.loads(batch.spool.read_bytes()) == {"custom_id": f"{MARKER}-0", "body": chat("x")}


async def test_answers_are_openais(lab: Lab) -> None:
    """An ordinary end is `stop`, no empty calls, log probabilities by token, as many choices as were asked for."""
    body = chat("hello", max_completion_tokens=500, logprobs=True, top_logprobs=2, n=2)
    [result] = await lab.results(await lab.run(body))
    answer: dict[str, Any] = dict(result.body or {})
    [first, second] = answer["choices"]

    assert (first["finish_reason"], "tool_calls" in first["message"], "prompt" in answer) == ("stop", False, False)
    assert [len(token["top_logprobs"]) for token in first["logprobs"]["content"]][:2] == [2, 2]
    assert first["message"]["content"] != second["message"]["content"]


async def test_calls_of_tools_come_back(lab: Lab) -> None:
    """A required tool is called, and its call can be sent back with what it gave."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {}}}}}]
    [result] = await lab.results(await lab.run(chat("x", tools=tools, tool_choice="required")))
    answer: dict[str, Any] = dict(result.body or {})
    message = answer["choices"][0]["message"]
    turns = [message, {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "42"}]
    body = chat("x", tools=tools)
    body["messages"] = [*body["messages"], *turns]  # type: ignore[misc]
    [after] = await lab.results(await lab.run(body))

    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    assert after.status == 200


async def test_the_file_is_the_mark(lab: Lab) -> None:
    """Among other jobs ours is found by its input file alone, and by the file's name when the id was lost."""
    for n in range(5):
        await lab.submit(chat(str(n)), marker=f"{n:020d}")
    batch = await lab.upload(chat("mine"))
    ours = await lab.provider.submit(batch)
    by_file = await lab.provider.find(replace(batch, marker="z" * 20))
    by_name = await lab.provider.find(replace(batch, file_id=None))

    assert [remote.remote_id for remote in by_file] == [remote.remote_id for remote in by_name] == [ours.remote_id]
    assert await lab.provider.find(replace(batch, file_id=None, marker="z" * 20)) == []
    assert ours.where == {"input_file_id": batch.file_id}


async def test_a_batch_without_a_file_is_not_created(lab: Lab) -> None:
    """Without the id of a file nothing is sent."""
    with pytest.raises(Retryable):
        await lab.provider.submit(lab.seal(chat("x")))

    assert lab.simulator.ledger.calls["create"] == 0


async def test_a_job_that_has_just_ended_is_asked_for_its_files(lab: Lab) -> None:
    """A job that named no result file is asked again before its rows are taken for missing."""
    remote = await lab.submit(chat("x"))
    lab.clock.jump(1_000)
    stale = replace(remote, state=RemoteState.ENDED)

    assert [result.status for result in await lab.results(stale)] == [200]


async def test_a_truncated_file_does_not_swallow_the_next(lab: Lab) -> None:
    """The newline that a truncated output file lacks is put in, so the first error row stays readable."""
    lab.simulator.faults.order(Fault(kind=FaultKind.LAST_ROW_TRUNCATED))
    results = await lab.results(await lab.run(chat("a"), chat("b"), chat("c [sandbox: status=400]")))

    assert sorted(result.status for result in results) == [0, 200, 400]
    assert [result.line_id for result in results if result.status == 400] == [f"{MARKER}-2"]


async def test_an_unknown_state_is_named_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that nobody has heard of counts as running, and is in the log once."""
    remote = await lab.submit(chat("x"))
    monkeypatch.setattr(
        "gateway_together.simulated.batches.job_object", lambda batch, *_: {"id": batch.id, "status": "LEVITATING"}
    )
    with structlog.testing.capture_logs() as logs:
        states = [(await lab.provider.poll(remote)).state for _ in range(3)]

    assert states == [RemoteState.RUNNING] * 3
    assert [(entry["event"], entry["state"]) for entry in logs] == [("unknown_remote_state", "LEVITATING")]


@pytest.mark.parametrize("status", [0, 400, 409, 429, 500])
async def test_a_batch_that_runs_on_has_not_been_cancelled(lab: Lab, status: int) -> None:
    """A cancel call that failed is Retryable as long as the job still runs, and the next one works."""
    remote = await lab.submit(chat("x"))
    kind = FaultKind.STATUS if status else FaultKind.CUT
    lab.simulator.faults.order(Fault(kind=kind, operation=Operation.CANCEL, status=status))
    with pytest.raises(Retryable):
        await lab.provider.cancel(remote)
    await lab.provider.cancel(remote)

    assert (await lab.provider.poll(remote)).state is RemoteState.ENDED


async def test_a_job_on_its_way_to_its_end_is_cancelled(lab: Lab) -> None:
    """A job that is being cancelled refuses another cancel, which is as good as a yes; meanwhile it runs."""
    lab.simulator.settings = replace(lab.simulator.settings, cancelling_seconds=60)
    remote = await lab.submit(chat("x"))
    await lab.provider.cancel(remote)
    await lab.provider.cancel(remote)
    during = await lab.provider.poll(remote)

    assert during.state is RemoteState.RUNNING
    assert (await lab.later(remote)).state is RemoteState.ENDED


async def test_discarding_leaves_nothing(lab: Lab) -> None:
    """Input and result files are deleted."""
    batch = await lab.upload(chat("a"), chat("b [sandbox: status=400]"))
    remote = await lab.later(await lab.provider.submit(batch))
    assert len(lab.simulator.store.files) == 3
    await lab.provider.discard(batch, remote)

    assert lab.simulator.store.files == {}


async def test_the_synchronous_endpoint_speaks_the_same_dialect(lab: Lab) -> None:
    """`complete` translates as a batch does, and a body that the endpoint refuses is a result."""
    body = chat("right now", stop="never", stream=False, max_completion_tokens=300)
    answered = await lab.provider.complete(call(body))
    refused = await lab.provider.complete(call(body | {"n": 0}))
    async with sdk(lab) as client:
        same = await client.chat.completions.create(
            model="sim-small", messages=[{"role": "user", "content": "right now"}], stop=["never"], max_tokens=300
        )
    answer: dict[str, Any] = dict(answered.body or {})

    assert answer["choices"][0]["finish_reason"] == "stop"
    assert same.choices[0].message is not None
    assert answer["choices"][0]["message"]["content"] == same.choices[0].message.content
    assert str(same.choices[0].message.content).endswith(
        "#" + body_hash(chat("right now", stop=["never"], max_tokens=300))
    )
    assert (refused.status, refused.retriable) == (400, False)
    assert refused.error is not None
    assert refused.error.param == "n"


async def test_a_stored_payload_can_be_asked_at_once(lab: Lab) -> None:
    """A request that waited in the ledger is asked with what was stored of it."""
    payload = lab.provider.encode(call(chat("later", logprobs=True, top_logprobs=3)))
    result = await lab.provider.complete_payload(CHAT, "sim-small", payload)

    assert result.status == 200
