"""Faults to order, the control API, directives in prompts, and the ledger of what was submitted."""

from __future__ import annotations

from dataclasses import replace

import aiohttp
import openai
import orjson
import pytest
from openai_lab import Lab, chat, frame

from gateway.sandbox import Fault, FaultKind, Operation, body_hash


async def test_a_status_before_acting_does_nothing(lab: Lab) -> None:
    """A failure ordered before acting leaves no trace but its count, carries Retry-After, and strikes once."""
    fault = Fault(kind=FaultKind.STATUS, operation=Operation.CREATE, status=429, retry_after=7)
    lab.simulator.faults.order(fault)
    with pytest.raises(openai.RateLimitError) as caught:
        await lab.create(frame("a", chat("x")))

    assert caught.value.response.headers["retry-after"] == "7"
    assert lab.simulator.store.batches == {}
    assert (await lab.create(frame("a", chat("x")))).status == "validating"
    assert lab.simulator.ledger.calls["create"] == 2


@pytest.mark.parametrize("kind", [FaultKind.STATUS, FaultKind.CUT])
async def test_a_failure_after_acting_has_acted(lab: Lab, kind: FaultKind) -> None:
    """With `when: after` the batch exists although the caller got an error or no response at all."""
    lab.simulator.faults.order(Fault(kind=kind, operation=Operation.CREATE, when="after", status=503))
    with pytest.raises((openai.InternalServerError, openai.APIConnectionError)):
        await lab.create(frame("a", chat("x")))

    assert len(lab.simulator.store.batches) == 1


async def test_a_cut_before_acting_does_nothing(lab: Lab) -> None:
    """A connection cut before acting leaves no batch behind."""
    lab.simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.CREATE))
    with pytest.raises(openai.APIConnectionError):
        await lab.create(frame("a", chat("x")))

    assert lab.simulator.store.batches == {}


async def test_a_revoked_key_fails_everything(lab: Lab) -> None:
    """After REVOKED every operation answers 401, until the order is withdrawn."""
    number = lab.simulator.faults.order(Fault(kind=FaultKind.REVOKED))
    for _ in range(3):
        with pytest.raises(openai.AuthenticationError):
            await lab.sdk.batches.list()
    lab.simulator.faults.withdraw(number)

    assert (await lab.sdk.batches.list()).data == []


async def test_a_batch_is_hidden_for_a_while(lab: Lab) -> None:
    """List lag and poll lag hide a created batch for their seconds, from lists and from polls."""
    lab.simulator.faults.order(Fault(kind=FaultKind.LIST_LAG, seconds=30))
    lab.simulator.faults.order(Fault(kind=FaultKind.POLL_LAG, seconds=20))
    created = await lab.create(frame("a", chat("x")))
    with pytest.raises(openai.NotFoundError):
        await lab.sdk.batches.retrieve(created.id)
    lab.clock.jump(25)
    assert (await lab.sdk.batches.retrieve(created.id)).id == created.id
    assert (await lab.sdk.batches.list()).data == []
    lab.clock.jump(10)

    assert [batch.id for batch in (await lab.sdk.batches.list()).data] == [created.id]


async def test_one_create_can_make_two_batches(lab: Lab) -> None:
    """TWICE leaves two batches of one create call, and the ledger shows the line as accepted twice."""
    lab.simulator.faults.order(Fault(kind=FaultKind.TWICE))
    body = chat("once, please")
    await lab.create(frame("a", body))
    submissions = await lab.simulator.submissions()

    assert submissions.calls["create"] == 1
    assert submissions.batches == 2
    assert submissions.repeated == {body_hash(body): 2}


