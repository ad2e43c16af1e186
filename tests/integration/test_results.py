"""`/v1/results`: look a request up, wait for it, cancel it; and never somebody else's."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config import Client
from gateway.sandbox import Fault, FaultKind, SandboxSettings
from tests.integration.callers import HELD_BACK, begin, waiting
from tests.integration.house import House, open_house

NAMED = {"x-batchway-custom-id": "mine"}
DETACHED = {"Prefer": "respond-async"}
KEYS = {name: {"Authorization": f"Bearer key-of-{name}"} for name in ("one", "two")}


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


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[House]:
    """A gateway of two clients that knows them by their keys."""
    clients = tuple(Client(name=name, key_hash=hashlib.sha256(f"key-of-{name}".encode()).digest()) for name in KEYS)
    async with open_house(tmp_path, clients=clients) as house:
        yield house


# --- looking up


async def test_every_name_that_is_accepted_leads_to_its_request(held_back: House) -> None:
    """Whatever a name looks like, the address that its caller is told is that of its request, or there is none."""
    told = {}
    for name in ("a/b", "../x", "..", ".", "...", "%2F", "100%", "a b", "a?b#c", "ä"):
        answer = await held_back.ask("soon", headers=DETACHED, metadata={"custom_id": name})
        if answer.status == 400:
            told[name] = answer.body["error"]["param"]
        else:
            told[name] = (await held_back.http.get(answer.headers["location"])).json()["custom_id"]

    refused = dict.fromkeys((".", ".."), "metadata.custom_id")
    assert told == {name: name for name in told} | refused


async def test_what_nobody_asked_is_not_there(house: House) -> None:
    """A name that no request has is 404, and asking again does not help."""
    answer = await house.http.get("/v1/results/nobody")

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert answer.headers["x-should-retry"] == "false"


async def test_every_answer_has_its_request_id(house: House) -> None:
    """What was not found, what waits, an answer at once and after a wait: each echoes the caller's own id."""
    given = {"x-request-id": "trace-7"}
    told = await house.ask("soon", headers=NAMED | DETACHED | given)
    wishes = (("nobody", {}), ("mine", {}), ("mine", {"Prefer": "wait=60"}), ("mine", {}))
    read = [await house.http.get(f"/v1/results/{name}", headers=given | wish) for name, wish in wishes]

    assert [told.status, *(answer.status_code for answer in read)] == [202, 404, 202, 200, 200]
    assert {told.headers["x-request-id"], *(answer.headers["x-request-id"] for answer in read)} == {"trace-7"}


async def test_whoever_asks_again_for_later_is_told_how_far_it_is(tmp_path: Path) -> None:
    """`respond-async` for a request that is in a batch already says so, and in which; what is not parked has no retry_at."""
    slow = SandboxSettings(running_seconds=3_000.0)
    async with open_house(tmp_path, sandbox=slow) as house:
        first = await house.ask("slow", headers=NAMED | DETACHED)

        async def batched() -> bool:
            return (await house.http.get("/v1/results/mine")).json()["state"] == "batched"

        await house.until(batched)
        again = await house.ask("slow", headers=NAMED | DETACHED)

    assert (first.status, first.body["state"]) == (202, "queued")
    assert (again.status, again.body["state"], again.body["batch_id"]) == (202, "batched", 1)
    assert (again.body["parked_reason"], again.body["retry_at"]) == (None, None)


async def test_a_pending_request_says_how_far_it_is(held_back: House) -> None:
    """202 with where to ask, when to ask, and how things stand, as long as there is no answer."""
    await held_back.ask("slow", metadata={"row": "7"}, headers=NAMED | DETACHED)

    answer = await held_back.http.get("/v1/results/mine")

    assert answer.status_code == 202
    assert answer.headers["location"] == "/v1/results/mine"
    assert 0 < int(answer.headers["retry-after"]) <= 60
    body = answer.json()
    assert (body["custom_id"], body["state"], body["attempts"]) == ("mine", "queued", 0)
    assert (body["provider"], body["model"], body["metadata"]) == ("sim", "sim-small", {"row": "7"})


