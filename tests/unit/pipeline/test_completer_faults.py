"""What can go wrong with requests that are asked one by one, and what each fault costs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config import Retries
from gateway.errors import (
    Ambiguous,
    Missing,
    ProviderError,
    Rejected,
    Retryable,
    StorageFull,
    TokenLimit,
    Unauthorised,
    Unsupported,
)
from gateway.records import RequestState, Result
from tests.unit.pipeline.single import Shop, ending_of, failed, open_shop

QUEUED, SUCCEEDED, FAILED = RequestState.QUEUED, RequestState.SUCCEEDED, RequestState.FAILED


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """A server that answers at once, at most four calls at a time."""
    async with open_shop(tmp_path) as shop:
        yield shop


@pytest.mark.parametrize("down", [Retryable("connection refused"), TokenLimit("no room")])
async def test_a_server_that_is_down_costs_no_attempts(tmp_path: Path, down: ProviderError) -> None:
    """Requests wait for hours, in their order, and are asked when it is back; it is tried less and less often."""
    async with open_shop(tmp_path, concurrency=2) as shop:
        shop.server.down = down
        texts = [f"q{n}" for n in range(4)]
        await shop.queue(*texts)
        for _ in range(100):
            await shop.round()
            await shop.rig.clock.advance(60)
        tried = len(shop.server.asked)
        states = await shop.rig.states()
        shop.server.down = None
        shop.server.asked.clear()
        await shop.rig.clock.advance(600)
        await shop.finish()

        assert states == [QUEUED] * 4
        assert 20 <= tried <= 80
        assert shop.server.asked == texts
        assert [row.attempts for row in await shop.rig.ledger.requests.listed(None)] == [1] * 4


async def test_calls_that_fail_together_are_one_failure(shop: Shop) -> None:
    """Four refused connections at once do not make the pause four steps longer."""
    shop.server.down = Retryable("connection refused")
    shop.server.open.clear()
    await shop.queue(*(f"q{n}" for n in range(4)))
    await shop.round()
    together = shop.server.running
    shop.server.open.set()
    await shop.quiet()
    await shop.rig.clock.advance(5.5)
    await shop.round()

    assert together == 4
    assert len(shop.server.asked) > 4


async def test_the_providers_wish_to_wait_is_granted(shop: Shop) -> None:
    """Nothing is asked of the account before the time it named, whoever else is queued."""
    shop.server.script["q"].append(Retryable("429", retry_after=90.0))
    await shop.queue("q")
    await shop.round()
    await shop.queue("other", model="b")
    await shop.rig.clock.advance(89)
    await shop.finish()
    before = list(shop.server.asked)
    await shop.rig.clock.advance(2)
    await shop.finish()

    assert before == ["q"]
    assert sorted(shop.server.asked) == ["other", "q", "q"]


async def test_a_status_429_goes_back_and_the_account_has_a_rest(shop: Shop) -> None:
    """It counts an attempt, like a line's, and nothing else is asked for a moment."""
    shop.server.script["q"].append(failed(429, retriable=True))
    await shop.queue("q")
    await shop.round()
    await shop.queue("other")
    await shop.round()
    at_once = list(shop.server.asked)
    await shop.rig.clock.advance(6)
    await shop.finish()
    [row, _] = await shop.rig.ledger.requests.listed(None)
    await shop.rig.clock.advance(60)
    await shop.finish()

    assert at_once == ["q"]
    assert (row.state, row.attempts) == (QUEUED, 1)
    assert await shop.rig.states() == [SUCCEEDED] * 2


@pytest.mark.parametrize(
    ("trouble", "status", "code"),
    [
        (failed(500, retriable=True), 503, "attempts_exhausted"),
        (failed(429, retriable=True), 429, "rate_limit_exceeded"),
        (Ambiguous("reset"), 503, "attempts_exhausted"),
        (TimeoutError(), 504, "expired"),
    ],
)
async def test_attempts_are_used_up(shop: Shop, trouble: Exception, status: int, code: str) -> None:
    """What may have been answered counts; after `max_attempts`, later each time, the request ends and says how."""
    shop.server.script["q"] = deque([trouble] * 9)
    [admission] = await shop.queue("q")
    for _ in range(6):
        await shop.finish()
        await shop.rig.clock.advance(130)
    ending = await ending_of(shop, admission.seq)

    assert len(shop.server.asked) == shop.rig.retries.max_attempts
    assert (ending.status, ending.code) == (status, code)


async def test_a_call_is_bounded_in_time(shop: Shop) -> None:
    """A server that never answers does not keep its place for ever."""
    shop.server.open.clear()
    shop.rig.router.providers["single"].instance.completion_seconds = 0.05  # type: ignore[union-attr]
    await shop.queue("q")
    await shop.completer.tick()
    async with asyncio.timeout(20):
        while shop.rig.tasks.names():
            await asyncio.sleep(0.01)
    [row] = await shop.rig.ledger.requests.listed(None)

    assert (row.state, row.attempts, shop.server.running) == (QUEUED, 1, 0)