async def test_an_endless_batch_ends_when_told(lab: Lab) -> None:
    """ENDLESS outlives its completion window, and ends when the control API says so."""
    lab.simulator.faults.order(Fault(kind=FaultKind.ENDLESS))
    created = await lab.create(frame("a", chat("x")))
    lab.clock.jump(200_000)
    running = await lab.sdk.batches.retrieve(created.id)
    async with aiohttp.ClientSession() as session:
        url = f"{lab.server.url(lab.simulator)}/_sandbox/batches/{created.id}/finish"
        assert (await session.post(url)).status == 200

    assert running.status == "in_progress"
    assert (await lab.sdk.batches.retrieve(created.id)).status == "completed"


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [(FaultKind.EXPIRED, "expired", "batch_expired"), (FaultKind.CANCELLED, "cancelled", "batch_cancelled")],
)
async def test_a_batch_can_end_half_done(lab: Lab, kind: FaultKind, status: str, code: str) -> None:
    """An expired or foreignly cancelled batch has both files, which together name every line once."""
    lab.simulator.faults.order(Fault(kind=kind, fraction=0.3))
    batch = await lab.ended(await lab.create(*(frame(str(n), chat(str(n))) for n in range(10))))
    answered, failed = await lab.rows(batch.output_file_id), await lab.rows(batch.error_file_id)

    assert batch.status == status
    assert (len(answered), len(failed)) == (3, 7)
    assert {row["custom_id"] for row in answered + failed} == {str(n) for n in range(10)}
    assert {row["error"]["code"] for row in failed} == {code}


async def test_all_lines_can_fail(lab: Lab) -> None:
    """ALL_FAILED completes with an error file and no output file, as the real API does."""
    lab.simulator.faults.order(Fault(kind=FaultKind.ALL_FAILED, status=500))
    batch = await lab.ended(await lab.create(frame("a", chat("x"))))

    assert (batch.status, batch.output_file_id) == ("completed", None)
    assert (await lab.rows(batch.error_file_id))[0]["response"]["status_code"] == 500


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_token_limit_can_be_ordered(lab: Lab, when: str) -> None:
    """TOKEN_LIMIT refuses the create call, or lets the batch fail in validation."""
    lab.simulator.faults.order(Fault(kind=FaultKind.TOKEN_LIMIT, when=when))
    if when == "before":
        with pytest.raises(openai.BadRequestError) as caught:
            await lab.create(frame("a", chat("x")))
        assert caught.value.code == "token_limit_exceeded"
    else:
        batch = await lab.ended(await lab.create(frame("a", chat("x"))))
        assert batch.errors is not None
        assert batch.errors.data is not None
        assert batch.errors.data[0].code == "token_limit_exceeded"


@pytest.mark.parametrize(
    ("kind", "rows", "readable"),
    [
        (FaultKind.ROW_DUPLICATE, 6, 6),
        (FaultKind.ROW_MISSING, 4, 4),
        (FaultKind.ROW_MALFORMED, 5, 4),
        (FaultKind.ROW_INVALID_UTF8, 5, 4),
        (FaultKind.ROW_UNKNOWN_ID, 5, 5),
        (FaultKind.ROW_STATUS_0, 5, 5),
        (FaultKind.ROW_NO_CHOICES, 5, 5),
        (FaultKind.LAST_ROW_TRUNCATED, 5, 4),
    ],
)
async def test_rows_can_be_damaged(lab: Lab, kind: FaultKind, rows: int, readable: int) -> None:
    """Each row fault changes one row of the next result file, while the provider's counts stay as they were."""
    lab.simulator.faults.order(Fault(kind=kind))
    batch = await lab.ended(await lab.create(*(frame(str(n), chat(str(n))) for n in range(5))))
    raw = (await lab.sdk.files.content(batch.output_file_id or "")).content
    found = [row for row in raw.split(b"\n") if row]

    assert batch.request_counts is not None
    assert batch.request_counts.completed == 5
    assert len(found) == rows
    assert sum(_parses(row) for row in found) == readable


