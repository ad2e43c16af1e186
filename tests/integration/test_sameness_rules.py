"""Who is told a failure again, what cache directives change, and what detached calls get; all over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.sandbox import SandboxSettings
from tests.integration.callers import HASTY, HELD_BACK, RETRY, begin, finish, hang_up, sample, waiting
from tests.integration.house import QUICK, House, open_house

DETACHED = {"Prefer": "respond-async"}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A gateway in front of a simulator."""
    async with open_house(tmp_path) as house:
        yield house


@pytest.fixture
async def held_back(tmp_path: Path) -> AsyncIterator[House]:
    """The same, which keeps its window open until it is flushed."""
    async with open_house(tmp_path, batching=HELD_BACK) as house:
        yield house


# --- failures


async def cut_off(house: House, text: str) -> None:
    """Ask, and be cut off because the request fails after the caller was told 200."""
    with pytest.raises(Exception, match=r"peer closed|incomplete|disconnect|reset"):
        await house.ask(text, headers=HASTY)


async def test_a_failure_behind_a_cut_connection_is_owed(tmp_path: Path) -> None:
    """A caller cut off after its 200 gets the true status on any next call, as often as it asks, for 120 s."""
    slow = SandboxSettings(validating_seconds=0.0, running_seconds=1.0, finalizing_seconds=0.0)
    async with open_house(tmp_path, slow) as house:
        text = "owed [sandbox: status=403]"
        await cut_off(house, text)

        owed = [await house.ask(text) for _ in range(3)]
        assert await house.lines() == 1
        house.clock.jump(121)
        later = await house.ask(text)

        assert [answer.status for answer in owed] == [502, 502, 502]
        assert owed[0].code == "provider_credentials"
        assert owed[0].headers["x-should-retry"] == "false"
        assert later.status == 502
        assert await house.lines() == 2


async def test_a_permanent_failure_is_told_again_for_a_while(house: House) -> None:
    """What can only fail again is not paid again within 120 s of its first delivery; after that it may be tried."""
    text = "never [sandbox: status=422]"
    await house.ask(text)
    house.clock.jump(100)
    soon = await house.ask(text)
    assert await house.lines() == 1
    house.clock.jump(21)
    later = await house.ask(text)

    assert (soon.status, later.status) == (422, 422)
    assert await house.lines() == 2


async def test_a_passing_failure_is_told_to_retries_only(house: House) -> None:
    """A failure that may pass is told again to a retry within 120 s; a fresh call asks anew."""
    text = "passing [sandbox: status=429 times=3]"
    failed = await house.ask(text)
    retried = await house.ask(text, headers=RETRY)
    assert await house.lines() == 3
    fresh = await house.ask(text)

    assert (failed.status, retried.status) == (429, 429)
    assert fresh.status == 200
    assert await house.lines() == 4


async def test_a_late_retry_asks_anew(house: House) -> None:
    """More than 120 s after its end, a failure that may pass is not told even to a retry."""
    text = "passing [sandbox: status=429 times=3]"
    await house.ask(text)
    house.clock.jump(121)
    retried = await house.ask(text, headers=RETRY)

    assert retried.status == 200
    assert await house.lines() == 4


# --- directives


async def test_no_cache_takes_no_stored_answer(house: House) -> None:
    """A call that wants no stored answer gets a new sample; the next ordinary call chooses among both."""
    await house.ask("fresh")
    fresh = await house.ask("fresh", headers={"Cache-Control": "no-cache"})
    next_one = await house.ask("fresh")

    assert fresh.headers["x-batchway-cache"] == "miss"
    assert sample(next_one) == "hit; sample=1; of=2"
    assert await house.lines() == 2


async def test_no_cache_finds_the_request_it_left(held_back: House) -> None:
    """A no-cache call that hung up and comes again waits for its own line; one that was delivered is not given again."""
    headers = {"Cache-Control": "no-cache"}
    asked = begin(held_back, "fresh", headers=headers)
    await waiting(held_back, 1)
    await hang_up(held_back, asked)
    again = begin(held_back, "fresh", headers=headers)
    await waiting(held_back, 1)
    await finish(held_back, again)
    assert await held_back.lines() == 1

    third = begin(held_back, "fresh", headers=headers)
    await waiting(held_back, 1)
    await finish(held_back, third)

    assert await held_back.lines() == 2


async def test_no_store_is_given_to_retries_and_then_forgotten(house: House) -> None:
    """An answer that must not be stored is not in the cache, and matches for 600 s after its delivery, no longer."""
    headers = {"Cache-Control": "no-store"}
    first = await house.ask("secret", headers=headers)
    house.clock.jump(500)
    soon = await house.ask("secret")
    assert soon.body == first.body
    house.clock.jump(101)
    later = await house.ask("secret")

    assert later.headers["x-batchway-cache"] == "miss"
    assert await house.lines() == 2


