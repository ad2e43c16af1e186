"""What the caller sees, and what was paid, when lines, batches, files and calls go wrong at the provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config import Batching
from gateway.records import BatchState
from gateway.sandbox import Fault, FaultKind, Operation
from tests.integration.house import House, open_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A gateway in front of a simulator."""
    async with open_house(tmp_path) as house:
        yield house


async def test_a_refused_line_keeps_its_status_and_costs_nothing(house: House) -> None:
    """A line the provider refuses with 400 reaches its caller as that 400 with the provider's words, after one attempt."""
    good, bad = await asyncio.gather(house.ask("fine"), house.ask("bad [sandbox: status=400]"))

    assert good.status == 200
    assert bad.status == 400
    assert bad.headers["x-should-retry"] == "false"
    assert "message" in bad.body["error"]
    assert await house.lines() == 2
    assert await house.wasted_and_billed() == (0, 1)


@pytest.mark.parametrize("status", [429, 500])
async def test_a_line_that_fails_for_a_while_is_asked_again(house: House, status: int) -> None:
    """A line that is rate-limited or hits a server error goes out again by itself, and its caller gets the answer."""
    answered = await house.ask(f"wobbly [sandbox: status={status} times=2]")

    assert answered.status == 200
    assert await house.lines() == 3
    assert await house.wasted_and_billed() == (0, 1)


@pytest.mark.parametrize(
    ("status", "seen", "code"), [(429, 429, "rate_limit_exceeded"), (500, 503, "attempts_exhausted")]
)
async def test_a_line_that_always_fails_says_so(house: House, status: int, seen: int, code: str) -> None:
    """After three attempts the caller is told what they ended in, and that trying again does not help."""
    answered = await house.ask(f"hopeless [sandbox: status={status}]")

    assert (answered.status, answered.code) == (seen, code)
    assert answered.headers["x-should-retry"] == "false"
    assert await house.lines() == 3


async def test_an_expired_batch_keeps_what_is_done(house: House) -> None:
    """Of a batch that expires half done, the finished half is delivered and only the rest is sent again."""
    house.simulator.faults.order(Fault(kind=FaultKind.EXPIRED, fraction=0.5))

    answers = await asyncio.gather(*(house.ask(f"question {number}") for number in range(40)))

    assert all(answer.status == 200 for answer in answers)
    assert all(f"question {number}" in answer.text for number, answer in enumerate(answers))
    assert await house.lines() == 60
    assert await house.wasted_and_billed() == (0, 40)


async def test_a_batch_cancelled_by_others_keeps_what_is_done(house: House) -> None:
    """Of a batch that somebody else cancels, the finished half is delivered and only the rest is sent again."""
    house.simulator.faults.order(Fault(kind=FaultKind.CANCELLED, fraction=0.5))

    answers = await asyncio.gather(*(house.ask(f"question {number}") for number in range(20)))

    assert all(answer.status == 200 for answer in answers)
    assert await house.lines() == 30


async def test_output_and_error_file_are_both_read(house: House) -> None:
    """In a batch with answers and refusals, every caller gets its own ending."""
    texts = [f"line {number}" + (" [sandbox: status=400]" if number % 3 == 0 else "") for number in range(30)]

    answers = await asyncio.gather(*map(house.ask, texts))

    assert [answer.status for answer in answers] == [400 if "sandbox" in text else 200 for text in texts]
    assert await house.lines() == 30


async def test_all_lines_failed_without_an_output_file(house: House) -> None:
    """A batch whose every line was refused has no output file; each caller still gets its refusal."""
    house.simulator.faults.order(Fault(kind=FaultKind.ALL_FAILED, status=400))

    answers = await asyncio.gather(*(house.ask(f"question {number}") for number in range(5)))

    assert {answer.status for answer in answers} == {400}
    assert await house.wasted_and_billed() == (0, 0)


@pytest.mark.parametrize(
    ("kind", "lost"),
    [(FaultKind.FILE_TRUNCATED, 5), (FaultKind.LAST_ROW_TRUNCATED, 1), (FaultKind.ROW_MISSING, 3)],
)
async def test_a_short_result_file_is_fetched_again(house: House, kind: FaultKind, lost: int) -> None:
    """A file with too few rows is fetched three times before the lines it lacks count as missing and are asked again."""
    house.simulator.faults.order(Fault(kind=kind, rows=lost))
    asked = asyncio.gather(*(house.ask(f"question {number}") for number in range(10)))

    await house.skip_until(asked)

    assert all(f"question {number}" in answer.text for number, answer in enumerate(await asked))
    assert await house.lines() == 10 + lost
    first = (await house.gateway.ledger.batches.listed())[-1]
    assert first.fetches == 3


@pytest.mark.parametrize(
    "kind",
    [FaultKind.ROW_DUPLICATE, FaultKind.ROW_MALFORMED, FaultKind.ROW_UNKNOWN_ID, FaultKind.ROW_INVALID_UTF8,
     FaultKind.ROW_STATUS_0, FaultKind.ROW_NO_CHOICES],
)  # fmt: skip
async def test_odd_rows_harm_nobody(house: House, kind: FaultKind) -> None:
    """Rows that are doubled, broken, foreign or empty give nobody a wrong answer; their callers get theirs in the end."""
    house.simulator.faults.order(Fault(kind=kind, rows=2))
    asked = asyncio.gather(*(house.ask(f"question {number}") for number in range(10)))

    await house.skip_until(asked)
    answers = await asked

    assert all(f"question {number}" in answer.text for number, answer in enumerate(answers))
    assert await house.lines() == (10 if kind is FaultKind.ROW_DUPLICATE else 12)