async def test_an_answer_is_the_same_by_name_and_by_id(house: House) -> None:
    """What the caller got is what GET gives, as often as it is asked, by the name or by our own id."""
    answered = await house.ask("stored", headers=NAMED)
    unnamed = await house.ask("stored too")
    own = unnamed.headers["x-batchway-custom-id"]

    by_name = [await house.http.get("/v1/results/mine") for _ in range(2)]
    by_id = await house.http.get(f"/v1/results/{own}")

    assert [answer.json() for answer in by_name] == [answered.body] * 2
    assert by_id.json() == unnamed.body
    assert (await house.http.get(f"/v1/results/{own[:-1]}x")).status_code == 404
    assert await house.lines() == 2


async def test_a_failure_is_told_with_its_own_status(house: House) -> None:
    """The ending of a failed request comes with its status and OpenAI's error object, for as long as it is kept."""
    await house.ask("bad [sandbox: status=404]", headers=NAMED)
    house.clock.jump(3_600)

    answer = await house.http.get("/v1/results/mine")

    assert answer.status_code == 404
    assert "message" in answer.json()["error"]
    assert answer.headers["x-should-retry"] == "false"


async def test_a_wait_ends_with_the_answer(held_back: House) -> None:
    """Under Prefer: wait=N the answer comes as soon as it is there."""
    await held_back.ask("later", headers=NAMED | DETACHED)
    asked = asyncio.create_task(held_back.http.get("/v1/results/mine", headers={"Prefer": "wait=60"}))
    await waiting(held_back, 1)
    held_back.gateway.batcher.flush()

    answer = await asked

    assert answer.status_code == 200
    assert "later" in answer.json()["choices"][0]["message"]["content"]


async def test_a_wait_that_is_over_says_how_things_stand_by_then(tmp_path: Path) -> None:
    """When the time is up before the answer is there: 202, with the state at the end of the wait, not at its beginning."""
    async with open_house(tmp_path, batching=HELD_BACK) as house:
        house.simulator.faults.order(Fault(kind=FaultKind.ENDLESS))
        await house.ask("never", headers=NAMED | DETACHED)
        asked = asyncio.create_task(house.http.get("/v1/results/mine", headers={"Prefer": "wait=1"}))
        await waiting(house, 1)
        house.gateway.batcher.flush()

        answer = await asked

        assert (answer.status_code, answer.json()["state"]) == (202, "batched")


async def test_a_name_with_odd_characters_is_found_under_its_location(house: House) -> None:
    """A name may hold slashes, blanks and letters of any alphabet: the address we give leads to it."""
    accepted = await house.ask("odd", metadata={"custom_id": "a/b c?d#é%2F"}, headers=DETACHED)

    answer = await house.http.get(accepted.headers["location"], headers={"Prefer": "wait=30"})

    assert answer.status_code == 200
    assert "odd" in answer.json()["choices"][0]["message"]["content"]


# --- cancelling


async def test_a_queued_request_can_be_cancelled(held_back: House) -> None:
    """DELETE ends a queued request at once: its caller gets 410, nothing is sent, and the result says so from then on."""
    asked = begin(held_back, "unwanted", headers=NAMED)
    await waiting(held_back, 1)

    deleted = await held_back.http.delete("/v1/results/mine")
    answered = await asked
    held_back.gateway.batcher.flush()
    stored = await held_back.http.get("/v1/results/mine")

    assert (deleted.status_code, deleted.json()["state"]) == (200, "cancelled")
    assert (answered.status, answered.code) == (410, "cancelled")
    assert stored.status_code == 410
    assert await held_back.lines() == 0


