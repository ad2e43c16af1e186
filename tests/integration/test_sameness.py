"""Which calls are the same request: names, samples, retries, runs; all over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config import Server
from gateway.endings import cancelled
from tests.integration.callers import HELD_BACK, RETRY, begin, finish, hang_up, sample, waiting
from tests.integration.house import House, open_house


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


# --- names


@pytest.mark.parametrize(
    "name",
    [
        {"headers": {"x-batchway-custom-id": "row-1"}},
        {"headers": {"Idempotency-Key": "row-1"}},
        {"metadata": {"custom_id": "row-1"}},
    ],
)
async def test_a_name_is_one_request_wherever_it_is_written(house: House, name: dict[str, object]) -> None:
    """A call that names itself gets the same answer again under that name, paid once, whichever place names it."""
    first = await house.ask("named", **name)  # type: ignore[arg-type]
    again = await house.ask("named", **name)  # type: ignore[arg-type]
    elsewhere = await house.ask("named", headers={"Idempotency-Key": "row-1"})

    assert first.body == again.body == elsewhere.body
    assert first.headers["x-batchway-custom-id"] == "row-1"
    assert again.headers["x-batchway-cache"] == "hit"
    assert await house.lines() == 1


async def test_names_that_disagree_are_refused(house: House) -> None:
    """One call with two names is refused, and nothing is recorded under either."""
    answered = await house.ask("which", metadata={"custom_id": "a"}, headers={"Idempotency-Key": "b"})

    assert (answered.status, answered.code) == (400, "invalid_request")
    assert (await house.http.get("/v1/results/a")).status_code == 404
    assert (await house.http.get("/v1/results/b")).status_code == 404


async def test_two_live_calls_with_one_name_are_one_request(held_back: House) -> None:
    """Callers that give one name to one body at the same time wait for one line, and all get it."""
    headers = {"x-batchway-custom-id": "shared"}
    asked = [begin(held_back, "same", headers=headers) for _ in range(3)]
    await waiting(held_back, 3)

    answers = await finish(held_back, *asked)

    assert {answer.text for answer in answers} == {answers[0].text}
    assert sorted(answer.headers["x-batchway-cache"] for answer in answers) == ["joined", "joined", "miss"]
    assert await held_back.lines() == 1


async def test_a_name_with_another_body_is_refused(held_back: House) -> None:
    """A name stays with its body, while it waits and after it: another body gets 422 and costs nothing."""
    headers = {"x-batchway-custom-id": "taken"}
    asked = begin(held_back, "first", headers=headers)
    await waiting(held_back, 1)

    while_pending = await held_back.ask("second", headers=headers)
    await finish(held_back, asked)
    afterwards = await held_back.ask("second", headers=headers)

    assert (while_pending.status, while_pending.code) == (422, "name_taken")
    assert while_pending.headers["x-should-retry"] == "false"
    assert afterwards.status == 422
    assert await held_back.lines() == 1


async def test_a_named_request_and_an_unnamed_one_are_two(house: House) -> None:
    """A name matches by name only: the same body without it, or under another name, is another request."""
    await house.ask("body", headers={"x-batchway-custom-id": "one"})
    unnamed = await house.ask("body")
    other = await house.ask("body", headers={"x-batchway-custom-id": "two"})

    assert unnamed.headers["x-batchway-cache"] == "miss"
    assert other.headers["x-batchway-cache"] == "miss"
    assert await house.lines() == 3


async def test_a_name_may_be_tried_again_after_a_failure(house: House) -> None:
    """A named call after its request has failed for a while is a new attempt of the same id, with all its attempts."""
    headers = {"x-batchway-custom-id": "again"}
    text = "wobbly [sandbox: status=429 times=5]"

    failed = await house.ask(text, headers=headers)
    stored = await house.http.get("/v1/results/again")
    answered = await house.ask(text, headers=headers)

    assert (failed.status, stored.status_code) == (429, 429)
    assert answered.status == 200
    assert (await house.http.get("/v1/results/again")).status_code == 200
    assert await house.lines() == 6


async def test_a_name_keeps_a_permanent_failure_for_a_while(house: House) -> None:
    """What can only fail again is told again under its name for 120 s, and asked anew after that."""
    headers = {"x-batchway-custom-id": "bad"}
    text = "bad [sandbox: status=400]"

    first = await house.ask(text, headers=headers)
    second = await house.ask(text, headers=headers)
    assert await house.lines() == 1
    house.clock.jump(121)
    third = await house.ask(text, headers=headers)

    assert (first.status, second.status, third.status) == (400, 400, 400)
    assert await house.lines() == 2


# --- samples


async def test_identical_calls_at_the_same_time_are_separate_samples(house: House) -> None:
    """Five identical calls at once are five lines; five more get one of the five answers each, and cost nothing."""
    first = await asyncio.gather(*(house.ask("dice", temperature=1) for _ in range(5)))
    assert await house.lines() == 5
    again = await asyncio.gather(*(house.ask("dice", temperature=1) for _ in range(5)))

    assert len({answer.body["id"] for answer in first}) == 5
    assert {str(answer.body["id"]) for answer in again} == {str(answer.body["id"]) for answer in first}
    assert {sample(answer) for answer in again} == {f"hit; sample={number}; of=5" for number in range(1, 6)}
    assert await house.lines() == 5


async def test_stored_samples_are_given_in_turn(house: House) -> None:
    """With two stored samples, four calls one after the other get the first, the second, the first, the second."""
    await asyncio.gather(house.ask("turns"), house.ask("turns"))

    given = [sample(await house.ask("turns")) for _ in range(4)]

    assert given == [f"hit; sample={number}; of=2" for number in (1, 2, 1, 2)]
    assert await house.lines() == 2


async def test_what_does_not_change_the_answer_does_not_make_another_request(house: House) -> None:
    """Streaming, the user's name, metadata and hints to the prompt cache leave a request the same; a seed does not."""
    await house.ask("same")
    same = await house.ask("same", user="u", metadata={"k": "v"}, prompt_cache_key="p", service_tier="flex")
    other = await house.ask("same", seed=7)

    assert same.headers["x-batchway-cache"].startswith("hit")
    assert other.headers["x-batchway-cache"] == "miss"
    assert await house.lines() == 2