@pytest.mark.parametrize("told", ["", " line=none"])
async def test_a_poison_line_fails_alone(tmp_path: Path, told: str) -> None:
    """One line that makes the provider refuse a batch of 1,000 fails by itself, found by its number or by halving."""
    async with open_house(tmp_path, batching=Batching(window_seconds=5.0, idle_seconds=0.5)) as house:
        texts = [f"question {number}" for number in range(999)] + [f"poison [sandbox: poison{told}]"]

        answers = await asyncio.gather(*map(house.ask, texts))

        assert all(f"question {number}" in answer.text for number, answer in enumerate(answers[:-1]))
        assert (answers[-1].status, answers[-1].code) == (400, "provider_rejected")
        assert await house.lines() == 999
        assert await house.wasted_and_billed() == (0, 999)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_token_limit_refusal_shrinks_and_waits(house: House, when: str) -> None:
    """Refused for its tokens, a batch comes again, smaller and later; nobody hears of it and no attempt is counted."""
    house.simulator.faults.order(Fault(kind=FaultKind.TOKEN_LIMIT, when=when))
    asked = asyncio.gather(*(house.ask(f"question {number}") for number in range(10)))

    async def parked() -> bool:
        windows = await house.gateway.ledger.lanes.windows()
        return any(window.parked_reason for window in windows)

    await house.until(parked)
    house.clock.jump(61)
    answers = await asked

    assert all(answer.status == 200 for answer in answers)
    batches = await house.gateway.ledger.batches.listed()
    assert [batch.state for batch in batches].count(BatchState.DISSOLVED) == 1
    # Callers are woken a moment before their batch counts as collected.
    assert max(batch.count for batch in batches if batch.state is not BatchState.DISSOLVED) < 10
    assert await house.lines() == 10


async def test_a_batch_that_is_unknown_right_after_its_creation(house: House) -> None:
    """A 404 on a new batch is a lost poll: nothing is sent again."""
    house.simulator.faults.order(Fault(kind=FaultKind.POLL_LAG, seconds=0.5))

    answered = await house.ask("patience")

    assert answered.status == 200
    assert await house.lines() == 1


async def test_ten_lost_polls_mean_nothing(house: House) -> None:
    """Ten failed polls in a row delay an answer and change nothing else."""
    house.simulator.faults.order(Fault(kind=FaultKind.STATUS, operation=Operation.POLL, status=502, times=10))
    asked = asyncio.gather(house.ask("still there"))

    await house.skip_until(asked)

    assert (await asked)[0].status == 200
    assert await house.lines() == 1


@pytest.mark.parametrize("kind", [FaultKind.CUT, FaultKind.STATUS])
async def test_a_create_whose_response_is_lost_is_not_repeated(house: House, kind: FaultKind) -> None:
    """The provider made the batch and the answer got lost: the batch is found by its marker, and paid once."""
    house.simulator.faults.order(Fault(kind=kind, operation=Operation.CREATE, when="after", status=503))

    answers = await asyncio.gather(*(house.ask(f"question {number}") for number in range(10)))

    assert all(answer.status == 200 for answer in answers)
    assert await house.lines() == 10
    batches = await house.gateway.ledger.batches.listed()
    assert [batch.ambiguous for batch in batches] == [True]


async def test_a_create_that_never_arrived_is_sent_again_after_the_quarantine(house: House) -> None:
    """The call was cut before it acted: two empty listings, a quarantine apart, and the same batch is sent again."""
    house.simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.CREATE, when="before"))

    answered = await house.ask("once")

    assert answered.status == 200
    assert await house.lines() == 1
    (batch,) = await house.gateway.ledger.batches.listed()
    assert batch.submissions == 2


async def test_two_batches_of_one_create_are_found_and_counted(house: House) -> None:
    """Of two remote batches with one marker the oldest is kept, and the waste is counted, not hidden."""
    house.simulator.faults.order(Fault(kind=FaultKind.TWICE))
    house.simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.CREATE, when="after"))

    answered = await house.ask("double")

    assert answered.status == 200
    assert 'batchway_duplicate_batches_total{provider="sim"} 1.0' in house.gateway.metrics.render().decode()


async def test_a_download_that_breaks_off_is_repeated(house: House) -> None:
    """A cut download says nothing of the lines: it is repeated, and nothing is asked again."""
    house.simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.FETCH, when="during"))
    asked = asyncio.gather(*(house.ask(f"question {number}") for number in range(10)))

    await house.skip_until(asked)

    assert all(answer.status == 200 for answer in await asked)
    assert await house.lines() == 10


async def test_a_revoked_key_stops_the_account_and_loses_nothing(house: House) -> None:
    """While the key is refused requests stay; when it works again they are answered."""
    number = house.simulator.faults.order(Fault(kind=FaultKind.REVOKED))
    asked = asyncio.gather(*(house.ask(f"question {number}") for number in range(5)))

    async def parked() -> bool:
        batches = await house.gateway.ledger.batches.listed()
        return any("Unauthorised" in (batch.parked_reason or "") for batch in batches)

    await house.until(parked)
    house.simulator.faults.withdraw(number)
    house.clock.jump(601)

    assert all(answer.status == 200 for answer in await asked)
    assert await house.lines() == 5