@pytest.mark.parametrize("refusal", [Rejected("no such thing"), Unsupported("tools", "no tools"), Missing("no model")])
async def test_what_is_refused_for_good_fails(shop: Shop, refusal: ProviderError) -> None:
    """It is asked once, and its caller gets the reason."""
    shop.server.script["q"].append(refusal)
    [admission] = await shop.queue("q")
    await shop.finish()
    ending = await ending_of(shop, admission.seq)

    assert (ending.status, ending.code, ending.permanent) == (400, "provider_rejected", True)
    assert refusal.reason in ending.body.decode()
    assert shop.server.asked == ["q"]


async def test_a_refused_body_keeps_its_status(shop: Shop) -> None:
    """A 400 of the server is the caller's 400, and the next request is asked at once."""
    shop.server.script["bad"].append(failed(400, retriable=False, message="top_k is not known here"))
    [bad, good] = await shop.queue("bad", "good")
    await shop.finish()

    assert (await ending_of(shop, bad.seq)).status == 400
    assert b"top_k is not known here" in (await ending_of(shop, bad.seq)).body
    assert (await ending_of(shop, good.seq)).status == 200


async def test_a_revoked_key_stops_the_account_and_fails_nobody(tmp_path: Path) -> None:
    """Nothing more is asked until the key is tried again, ten minutes later; then everything is."""
    async with open_shop(tmp_path, concurrency=1) as shop:
        shop.server.down = Unauthorised("revoked")
        await shop.queue("a", "b")
        await shop.finish()
        await shop.rig.clock.advance(590)
        await shop.finish()
        tried = list(shop.server.asked)
        shop.server.down = None
        await shop.rig.clock.advance(20)
        await shop.finish()

        assert tried == ["a"]
        assert await shop.rig.states() == [SUCCEEDED] * 2


async def test_a_bug_in_a_plugin_parks_its_lane(shop: Shop) -> None:
    """The lane waits and says why where requests are looked up; other lanes go on; later it is tried again."""
    shop.server.script["q"].append(KeyError("oops"))
    [admission] = await shop.queue("q")
    await shop.finish()
    parked = await shop.rig.ledger.requests.find(None, "", admission.custom_id)
    await shop.queue("other", model="b")
    await shop.finish()
    asked = list(shop.server.asked)
    await shop.rig.clock.advance(301)
    await shop.finish()
    after = await shop.rig.ledger.requests.find(None, "", admission.custom_id)

    assert parked is not None
    assert parked.parked_reason is not None
    assert "KeyError" in parked.parked_reason
    assert (parked.state, parked.attempts) == (QUEUED, 1)
    assert asked == ["q", "other"]
    assert after is not None
    assert after.state is SUCCEEDED
    [later] = await shop.queue("later")
    found = await shop.rig.ledger.requests.find(None, "", later.custom_id)
    assert found is not None
    assert found.parked_reason is None


@pytest.mark.parametrize(
    "bug", [KeyError("oops"), Result(line_id=None, status=200, body={"choices": [], "at": object()})]
)
async def test_a_bug_in_a_plugin_is_not_paid_for_ever(shop: Shop, bug: Exception | Result) -> None:
    """The server may have answered before the plugin failed: such a call is an attempt, and they are used up."""
    shop.server.script["q"] = deque([bug] * 9)
    [admission] = await shop.queue("q")
    for _ in range(6):
        await shop.finish()
        await shop.rig.clock.advance(301)
    ending = await ending_of(shop, admission.seq)

    assert len(shop.server.asked) == shop.rig.retries.max_attempts
    assert (ending.status, ending.code) == (503, "attempts_exhausted")
    assert b"plugin of kind" in ending.body


async def test_the_ledgers_hiccup_does_not_lose_an_answer(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was paid is written as soon as the ledger can write again, and not asked a second time."""
    settle, failures = shop.rig.ledger.completions.settle, iter([StorageFull("full"), StorageFull("full")])

    async def full_at_first(*args: object) -> object:
        for failure in failures:
            raise failure
        return await settle(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(shop.rig.ledger.completions, "settle", full_at_first)
    await shop.queue("q")
    await shop.round()
    await shop.rig.clock.advance(5)
    await shop.finish()

    assert shop.server.asked == ["q"]
    assert await shop.rig.states() == [SUCCEEDED]


async def test_a_disabled_provider_parks_its_lanes(shop: Shop) -> None:
    """Work of a provider that cannot be used waits, and says for what."""
    provider = shop.rig.router.providers["single"]
    [admission] = await shop.queue("q")
    provider._instance, provider._reason = None, "set the environment variable KEY"
    await shop.finish()
    found = await shop.rig.ledger.requests.find(None, "", admission.custom_id)

    assert found is not None
    assert found.parked_reason == "set the environment variable KEY"


async def test_retries_of_the_configuration_hold(tmp_path: Path) -> None:
    """One attempt means one call."""
    async with open_shop(tmp_path, retries=Retries(max_attempts=1)) as shop:
        shop.server.script["q"].append(failed(500, retriable=True))
        await shop.queue("q")
        await shop.finish()

        assert await shop.rig.states() == [FAILED]
        assert shop.server.asked == ["q"]