@pytest.mark.parametrize("waits", [True, False])
async def test_only_if_cached_never_pays(waits: bool, held_back: House) -> None:
    """A call for stored answers gets 504 while there is none, pending ones included, and the answer after; if it waits or not."""
    headers = {"Cache-Control": "only-if-cached", **({} if waits else DETACHED)}
    nothing = await held_back.ask("stored", headers=headers)
    asked = begin(held_back, "stored")
    await waiting(held_back, 1)
    pending = await held_back.ask("stored", headers=headers)
    await finish(held_back, asked)
    stored = await held_back.ask("stored", headers=headers)

    assert (nothing.status, nothing.code) == (504, "not_cached")
    assert nothing.headers["x-should-retry"] == "false"
    assert pending.status == 504
    assert stored.status == 200
    assert len(await held_back.gateway.ledger.requests.listed(None)) == 1
    assert await held_back.lines() == 1


async def test_max_age_leaves_old_answers_out(house: House) -> None:
    """Stored answers older than max-age do not count; younger ones do."""
    await house.ask("news")
    house.clock.jump(50)
    young = await house.ask("news", headers={"Cache-Control": "max-age=60"})
    house.clock.jump(50)
    old = await house.ask("news", headers={"Cache-Control": "max-age=60"})

    assert sample(young) == "hit; sample=1; of=1"
    assert old.headers["x-batchway-cache"] == "miss"
    assert await house.lines() == 2


async def test_litellms_cache_field_means_the_same_and_is_not_sent(tmp_path: Path) -> None:
    """`cache: {"no-cache": true}` in the body asks for a new sample, and the provider never sees the field."""
    strict = SandboxSettings(
        validating_seconds=0.0, running_seconds=QUICK.running_seconds, finalizing_seconds=0.0, strict_fields=True
    )
    async with open_house(tmp_path, strict) as house:
        await house.ask("lite")
        fresh = await house.ask("lite", cache={"no-cache": True})
        stored = await house.ask("lite", cache={})

        assert fresh.status == 200, fresh.body
        assert fresh.headers["x-batchway-cache"] == "miss"
        assert stored.headers["x-batchway-cache"].startswith("hit")
        assert await house.lines() == 2


# --- detached


async def test_a_detached_call_gets_202_and_its_answer_by_name(house: House) -> None:
    """A caller that does not wait is told where to ask, and finds its answer there."""
    accepted = await house.ask("later", headers=DETACHED)
    location = accepted.headers["location"]

    assert accepted.status == 202
    assert location == f"/v1/results/{accepted.headers['x-batchway-custom-id']}"
    assert int(accepted.headers["retry-after"]) <= 60
    answer = await house.http.get(location, headers={"Prefer": "wait=30"})
    assert answer.status_code == 200
    assert await house.lines() == 1


async def test_the_retry_of_a_detached_call_gets_the_same_202(held_back: House) -> None:
    """A 202 that got lost is given again to the retry within 120 s; a call that is no retry is another request."""
    first = await held_back.ask("later", headers=DETACHED)
    retried = await held_back.ask("later", headers=DETACHED | RETRY)
    other = await held_back.ask("later", headers=DETACHED)
    held_back.clock.jump(121)
    late = await held_back.ask("later", headers=DETACHED | RETRY)

    ids = [answer.headers["x-batchway-custom-id"] for answer in (first, retried, other, late)]
    assert {answer.status for answer in (first, retried, other, late)} == {202}
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


async def test_a_detached_request_is_nobodys_sample(held_back: House) -> None:
    """A detached request is found by its id only: an identical call that waits is another request, and the reverse."""
    await held_back.ask("later", headers=DETACHED)
    asked = begin(held_back, "later")
    await waiting(held_back, 1)
    (answered,) = await finish(held_back, asked)

    assert answered.headers["x-batchway-cache"] == "miss"
    assert await held_back.lines() == 2


async def test_a_named_detached_request_is_not_given_to_an_unnamed_retry(held_back: House) -> None:
    """A name matches by name only: the retry of an unnamed detached call never gets a named request."""
    await held_back.ask("later", headers=DETACHED | {"x-batchway-custom-id": "mine"})
    retried = await held_back.ask("later", headers=DETACHED | RETRY)
    await held_back.http.delete("/v1/results/mine")

    found = await held_back.http.get(retried.headers["location"])
    assert found.status_code == 202
    assert found.json()["state"] == "queued"
