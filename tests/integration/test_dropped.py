"""What a provider has no word for is told the caller, whichever way its answer comes; all over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from gateway.records import Call
from gateway_openai.provider import OpenAIProvider
from tests.integration.house import House, open_house


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    """A gateway whose provider leaves hints out."""

    def dropped(self: OpenAIProvider, call: Call) -> Sequence[str]:
        return [name for name in ("seed", "verbosity") if name in call.body]

    monkeypatch.setattr(OpenAIProvider, "dropped", dropped)
    async with open_house(tmp_path) as house:
        yield house


async def test_a_fresh_and_a_stored_answer_name_what_was_left_out(house: House) -> None:
    """The caller who is answered from the store sent the same hints in vain."""
    fresh = await house.ask("hints", seed=1, verbosity="low")
    stored = await house.ask("hints", seed=1, verbosity="low")

    assert (fresh.headers["x-batchway-cache"], fresh.status) == ("miss", 200)
    assert stored.headers["x-batchway-cache"].startswith("hit")
    assert fresh.headers["x-batchway-dropped"] == stored.headers["x-batchway-dropped"] == "seed, verbosity"


async def test_a_call_that_lost_nothing_has_no_such_header(house: House) -> None:
    """An empty list is no header."""
    assert "x-batchway-dropped" not in (await house.ask("plain")).headers


async def test_who_does_not_wait_is_told_at_once(house: House) -> None:
    """The 202 says what was left out, before anything is paid."""
    response = await house.http.post(
        "/v1/chat/completions",
        json={"model": "sim-small", "messages": [{"role": "user", "content": "later"}], "seed": 1},
        headers={"Prefer": "respond-async"},
    )

    assert (response.status_code, response.headers["x-batchway-dropped"]) == (202, "seed")


async def test_a_stream_names_them_too(house: House) -> None:
    """Headers of a stream go out with its first byte, and these are known by then."""
    response = await house.http.post(
        "/v1/chat/completions",
        json={"model": "sim-small", "messages": [{"role": "user", "content": "flow"}], "seed": 1, "stream": True},
    )

    assert (response.status_code, response.headers["x-batchway-dropped"]) == (200, "seed")


async def test_a_bug_there_loses_nothing_else(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that fails to name them has its request answered all the same."""
    monkeypatch.setattr(OpenAIProvider, "dropped", lambda _, call: call.nothing)
    answered = await house.ask("hints", seed=1)

    assert (answered.status, "x-batchway-dropped" in answered.headers) == (200, False)