async def test_a_line_at_the_provider_can_be_cancelled(tmp_path: Path) -> None:
    """DELETE of a line that the provider has: 202, the batch nobody wants is cancelled there, and the request ends."""
    async with open_house(tmp_path) as house:
        house.simulator.faults.order(Fault(kind=FaultKind.ENDLESS))
        asked = begin(house, "unwanted", headers=NAMED)

        async def sent() -> bool:
            pending = await house.http.get("/v1/results/mine")
            return bool(pending.json().get("batch_state") == "submitted")

        await house.until(sent)
        deleted = await house.http.delete("/v1/results/mine")
        answered = await asked

        assert (deleted.status_code, deleted.json()["cancelling"]) == (202, True)
        assert (answered.status, answered.code) == (410, "cancelled")
        assert await house.lines() == 1


async def test_what_has_ended_stays_as_it_is(house: House) -> None:
    """DELETE of an answered request changes nothing: the answer is there afterwards."""
    answered = await house.ask("done", headers=NAMED)

    deleted = await house.http.delete("/v1/results/mine")

    assert (deleted.status_code, deleted.json()["state"]) == (200, "succeeded")
    assert (await house.http.get("/v1/results/mine")).json() == answered.body


# --- clients


async def test_a_key_is_asked_for(shared: House) -> None:
    """Without a key, or with a wrong one, nothing is read, asked or cancelled."""
    for headers in ({}, {"Authorization": "Bearer nobody"}):
        for answer in (
            await shared.http.get("/v1/results", headers=headers),
            await shared.http.get("/v1/results/mine", headers=headers),
            await shared.http.delete("/v1/results/mine", headers=headers),
        ):
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert (await shared.ask("no key", headers=headers)).status == 401
    assert await shared.lines() == 0


async def test_one_client_never_sees_anothers(shared: House) -> None:
    """Neither name, id, stored answer, list nor cancel of one client reaches what belongs to the other."""
    first = await shared.ask("secret", headers=KEYS["one"])
    named = await shared.ask("secret too", headers=KEYS["one"] | NAMED)
    own = first.headers["x-batchway-custom-id"]

    for name in ("mine", own):
        assert (await shared.http.get(f"/v1/results/{name}", headers=KEYS["two"])).status_code == 404
        assert (await shared.http.delete(f"/v1/results/{name}", headers=KEYS["two"])).status_code == 404
    assert (await shared.http.get("/v1/results", headers=KEYS["two"])).json()["data"] == []
    beyond = await shared.http.get("/v1/results", params={"after": own}, headers=KEYS["two"])
    assert beyond.status_code == 404
    same = await shared.ask("secret", headers=KEYS["two"])
    other_body = await shared.ask("another", headers=KEYS["two"] | NAMED)

    assert same.headers["x-batchway-cache"] == "miss"
    assert other_body.status == 200
    assert (await shared.http.get("/v1/results/mine", headers=KEYS["one"])).json() == named.body
    assert await shared.lines() == 4


# --- lists


async def test_a_list_goes_on_where_the_last_page_ended(house: House) -> None:
    """Requests are listed in the order of acceptance, page by page, each once."""
    for number in range(5):
        await house.ask(f"question {number}", headers={"x-batchway-custom-id": f"row-{number}"})

    listed: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = (await house.http.get("/v1/results", params={"limit": "2", **after})).json()
        listed += [row["custom_id"] for row in page["data"]]
        if not page["has_more"]:
            break
        after = {"after": listed[-1]}

    assert listed == [f"row-{number}" for number in range(5)]


async def test_a_list_can_be_of_one_state(held_back: House) -> None:
    """`?state=` picks; a word that is none, and a limit that is no number, are refused."""
    await held_back.ask("a", headers={"x-batchway-custom-id": "a"} | DETACHED)
    await held_back.ask("b", headers={"x-batchway-custom-id": "b"} | DETACHED)
    await held_back.http.delete("/v1/results/a")

    queued = (await held_back.http.get("/v1/results", params={"state": "queued"})).json()
    cancelled = (await held_back.http.get("/v1/results", params={"state": "cancelled"})).json()

    assert [row["custom_id"] for row in queued["data"]] == ["b"]
    assert [row["custom_id"] for row in cancelled["data"]] == ["a"]
    assert (await held_back.http.get("/v1/results", params={"state": "lost"})).status_code == 400
    assert (await held_back.http.get("/v1/results", params={"limit": "many"})).status_code == 400
