"""Cancelling over HTTP, in every state: what was not sent ends at once and costs nothing, what was answered is delivered."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.config import Server
from gateway.endpoints.keys import TOKEN_FILE
from gateway.pipeline import janitor
from gateway.pipeline.janitor import ABANDONED_SECONDS
from gateway.records import BatchState, RequestState
from gateway.sandbox import Fault, FaultKind, Operation
from tests.integration.callers import HELD_BACK, begin, finish, hang_up, waiting
from tests.integration.house import Answered, House, open_house, patient

MINE, YOURS = {"x-batchway-custom-id": "mine"}, {"x-batchway-custom-id": "yours"}


@pytest.fixture(autouse=True)
def _busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The janitor goes round all the time."""
    monkeypatch.setattr(janitor, "TICK_SECONDS", 0.02)


async def rounds(house: House) -> None:
    """Return when the janitor has been round since now: what it is told to forget is gone."""
    ledger = house.gateway.ledger
    seen = 0

    async def forget(*_: object) -> int:
        nonlocal seen
        seen += 1
        return 0

    ledger.requests.forget = forget  # type: ignore[method-assign]

    async def twice() -> bool:
        return seen > 1

    await house.until(twice)


async def reached(house: House, state: str) -> None:
    """Return when the batch of the request called `mine` is in this state."""

    async def there() -> bool:
        pending = await house.http.get("/v1/results/mine")
        return pending.json().get("batch_state") == state

    await house.until(there)


async def finish_all(house: House) -> None:
    """Let every batch at the provider end now."""
    for remote_id in list(house.simulator.store.batches):
        await house.simulator.finish(remote_id)


async def pair(house: House) -> list[asyncio.Task[Answered]]:
    """Two calls in one window."""
    asked = [begin(house, "one", headers=MINE), begin(house, "two", headers=YOURS)]
    await waiting(house, 2)
    house.gateway.batcher.flush()
    return asked


async def delete(house: House, name: str = "mine") -> tuple[int, str, bool]:
    """What DELETE says: its status, the request's state, whether it is being cancelled."""
    answer = await house.http.delete(f"/v1/results/{name}")
    body = answer.json()
    return answer.status_code, body["state"], body["cancelling"]


async def cancel_batch(house: House, directory: Path, number: int) -> dict[str, int]:
    """What the operator is told who cancels a batch."""
    headers = {"Authorization": f"Bearer {(directory / TOKEN_FILE).read_text().strip()}"}
    told: dict[str, int] = (await house.http.post("/ops/cancel", json={"batch_id": number}, headers=headers)).json()
    return told


async def test_one_of_a_batch_that_was_not_sent_is_left_out(tmp_path: Path) -> None:
    """A request that is cancelled while its sealed batch waits ends without cost; the others of the batch are sent."""
    async with open_house(tmp_path, batching=HELD_BACK) as house:
        house.simulator.faults.order(Fault(kind=FaultKind.STATUS, operation=Operation.UPLOAD, status=503, times=None))
        mine, yours = await pair(house)
        await reached(house, "sealed")
        assert await delete(house) == (202, "batched", True)
        # Wished twice: while it is under way, or once it is done.
        assert (await delete(house))[0] in (202, 200)
        house.clock.jump(400)
        assert (await mine).code == "cancelled"
        house.simulator.faults.clear()
        house.gateway.batcher.flush()
        while not yours.done():
            house.clock.jump(60)
            house.gateway.batcher.flush()
            await asyncio.sleep(0.05)
        assert (await yours).status == 200
        assert await house.lines() == 1
        assert await house.wasted_and_billed() == (0, 1)


async def test_one_of_a_batch_at_the_provider_is_answered_all_the_same(tmp_path: Path) -> None:
    """In flight only a whole batch is stopped: of one line of two the answer comes, is paid, and beats the cancel."""
    async with open_house(tmp_path, batching=HELD_BACK) as house:
        house.simulator.faults.order(Fault(kind=FaultKind.ENDLESS))
        mine, yours = await pair(house)
        await reached(house, "submitted")
        assert (await delete(house))[0] == 202
        await rounds(house)
        await finish_all(house)
        assert [answered.status for answered in await asyncio.gather(mine, yours)] == [200, 200]
        assert await delete(house) == (200, "succeeded", False)
        assert await house.wasted_and_billed() == (0, 2)


@pytest.mark.parametrize(("how", "state"), [("each", "submitted"), ("batch", "submitted"), ("each", "submitting")])
async def test_a_batch_that_nobody_wants_is_stopped(how: str, state: str, tmp_path: Path) -> None:
    """When every request of a batch is cancelled, one by one or by the operator, the provider is told; what was done is paid."""
    async with open_house(tmp_path, batching=HELD_BACK) as house:
        house.simulator.faults.order(Fault(kind=FaultKind.ENDLESS))
        house.simulator.faults.order(Fault(kind=FaultKind.DELAY, operation=Operation.CREATE, seconds=0.5))
        asked = await pair(house)
        await reached(house, state)
        if how == "each":
            await delete(house)
            await delete(house, "yours")
        else:
            number = (await house.http.get("/v1/results/mine")).json()["batch_id"]
            assert await cancel_batch(house, tmp_path, number) == {"batch_id": number, "cancelling": 2}
            assert (await cancel_batch(house, tmp_path, number)).get("cancelling", 0) == 0
        assert [answered.code for answered in await finish(house, *asked)] == ["cancelled"] * 2
        assert [batch.cancelled is not None for batch in house.simulator.store.batches.values()] == [True]
        assert await house.lines() == 2


