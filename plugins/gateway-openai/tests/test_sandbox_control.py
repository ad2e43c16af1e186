"""The simulator as a server: its control API, its ledger of submissions, and the state that outlives it."""

from __future__ import annotations

import aiohttp
import orjson
import pytest
from openai_lab import CHAT, Lab, chat, frame, jsonl

from gateway.sandbox import SandboxServer, body_hash
from gateway_openai.sandbox import OpenAISimulator


async def test_faults_can_be_ordered_over_http(lab: Lab) -> None:
    """The control API orders, shows and withdraws faults, changes settings, and says what is wrong with an order."""
    url = f"{lab.server.url(lab.simulator)}/_sandbox"
    async with aiohttp.ClientSession() as session:
        order = [{"kind": "delay", "seconds": 5, "operation": "poll"}, {"kind": "endless"}]
        numbers = await (await session.post(f"{url}/faults", json=order)).json()
        shown = await (await session.get(f"{url}/faults")).json()
        bad = await session.post(f"{url}/faults", json={"kind": "earthquake"})
        page = await session.post(f"{url}/faults", json=order, headers={"Origin": "https://example.org"})
        changed = await (await session.patch(f"{url}/settings", json={"running_seconds": 3})).json()
        strange = await session.patch(f"{url}/settings", json={"walking_seconds": 3})
        await session.delete(f"{url}/faults")

    assert numbers == {"numbers": [1, 2]}
    assert [fault["kind"] for fault in shown.values()] == ["delay", "endless"]
    assert (bad.status, page.status, strange.status) == (400, 403, 400)
    assert changed["running_seconds"] == lab.simulator.settings.running_seconds == 3
    assert lab.simulator.faults.pending() == {}


async def test_the_ledger_can_be_read_over_http(lab: Lab) -> None:
    """The control API gives the sums, every line, and the state; a reset forgets all of it."""
    body = chat("x")
    await lab.create(frame("a", body))
    url = f"{lab.server.url(lab.simulator)}/_sandbox"
    async with aiohttp.ClientSession() as session:
        sums = await (await session.get(f"{url}/ledger")).json()
        lines = [orjson.loads(row) for row in (await (await session.get(f"{url}/ledger/lines")).read()).splitlines()]
        state = await (await session.get(f"{url}/state")).json()
        await session.post(f"{url}/reset")

    assert (sums["lines"], sums["calls"]) == (1, {"upload": 1, "create": 1})
    assert [(line["custom_id"], line["hash"]) for line in lines] == [("a", body_hash(body))]
    assert [batch["stage"] for batch in state["batches"]] == ["validating"]
    assert (await lab.simulator.submissions()).lines == 0


async def test_state_survives_the_process(lab: Lab) -> None:
    """Another simulator on the same folder has the batches, the files and the ledger, and finishes what was running."""
    body = chat("remember me")
    created = await lab.create(frame("a", body))
    lab.clock.jump(50)
    other = OpenAISimulator(clock=lab.clock, directory=lab.directory / "sandbox", settings=lab.simulator.settings)
    async with SandboxServer([other]) as server:
        sdk = lab.sdk.with_options(base_url=server.base_url(other))
        lab.clock.jump(1_000)
        batch = await sdk.batches.retrieve(created.id)
        content = await sdk.files.content(batch.output_file_id or "")
    submissions = await other.submissions()

    assert batch.status == "completed"
    assert body_hash(body).encode() in content.content
    assert (submissions.lines, submissions.calls["create"], submissions.answered) == (1, 1, 1)


async def test_lines_stay_in_the_ledger_when_files_go(lab: Lab) -> None:
    """Deleting the input file, even before validation, neither hurts the batch nor hides what was submitted."""
    file = await lab.sdk.files.create(file=("in.jsonl", jsonl(frame("a", chat("x")))), purpose="batch")
    created = await lab.sdk.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    await lab.sdk.files.delete(file.id)

    assert (await lab.ended(created)).status == "completed"
    assert (await lab.simulator.submissions()).accepted_lines == 1


async def test_several_simulators_share_a_port(lab: Lab) -> None:
    """Simulators of different names are served under prefixes of their own, and know nothing of each other's files."""
    first, second = (OpenAISimulator(clock=lab.clock, name=name) for name in ("one", "two"))
    async with SandboxServer([first, second]) as server:
        sdk = lab.sdk.with_options(base_url=server.base_url(first))
        await sdk.files.create(file=("x.jsonl", b"{}"), purpose="batch")

    assert (len(first.store.files), len(second.store.files)) == (1, 0)
    with pytest.raises(ValueError, match="one name"):
        SandboxServer([first, first])