async def test_a_file_can_lose_its_second_half(lab: Lab) -> None:
    """FILE_TRUNCATED leaves half of the bytes, and a length that agrees with them."""
    lab.simulator.faults.order(Fault(kind=FaultKind.FILE_TRUNCATED))
    batch = await lab.ended(await lab.create(*(frame(str(n), chat(str(n))) for n in range(20))))
    file = await lab.sdk.files.retrieve(batch.output_file_id or "")
    raw = (await lab.sdk.files.content(file.id)).content

    assert len(raw) == file.bytes
    assert 8 <= raw.count(b"\n") <= 11


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        ("status=400", 400, None),
        ("status=429", 429, None),
        ("status=500", 500, None),
        ("timeout", None, "request_timeout"),
        ("expired", None, "batch_expired"),
    ],
)
async def test_a_prompt_can_ask_for_its_line_to_fail(
    lab: Lab, words: str, status: int | None, code: str | None
) -> None:
    """A directive in a message fails that line as told, and no other."""
    lines = (frame("bad", chat(f"please [sandbox: {words}]")), frame("good", chat("please")))
    batch = await lab.ended(await lab.create(*lines))
    [row] = await lab.rows(batch.error_file_id)

    assert row["custom_id"] == "bad"
    assert (row["response"] or {}).get("status_code") == status
    assert (row["error"] or {}).get("code") == code
    assert [row["custom_id"] for row in await lab.rows(batch.output_file_id)] == ["good"]


async def test_a_directive_can_be_used_up(lab: Lab) -> None:
    """`times=1` fails the first run of a body and answers the next."""
    line = frame("a", chat("x [sandbox: status=429 times=1]"))
    first = await lab.ended(await lab.create(line))
    second = await lab.ended(await lab.create(line))

    assert (first.output_file_id, second.error_file_id) == (None, None)


@pytest.mark.parametrize(("words", "line"), [("poison", 3), ("poison line=no", None)])
async def test_one_poisoned_line_fails_the_batch(lab: Lab, words: str, line: int | None) -> None:
    """`poison` fails the whole batch in validation, naming the line by its number unless told not to."""
    texts = ["a", "b", f"c [sandbox: {words}]", "d"]
    batch = await lab.ended(await lab.create(*(frame(text[0], chat(text)) for text in texts)))
    submissions = await lab.simulator.submissions()

    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert [problem.line for problem in batch.errors.data] == [line]
    assert (submissions.lines, submissions.accepted_lines, submissions.refused_batches) == (4, 0, 1)


async def test_a_delay_passes_on_the_clock(lab: Lab) -> None:
    """DELAY waits on the simulator's clock before it acts."""
    before = lab.clock.monotonic()
    lab.simulator.faults.order(Fault(kind=FaultKind.DELAY, operation=Operation.LIST, seconds=60))
    await lab.sdk.batches.list()

    assert lab.clock.monotonic() - before == 60


async def test_lines_can_fail_by_what_they_say(lab: Lab) -> None:
    """LINE fails the lines that contain a text, as often as ordered."""
    lab.simulator.faults.order(Fault(kind=FaultKind.LINE, contains="cat", status=500, times=1))
    lines = [frame(name, chat(f"about {name}")) for name in ("dog", "cat")]
    first, second = [await lab.ended(await lab.create(*lines)) for _ in range(2)]

    assert [row["custom_id"] for row in await lab.rows(first.error_file_id)] == ["cat"]
    assert second.error_file_id is None


async def test_jitter_spreads_the_ends_of_batches(lab: Lab) -> None:
    """With jitter, batches created together do not all end together."""
    lab.simulator.settings = replace(lab.simulator.settings, jitter=0.5)
    created = [await lab.create(frame("a", chat(str(n)))) for n in range(12)]
    lab.clock.jump(120)
    states = {(await lab.sdk.batches.retrieve(batch.id)).status for batch in created}

    assert {"completed", "in_progress"} <= states


def _parses(row: bytes) -> bool:
    try:
        return bool(orjson.loads(row))
    except orjson.JSONDecodeError:
        return False