@pytest.mark.parametrize("headers", [{}, MINE], ids=["unnamed", "named"])
async def test_a_call_after_a_cancel_is_asked_for_anew(headers: dict[str, str], tmp_path: Path) -> None:
    """Whoever asks again while a cancel is under way gets an answer; what was cancelled ends as cancelled, under its own id."""
    async with open_house(tmp_path, batching=HELD_BACK) as house:
        house.simulator.faults.order(Fault(kind=FaultKind.ENDLESS))
        house.simulator.faults.order(Fault(kind=FaultKind.STATUS, operation=Operation.CANCEL, status=503))
        gone = begin(house, "again", headers=headers)
        await waiting(house, 1)
        house.gateway.batcher.flush()

        async def sent() -> bool:
            [first] = await house.gateway.ledger.requests.listed(None)
            return first.batch_state is BatchState.SUBMITTED

        await house.until(sent)
        [first] = await house.gateway.ledger.requests.listed(None)
        assert (await house.http.delete(f"/v1/results/{first.custom_id}")).status_code == 202
        await hang_up(house, gone)
        again = begin(house, "again", headers=headers)
        await waiting(house, 1)
        [answered] = await finish(house, again)
        assert answered.status == 200

        async def over() -> bool:
            house.clock.jump(60)
            await asyncio.sleep(0.05)
            [old, _] = await house.gateway.ledger.requests.listed(None)
            return old.state is RequestState.CANCELLED

        await house.until(over, seconds=60)


async def test_a_cancel_while_the_create_is_in_doubt(tmp_path: Path) -> None:
    """What nobody wants and nobody finds is not sent again: one create call, whose batch was never made, and no line paid."""
    async with open_house(tmp_path, batching=HELD_BACK, retries=patient(quarantine_seconds=1_000)) as house:
        house.simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.CREATE, when="before"))
        asked = await pair(house)
        await reached(house, "reconciling")
        assert (await delete(house))[:2] == (202, "batched")
        await delete(house, "yours")
        over = asyncio.gather(*asked)
        await house.skip_until(over)
        assert [answered.code for answered in await over] == ["cancelled"] * 2
        assert await house.lines() == 0


async def test_a_cancel_in_doubt_does_not_hide_what_was_made(tmp_path: Path) -> None:
    """What nobody wants and what is found after all is stopped there, and what it had answered is delivered."""
    async with open_house(tmp_path, batching=HELD_BACK, retries=patient(quarantine_seconds=1_000)) as house:
        faults = house.simulator.faults
        faults.order(Fault(kind=FaultKind.CUT, operation=Operation.CREATE, when="after"))
        faults.order(Fault(kind=FaultKind.STATUS, operation=Operation.LIST, status=503, times=3))
        asked = await pair(house)
        await reached(house, "reconciling")
        await delete(house)
        await delete(house, "yours")
        over = asyncio.gather(*asked)
        await house.skip_until(over)
        assert [answered.status for answered in await over] == [200, 200]
        assert (await house.lines(), await house.wasted_and_billed()) == (2, (0, 2))


async def test_a_cancel_while_results_are_fetched_comes_too_late(tmp_path: Path) -> None:
    """A batch that has ended is paid: whoever cancels then gets the answer."""
    async with open_house(tmp_path, batching=HELD_BACK) as house:
        house.simulator.faults.order(Fault(kind=FaultKind.STATUS, operation=Operation.FETCH, status=503, times=2))
        asked = await pair(house)
        await reached(house, "ended")
        assert (await delete(house))[:2] == (202, "batched")
        over = asyncio.gather(*asked)
        await house.skip_until(over)
        assert [answered.status for answered in await over] == [200, 200]
        assert await house.wasted_and_billed() == (0, 2)


async def test_whoever_waits_at_the_results_keeps_its_request(tmp_path: Path) -> None:
    """With on_disconnect = "cancel" a caller that was cut off, and waits for its result by name, gets it."""
    async with open_house(tmp_path, batching=HELD_BACK, server=Server(port=0, on_disconnect="cancel")) as house:
        gone = begin(house, "gone", headers=MINE)
        await waiting(house, 1)
        await hang_up(house, gone)
        await house.gateway.waiters.fold()
        reader = asyncio.create_task(house.http.get("/v1/results/mine", headers={"Prefer": "wait=300"}))
        await waiting(house, 1)
        house.clock.jump(ABANDONED_SECONDS + 1)
        await rounds(house)
        house.gateway.batcher.flush()
        assert (await reader).status_code == 200


@pytest.mark.parametrize("on_disconnect", ["keep", "cancel"])
async def test_who_hangs_up_cancels_only_what_is_queued(on_disconnect: str, tmp_path: Path) -> None:
    """With on_disconnect = "cancel" a queued request is gone two minutes after its last caller; kept otherwise, or once sent."""
    async with open_house(tmp_path, batching=HELD_BACK, server=Server(port=0, on_disconnect=on_disconnect)) as house:
        gone = begin(house, "gone", headers=MINE)
        await waiting(house, 1)
        await hang_up(house, gone)
        await house.gateway.waiters.fold()
        house.clock.jump(ABANDONED_SECONDS + 1)
        await rounds(house)
        stored = await house.http.get("/v1/results/mine")
        assert stored.status_code == (410 if on_disconnect == "cancel" else 202)
        sent = begin(house, "sent", headers=YOURS)
        await waiting(house, 1)
        house.simulator.faults.order(Fault(kind=FaultKind.ENDLESS))
        house.gateway.batcher.flush()

        async def under_way() -> bool:
            return (await house.http.get("/v1/results/yours")).json().get("batch_state") == "submitted"

        await house.until(under_way)
        await hang_up(house, sent)
        await house.gateway.waiters.fold()
        house.clock.jump(ABANDONED_SECONDS + 1)
        await rounds(house)
        await finish_all(house)

        async def answered() -> bool:
            return (await house.http.get("/v1/results/yours")).status_code == 200

        await house.until(answered)