# --- hang-ups and retries


async def test_a_caller_that_hung_up_finds_its_request_again(held_back: House) -> None:
    """A client that was killed and is started again waits for the lines it has asked for already."""
    asked = [begin(held_back, "restarted") for _ in range(3)]
    await waiting(held_back, 3)
    for caller in asked:
        await hang_up(held_back, caller)

    asked = [begin(held_back, "restarted") for _ in range(3)]
    await waiting(held_back, 3)
    answers = await finish(held_back, *asked)

    assert len({answer.headers["x-batchway-custom-id"] for answer in answers}) == 3
    assert await held_back.lines() == 3


async def test_a_request_nobody_waits_for_is_answered_all_the_same(held_back: House) -> None:
    """A hang-up leaves its request running; whoever asks next gets the stored answer."""
    asked = begin(held_back, "patience")
    await waiting(held_back, 1)
    await hang_up(held_back, asked)
    held_back.gateway.batcher.flush()

    async def answered() -> bool:
        return (await held_back.lines()) == 1 and not (await held_back.gateway.ledger.batches.open_counts())

    await held_back.until(answered)
    again = await held_back.ask("patience")

    assert sample(again) == "hit; sample=1; of=1"
    assert await held_back.lines() == 1


async def test_who_asks_for_a_result_by_name_holds_nothing(held_back: House) -> None:
    """A call finds the request that its like has left, also while somebody waits for that at /v1/results."""
    asked = begin(held_back, "watched")
    await waiting(held_back, 1)
    (row,) = (await held_back.http.get("/v1/results")).json()["data"]
    watching = asyncio.create_task(held_back.http.get(f"/v1/results/{row['custom_id']}", headers={"Prefer": "wait=60"}))
    await waiting(held_back, 2)
    await hang_up(held_back, asked)

    again = begin(held_back, "watched")
    await waiting(held_back, 2)
    (answered,) = await finish(held_back, again)

    assert (await watching).json() == answered.body
    assert await held_back.lines() == 1


async def test_what_was_promised_by_a_202_is_not_cancelled_with_its_caller(tmp_path: Path) -> None:
    """With on_disconnect = "cancel", a named request that somebody was told to come back for outlives its waiting caller."""
    server = Server(port=0, on_disconnect="cancel")
    headers = {"x-batchway-custom-id": "promised"}
    async with open_house(tmp_path, batching=HELD_BACK, server=server) as house:
        asked = begin(house, "promised", headers=headers)
        await waiting(house, 1)
        told = await house.ask("promised", headers=headers | {"Prefer": "respond-async"})
        await hang_up(house, asked)
        await house.gateway.waiters.fold()
        house.clock.jump(130)

        assert told.status == 202
        assert await house.gateway.ledger.requests.cancel_abandoned(house.clock.now(), cancelled(), 10) == []


