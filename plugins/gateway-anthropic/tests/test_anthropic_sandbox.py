"""The simulator where the SDK does not reach: bodies without a length, and a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx2
import orjson
from anthropic_lab import chat, user

from gateway.sandbox import SandboxServer, SandboxSettings
from gateway.testing import Lab
from gateway_anthropic.sandbox import AnthropicSimulator

HEADERS = {"x-api-key": "k", "anthropic-version": "2026-10-21"}
REQUEST = {"custom_id": "a", "params": {"model": "m", "max_tokens": 5, "messages": [user("hello")]}}


async def test_a_body_without_a_length_is_measured(lab: Lab) -> None:
    """A create call in chunks is held to the same limit, and works below it; white space in it does no harm."""
    assert lab.server is not None
    url = lab.server.base_url(lab.simulator) + "/v1/messages/batches"
    content = orjson.dumps({"requests": [REQUEST]}, option=orjson.OPT_INDENT_2)

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(content), 50):
            yield content[at : at + 50]

    async with httpx2.AsyncClient(headers=HEADERS) as http:
        good = await http.post(url, content=pieces())
        lab.simulator.settings = replace(lab.simulator.settings, max_bytes=100)
        large = await http.post(url, content=pieces())

    assert good.json()["request_counts"]["processing"] == 1
    assert (large.status_code, large.json()["error"]["type"]) == (413, "request_too_large")
    assert (await lab.simulator.submissions()).lines == 1


async def test_batches_survive_a_restart(lab: Lab, tmp_path: Path) -> None:
    """A simulator on the same folder knows the batches, their number of requests and the version they were made under."""
    created = await lab.submit(chat(), chat(user("two")))
    await lab.provider.aclose()
    anew = AnthropicSimulator(clock=lab.clock, settings=lab.simulator.settings, directory=tmp_path / "sandbox")
    lab.clock.jump(1_000)
    async with SandboxServer([anew]) as server, httpx2.AsyncClient(headers=HEADERS) as http:
        shown = await http.get(f"{server.base_url(anew)}/v1/messages/batches/{created.remote_id}")
        rows = await http.get(shown.json()["results_url"])

    assert shown.json()["request_counts"]["succeeded"] == 2
    assert rows.content.count(b'"type":"succeeded"') == 2


def test_limits_are_the_provider_s_unless_set(lab: Lab) -> None:
    """The framework's own numbers are another provider's; what somebody has chosen stays."""
    chosen = AnthropicSimulator(clock=lab.clock, settings=SandboxSettings(max_requests=7, max_bytes=8))

    assert (lab.simulator.settings.max_requests, lab.simulator.settings.max_bytes) == (100_000, 256_000_000)
    assert (chosen.settings.max_requests, chosen.settings.max_bytes) == (7, 8)
