"""The gateway is told to stop: callers are sent away so that they come again, and nothing of theirs is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path

import httpx2
import pytest
from structlog.testing import capture_logs

from gateway.clock import SystemClock
from gateway.errors import StorageFull
from gateway.records import BatchState
from gateway.sandbox import Fault, FaultKind
from gateway_openai.sandbox import OpenAISimulator
from tests.integration.callers import HASTY, HELD_BACK, begin, sample, waiting
from tests.integration.house import MODEL, QUICK, House, messages, open_house

#: A stop that has not come to its end by then hangs.
HANGS_SECONDS = 20


@pytest.fixture
def simulator() -> OpenAISimulator:
    """A provider that outlives the gateway."""
    return OpenAISimulator(clock=SystemClock(), name="sim", settings=QUICK)


async def stop(house: House) -> None:
    """Stop the gateway while its callers look on."""
    async with asyncio.timeout(HANGS_SECONDS):
        await house.gateway.stop()


async def test_callers_in_grace_are_told_to_come_again(tmp_path: Path, simulator: OpenAISimulator) -> None:
    """Who was promised nothing yet gets 503 with Retry-After: 5, and finds its request, paid once, after the next start."""
    async with open_house(tmp_path, simulator=simulator, batching=HELD_BACK) as house:
        asked = [begin(house, f"question {number}") for number in range(20)]
        await waiting(house, 20)
        await stop(house)
        answers = await asyncio.gather(*asked)

    assert {(answer.status, answer.code) for answer in answers} == {(503, "stopping")}
    assert {answer.headers["retry-after"] for answer in answers} == {"5"}
    assert all("x-should-retry" not in answer.headers for answer in answers)
    async with open_house(tmp_path, simulator=simulator) as house:
        again = await asyncio.gather(*(house.ask(f"question {number}") for number in range(20)))
        assert all(f"question {number}" in answer.text for number, answer in enumerate(again))
        assert all(not answer.headers["x-batchway-cache"].startswith("miss") for answer in again)
        assert await house.lines() == 20


@pytest.mark.parametrize("stream", [False, True])
async def test_callers_who_were_told_200_are_cut_off(
    tmp_path: Path, simulator: OpenAISimulator, *, stream: bool
) -> None:
    """A caller that has its 200 already loses its connection: it cannot take blanks, or half a stream, for an answer."""
    async with open_house(tmp_path, simulator=simulator, batching=HELD_BACK) as house:
        body = {"model": MODEL, "messages": messages("committed"), "stream": stream}
        async with house.http.stream("POST", "/v1/chat/completions", json=body, headers=HASTY) as response:
            assert response.status_code == 200
            stopping = asyncio.create_task(stop(house))
            with pytest.raises(httpx2.TransportError):
                await response.aread()
            await stopping
    async with open_house(tmp_path, simulator=simulator) as house:
        assert "committed" in (await house.ask("committed")).text
        assert await house.lines() == 1


async def test_who_waits_for_a_result_by_name_is_sent_away_too(tmp_path: Path, simulator: OpenAISimulator) -> None:
    """A caller that waits at /v1/results gets 503 with Retry-After: 5 as well."""
    async with open_house(tmp_path, simulator=simulator, batching=HELD_BACK) as house:
        name = {"x-batchway-custom-id": "mine", "Prefer": "respond-async"}
        await house.ask("by name", headers=name)
        asked = asyncio.create_task(house.http.get("/v1/results/mine", headers={"Prefer": "wait=60"}))
        await waiting(house, 1)
        await stop(house)
        answer = await asked

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


async def test_a_full_disk_does_not_keep_callers_from_being_sent_away(
    tmp_path: Path, simulator: OpenAISimulator
) -> None:
    """When the last marks cannot be written, callers in grace get their 503 all the same, and the stop comes to its end."""

    async def full(*_: object) -> None:
        raise StorageFull("no room")

    async with open_house(tmp_path, simulator=simulator, batching=HELD_BACK) as house:
        asked = begin(house, "full")
        await waiting(house, 1)
        house.gateway.ledger.requests.depart = full  # type: ignore[method-assign, assignment]
        await stop(house)

        assert (await asked).status == 503


async def test_a_delivery_that_is_being_noted_when_the_stop_comes_counts_once(
    tmp_path: Path, simulator: OpenAISimulator
) -> None:
    """Stopped while deliveries are being committed, the gateway counts each once: samples go on in turn after the start."""
    async with open_house(tmp_path, simulator=simulator) as house:
        await asyncio.gather(house.ask("turns"), house.ask("turns"))
        await house.ask("turns")
        await house.gateway.waiters.fold()
        await house.ask("turns")
        noting = asyncio.create_task(house.gateway.waiters.fold())
        await asyncio.sleep(0)
        noting.cancel()
    async with open_house(tmp_path, simulator=simulator) as house:
        given = [sample(await house.ask("turns")) for _ in range(4)]

    assert given == [f"hit; sample={number}; of=2" for number in (1, 2, 1, 2)]


async def test_a_call_that_is_being_recorded_is_sent_away(
    tmp_path: Path, simulator: OpenAISimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commit may go through or not; its caller gets 503, and the stop does not wait for it."""
    recording = asyncio.Event()

    async def for_ever(*_: object) -> None:
        recording.set()
        await asyncio.Event().wait()

    async with open_house(tmp_path, simulator=simulator, batching=HELD_BACK) as house:
        monkeypatch.setattr(house.gateway.ledger.requests, "admit", for_ever)
        asked = begin(house, "on the threshold")
        await recording.wait()
        await stop(house)

        assert ((await asked).status, (await asked).code) == (503, "stopping")


