"""What the simulator refuses the official SDK, as the real API does: whole calls at once, single requests at their end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic_lab import text, user
from anthropic_sdk_lab import TOOL, USED, ended, fate, request, rows

from gateway.testing import Lab


async def test_a_bad_request_fails_alone_and_late(lab: Lab, sdk: anthropic.AsyncAnthropic) -> None:
    """What is wrong with params is told by an errored line at the end; its neighbours are answered."""
    bad = request("bad")
    del bad["params"]["max_tokens"]
    batch = await sdk.messages.batches.create(requests=[request("good"), bad])
    done = await ended(lab, sdk, batch)
    results = await rows(sdk, batch)

    assert (done.request_counts.succeeded, done.request_counts.errored) == (1, 1)
    assert results["good"].type == "succeeded"
    assert results["bad"].error.error.type == "invalid_request_error"
    assert results["bad"].error.error.message == "max_tokens: Field required"


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"unheard_of": 1}, "unheard_of: Extra inputs are not permitted"),
        ({"temperature": 1}, "temperature: Extra inputs"),
        ({"top_k": 1}, "top_k: Extra inputs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stream": True}, "stream"),
        ({"speed": "fast"}, "speed"),
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "user", "content": [text(" ")]}]}, "non-whitespace"),
        ({"messages": [{"role": "assistant", "content": "x"}, user("y")]}, "first message"),
        ({"messages": [user("x"), {"role": "assistant", "content": "y"}]}, "prefill"),
        ({"stop_sequences": [" "]}, "stop_sequences"),
        ({"tool_choice": {"type": "any"}}, "while providing tools"),
        ({"tools": [TOOL, TOOL]}, "unique"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "other"}}, "not found"),
        ({"tools": [{"name": "a b", "input_schema": {"type": "object"}}]}, "tools.0.custom.name"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2_000}, "model": "claude-haiku-4-5"}, "must be greater"),
        ({"thinking": {"type": "adaptive"}, "model": "claude-haiku-4-5"}, "not supported"),
        ({"thinking": {"type": "disabled"}, "model": "claude-fable-5-1"}, "not supported"),
        ({"tools": [TOOL], "tool_choice": {"type": "any"}, "model": "claude-opus-5-5"}, "not supported"),
        ({"output_config": {"format": {"type": "json_schema", "schema": TOOL["input_schema"]}}}, "additionalProp"),
        ({"metadata": {"user_id": "u" * 257}}, "metadata"),
        ({"tools": [TOOL], "messages": [user("x"), *USED, *USED]}, "ids must be unique"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {"allOf": [{"$ref": "#/$defs/a"}]}}}}, "allOf"),
    ],
)
async def test_params_are_checked_strictly(
    lab: Lab, sdk: anthropic.AsyncAnthropic, fields: dict[str, object], complaint: str
) -> None:
    """A request that the provider would refuse is refused, in a batch and at once."""
    told = await fate(lab, sdk, **fields)

    assert told.startswith("invalid_request_error: ")
    assert complaint in told


async def test_the_older_version_takes_sampling_fields(
    lab: Lab, sdk: anthropic.AsyncAnthropic, old_sdk: anthropic.AsyncAnthropic
) -> None:
    """The version that a batch was created under decides; the older one has its own bounds."""
    assert await fate(lab, old_sdk, temperature=0.5, model="claude-haiku-4-5") == ""
    assert "temperature" in await fate(lab, old_sdk, temperature=1.5, model="claude-haiku-4-5")
    assert "temperature" in await fate(lab, sdk, temperature=0.5, model="claude-haiku-4-5")
    assert "both" in await fate(lab, old_sdk, temperature=0.5, top_p=0.97, model="claude-haiku-4-5")
    adaptive = {"thinking": {"type": "adaptive"}, "model": "claude-sonnet-4-6"}
    assert "temperature" in await fate(lab, old_sdk, temperature=0.5, **adaptive)
    assert "top_p" in await fate(lab, old_sdk, top_p=0.5, **adaptive)


@pytest.mark.parametrize(
    ("requests", "complaint"),
    [
        ([], "requests: List should have at least 1 item"),
        ([request("a" * 65)], "requests.0.custom_id: String should have at most 64 characters"),
        ([request("a b")], "requests.0.custom_id: String should match pattern"),
        ([request("a"), request("a")], "requests.1.custom_id"),
        ([{"params": {}}], "requests.0.custom_id: Field required"),
        ([{"custom_id": "a"}], "requests.0.params: Field required"),
        ([{"custom_id": "a", "params": []}], "requests.0.params: Input should be"),
        ([{**request("a"), "extra": 1}], "requests.0.extra: Extra inputs"),
        ([7], "requests.0: Input should be"),
        ([request("a"), request("b", "[sandbox: poison]")], "requests.1.params"),
    ],
)
async def test_structure_is_checked_at_once(sdk: anthropic.AsyncAnthropic, requests: list[Any], complaint: str) -> None:
    """What is wrong around the params fails the whole batch, and the request is named."""
    with pytest.raises(anthropic.BadRequestError) as refused:
        await sdk.messages.batches.create(requests=requests)

    assert refused.value.type == "invalid_request_error"
    assert str(refused.value.api_message).startswith(complaint)


async def test_nothing_else_stands_beside_the_requests(sdk: anthropic.AsyncAnthropic) -> None:
    """There is no place for a name or for metadata of a batch."""
    with pytest.raises(anthropic.BadRequestError):
        await sdk.messages.batches.create(requests=[request("a")], extra_body={"metadata": {"a": "b"}})


async def test_limits_are_enforced(lab: Lab, sdk: anthropic.AsyncAnthropic) -> None:
    """Too many requests are a 400, too many bytes a 413."""
    assert lab.simulator.settings.max_requests == 100_000
    assert lab.simulator.settings.max_bytes == 256_000_000
    lab.simulator.settings = replace(lab.simulator.settings, max_requests=2, max_bytes=2_000)
    with pytest.raises(anthropic.BadRequestError, match="at most 2 items"):
        await sdk.messages.batches.create(requests=[request(str(n)) for n in range(3)])
    with pytest.raises(anthropic.ContentTooLargeError) as refused:
        await sdk.messages.batches.create(requests=[request("a", "x" * 3_000)])

    assert refused.value.type == "request_too_large"


async def test_a_version_and_a_key_are_wanted(lab: Lab) -> None:
    """A call without a version is refused, one of an unknown version too; the key goes in either header."""
    assert lab.server is not None
    url = lab.server.base_url(lab.simulator) + "/v1/messages/batches"
    version = {"anthropic-version": "2023-06-01"}
    async with httpx2.AsyncClient() as http:
        answers = [
            await http.get(url, headers=headers)
            for headers in (
                {"x-api-key": "k"},
                {"x-api-key": "k", "anthropic-version": "2020-01-01"},
                version,
                {**version, "x-api-key": "k"},
                {**version, "authorization": "Bearer k"},
            )
        ]

    assert [answer.status_code for answer in answers] == [400, 400, 401, 200, 200]
    assert answers[0].json()["error"] == {
        "type": "invalid_request_error",
        "message": "anthropic-version: header is required",
    }
    assert answers[2].json()["error"]["type"] == "authentication_error"
