"""What a call leaves behind when it is over, and that a full disk ends no worker."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from gateway.endings import cancelled
from gateway.errors import StorageFull
from gateway.pipeline.intake import Accepted, Incoming, Intake
from gateway.records import RequestState
from tests.unit.house import HURRIED, House, open_house, question, request_bytes


async def test_an_ending_before_the_wait_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that ends between its commit and the waiting is told with its true status; nobody says it again."""
    async with open_house(tmp_path) as house:
        ledger = house.gateway.ledger
        accept = Intake.accept

        async def accept_and_end(intake: Intake, incoming: Incoming) -> Accepted:
            accepted = await accept(intake, incoming)
            await ledger.requests.cancel(accepted.admission.seq, house.clock.now(), cancelled())
            return accepted

        monkeypatch.setattr(Intake, "accept", accept_and_end)
        answer = await house.exchange(request_bytes(body=question(), headers=HURRIED))
        assert answer.status == 410


async def test_a_served_sample_leaves_nothing_behind(tmp_path: Path) -> None:
    """Once its delivery is committed a stored sample is not taken for one that is being delivered."""
    async with open_house(tmp_path) as house:
        house.remote.turnaround_seconds = 5.0
        await asked(house)
        for _ in range(3):
            assert b"choices" in (await house.exchange(request_bytes(body=question()))).body
            await house.gateway.waiters.fold()
        assert house.gateway.waiters.unfolded == 0


async def test_a_failure_that_was_cut_off_is_owed_to_whoever_asks(tmp_path: Path) -> None:
    """A caller that was cut off is told the reason when it asks again, also without saying that it does."""
    async with open_house(tmp_path) as house:
        caller = await house.caller()
        await caller.send(request_bytes(body=question(), headers=HURRIED))
        [seq] = await house.waiting()
        assert (await caller.head())[1] == 200
        ending = cancelled()
        await house.gateway.ledger.requests.cancel(seq, house.clock.now(), ending)
        house.gateway.waiters.wake({seq: ending})
        await house.left()
        assert (await house.exchange(request_bytes(body=question(), headers=HURRIED))).status == 410


async def asked(house: House) -> dict[str, object]:
    """The answer to one question, however long it takes."""
    caller = await house.caller()
    await caller.send(request_bytes(body=question(), headers={"x-stainless-read-timeout": "600"}))
    await house.waiting()
    await house.walk()
    answer: dict[str, object] = orjson.loads((await caller.answer()).body)
    return answer


async def test_a_full_disk_ends_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the ledger cannot write, every worker waits; when it can, a request goes its way as ever."""
    async with open_house(tmp_path) as house:
        house.remote.turnaround_seconds = 5.0
        requests = house.gateway.ledger.requests
        with monkeypatch.context() as broken:
            for name in ("ripen", "give_up", "depart"):
                broken.setattr(requests, name, full)
            for _ in range(40):
                await house.clock.advance(1.0)
        assert (await asked(house))["choices"]
        assert (await requests.listed(None))[0].state is RequestState.SUCCEEDED


async def full(*_: object) -> None:
    """A write without room."""
    raise StorageFull("no room")