async def test_a_call_that_is_about_to_be_recorded_is_sent_away(tmp_path: Path, simulator: OpenAISimulator) -> None:
    """The stop comes between a call and the first step of its commit: its caller gets 503 all the same."""
    async with open_house(tmp_path, simulator=simulator, batching=HELD_BACK) as house:
        tasks, stopping = house.gateway.tasks, asyncio.Event()
        spawn = tasks.spawn

        def spawn_and_cancel(name: str, coroutine: Coroutine[object, object, object]) -> asyncio.Task[object]:
            task = spawn(name, coroutine)
            if name == "intake.admit":
                task.cancel()
                stopping.set()
            return task

        tasks.spawn = spawn_and_cancel  # type: ignore[method-assign, assignment]
        asked = begin(house, "on the threshold")
        await stopping.wait()
        await stop(house)

        assert ((await asked).status, (await asked).code) == (503, "stopping")


async def test_a_caller_who_has_not_said_all_is_not_waited_for(tmp_path: Path, simulator: OpenAISimulator) -> None:
    """Half a body is on the way when the stop comes: it ends all the same, long before the time for bodies is over."""
    async with open_house(tmp_path, simulator=simulator) as house:
        port = int(house.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        await house.until(lambda: _handled(house))
        await stop(house)

        assert await reader.read() == b""
        writer.close()


async def test_stop_and_start_say_what_they_leave_and_find(tmp_path: Path, simulator: OpenAISimulator) -> None:
    """The stop tells how many callers it sent away, the start how many requests it finds queued, and how many batches open."""
    simulator.faults.order(Fault(kind=FaultKind.ENDLESS, times=None))
    with capture_logs() as logs:
        async with open_house(tmp_path, simulator=simulator, batching=HELD_BACK) as house:
            asked = [begin(house, f"question {number}") for number in range(3)]
            await waiting(house, 3)
            await stop(house)
            await asyncio.gather(*asked)
        async with open_house(tmp_path, simulator=simulator) as house:
            await house.until(lambda: _submitted(house))
            await stop(house)
        async with open_house(tmp_path, simulator=simulator) as house:
            await stop(house)
    found = [(log["queued"], log["open_batches"]) for log in logs if log["event"] == "resumed"]
    sent_away = [log["callers_sent_away"] for log in logs if log["event"] == "stopped"]
    assert found == [(0, 0), (3, 0), (0, 1)]
    assert sent_away[0] == 3
    assert not any(sent_away[1:])


async def test_what_does_not_close_does_not_keep_the_ledger_open(
    tmp_path: Path, simulator: OpenAISimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider that hangs, or fails, when it is closed is named, and the ledger is closed all the same."""
    monkeypatch.setattr("gateway.app.CLOSE_SECONDS", 0.01)
    enough = asyncio.Event()

    async def hang() -> None:
        await enough.wait()

    async def fail() -> None:
        raise OSError("broken")

    for closing, event in ((hang, "not_closed"), (fail, "errand_failed")):
        with capture_logs() as logs:
            async with open_house(tmp_path, simulator=simulator) as house:
                monkeypatch.setattr(house.gateway.router, "aclose", closing)
                try:
                    await stop(house)
                finally:
                    enough.set()
        assert event in [log["event"] for log in logs]
        assert "stopped" in [log["event"] for log in logs]


async def _submitted(house: House) -> bool:
    """Whether a batch is with the provider."""
    return bool(await house.gateway.ledger.batches.listed([BatchState.SUBMITTED]))


async def _handled(house: House) -> bool:
    """Whether the headers of a call have come in on every connection."""
    runner = house.gateway._runner
    assert runner is not None
    assert runner.server is not None
    return any(handler._request_in_progress for handler in runner.server.connections)


async def test_a_stopped_gateway_takes_nothing_on(tmp_path: Path, simulator: OpenAISimulator) -> None:
    """A call that comes when the stop is over finds no listener: it was not accepted, and nobody may think so."""
    async with open_house(tmp_path, simulator=simulator) as house:
        await stop(house)
        with pytest.raises(httpx2.TransportError):
            await house.ask("too late")