async def test_a_retry_joins_its_half_dead_first_try(held_back: House) -> None:
    """A retry whose first socket still looks alive waits beside it: one line, and both are answered."""
    first = begin(held_back, "half dead")
    await waiting(held_back, 1)
    retry = begin(held_back, "half dead", headers=RETRY)
    await waiting(held_back, 2)

    answers = await finish(held_back, first, retry)

    assert answers[0].text == answers[1].text
    assert answers[1].headers["x-batchway-cache"] == "joined"
    assert await held_back.lines() == 1


async def test_a_retry_spreads_over_its_sisters(held_back: House) -> None:
    """Retries of three simultaneous calls join one line each, so that three samples stay three."""
    first = [begin(held_back, "sisters") for _ in range(3)]
    await waiting(held_back, 3)
    retries = []
    for callers in (4, 5, 6):
        retries.append(begin(held_back, "sisters", headers=RETRY))
        await waiting(held_back, callers)

    answers = await finish(held_back, *first, *retries)

    assert len({answer.headers["x-batchway-custom-id"] for answer in answers[3:]}) == 3
    assert await held_back.lines() == 3


async def test_a_retry_gets_again_what_was_delivered_last(house: House) -> None:
    """An answer whose delivery broke off unseen is told again to the retry, not the next sample in turn."""
    await asyncio.gather(house.ask("lost on the way"), house.ask("lost on the way"))
    last = await house.ask("lost on the way")
    retried = await house.ask("lost on the way", headers=RETRY)
    house.clock.jump(601)
    much_later = await house.ask("lost on the way", headers=RETRY)

    assert [sample(last), sample(retried)] == ["hit; sample=1; of=2"] * 2
    assert sample(much_later) == "hit; sample=2; of=2"
    assert await house.lines() == 2


# --- runs


async def test_a_run_never_gets_a_sample_twice_and_the_next_run_gets_them_in_order(house: House) -> None:
    """Within a run every identical call is another sample; the next run gets the paid ones in order, then new ones."""
    one = [await house.ask("pass", run="/run/one") for _ in range(2)]
    two = [await house.ask("pass", run="/run/two") for _ in range(3)]

    assert len({str(answer.body["id"]) for answer in one}) == 2
    assert [answer.body["id"] for answer in two[:2]] == [answer.body["id"] for answer in one]
    assert two[2].headers["x-batchway-cache"] == "miss"
    assert await house.lines() == 3


async def test_a_run_is_the_same_by_header_and_by_address(house: House) -> None:
    """The header and the base URL name the same run; if both are there they must agree."""
    await house.ask("pass", run="/run/one")
    second = await house.ask("pass", headers={"x-batchway-run": "one"})
    both = await house.ask("pass", run="/run/one", headers={"x-batchway-run": "two"})

    assert second.headers["x-batchway-cache"] == "miss"
    assert both.status == 400
    assert await house.lines() == 2


async def test_a_run_that_was_cut_off_gets_what_it_was_given(held_back: House) -> None:
    """A pass that is killed and resumed under its name waits for the samples it was given and did not get."""
    asked = [begin(held_back, "pass", run="/run/one") for _ in range(2)]
    await waiting(held_back, 2)
    for caller in asked:
        await hang_up(held_back, caller)
    asked = [begin(held_back, "pass", run="/run/one") for _ in range(2)]
    await waiting(held_back, 2)

    answers = await finish(held_back, *asked)

    assert len({str(answer.body["id"]) for answer in answers}) == 2
    assert await held_back.lines() == 2


async def test_a_retry_within_a_run_gets_its_own_sample(house: House) -> None:
    """The retry of a call in a run gets the sample that the call was given, not the next one."""
    first = await house.ask("pass", run="/run/one")
    retried = await house.ask("pass", run="/run/one", headers=RETRY)

    assert retried.body == first.body
    assert await house.lines() == 1


async def test_two_runs_at_once_wait_for_the_same_samples(held_back: House) -> None:
    """Two passes at the same time share their samples: the k-th call of each gets the k-th."""
    asked = []
    for callers, run in enumerate(("one", "one", "two", "two"), start=1):
        asked.append(begin(held_back, "pass", run=f"/run/{run}"))
        await waiting(held_back, callers)

    answers = await finish(held_back, *asked)

    assert [answer.body["id"] for answer in answers[2:]] == [answer.body["id"] for answer in answers[:2]]
    assert await held_back.lines() == 2
