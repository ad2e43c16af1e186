"""However a request ends, the metric of endings counts it once: what was accepted and what has ended meet."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from gateway.endpoints.keys import TOKEN_FILE
from gateway.sandbox import Fault, FaultKind, Operation
from tests.integration.callers import HELD_BACK
from tests.integration.house import House, open_house


async def counted(house: House) -> tuple[int, Counter[str]]:
    """How many were accepted, and how many have ended in which state."""
    text = (await house.http.get("/metrics")).text
    [accepted] = re.findall(r'^batchway_requests_accepted_total\{provider="sim"\} (\S+)$', text, re.MULTILINE)
    ended = re.findall(r'^batchway_requests_ended_total\{provider="sim",state="(\w+)"\} (\S+)$', text, re.MULTILINE)
    return int(float(accepted)), Counter({state: int(float(count)) for state, count in ended})


async def later(house: House, name: str, text: str = "hello") -> None:
    """Leave a request, and do not wait for it."""
    await house.ask(f"{text} from {name}", headers={"Prefer": "respond-async", "x-batchway-custom-id": name})


async def until_ended(house: House, states: dict[str, int]) -> None:
    """Return when so many have ended so; and then they do not become more."""

    async def there() -> bool:
        return (await counted(house))[1] == states

    await house.until(there)
    await house.gateway.waiters.sweep()
    assert (await counted(house)) == (sum(states.values()), states)


async def test_cancelled_by_its_client_and_by_the_operator(tmp_path: Path) -> None:
    """What is queued ends by the wish, which is counted once, however often it is wished."""
    async with open_house(tmp_path, batching=HELD_BACK) as house:
        operator = {"Authorization": f"Bearer {(tmp_path / TOKEN_FILE).read_text().strip()}"}
        for name in ("one", "two"):
            await later(house, name)
        for _ in range(2):
            await house.http.delete("/v1/results/one")
            await house.http.post("/ops/cancel", json={"custom_id": "two"}, headers=operator)
        await until_ended(house, {"cancelled": 2})


async def test_cancelled_in_a_batch_that_was_not_sent(tmp_path: Path) -> None:
    """A line that is left out of a sealed batch ends there."""
    async with open_house(tmp_path, batching=HELD_BACK) as house:
        house.simulator.faults.order(Fault(kind=FaultKind.STATUS, operation=Operation.UPLOAD, status=503, times=None))
        await later(house, "one")
        house.gateway.batcher.flush()

        async def sealed() -> bool:
            return (await house.http.get("/v1/results/one")).json()["batch_state"] == "sealed"

        await house.until(sealed)
        await house.http.delete("/v1/results/one")

        async def over() -> bool:
            house.clock.jump(60)
            return (await house.http.get("/v1/results/one")).status_code == 410

        await house.until(over)
        await until_ended(house, {"cancelled": 1})


async def test_answered_and_refused_when_submitted(tmp_path: Path) -> None:
    """An answer is counted as before; requests of a batch that is refused end without a line, and are counted too."""
    async with open_house(tmp_path) as house:
        assert (await house.ask("fine")).status == 200
        await until_ended(house, {"succeeded": 1})
        house.simulator.faults.order(Fault(kind=FaultKind.STATUS, operation=Operation.CREATE, status=400, times=None))
        assert (await house.ask("poison")).status == 400
        await until_ended(house, {"succeeded": 1, "failed": 1})
