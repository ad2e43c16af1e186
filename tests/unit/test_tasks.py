"""Tasks are named, kept and watched, and leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from gateway.tasks import Tasks, wait_for_event
from gateway.testing import FakeClock


class Heard:
    """What the callbacks were told."""

    def __init__(self) -> None:
        self.deaths: list[tuple[str, BaseException]] = []
        self.faults: list[tuple[str, BaseException]] = []
        self.tasks = Tasks(
            on_death=lambda name, error: self.deaths.append((name, error)),
            on_fault=lambda name, error: self.faults.append((name, error)),
        )


async def fails(error: Exception) -> None:
    """Fail after a turn of the loop."""
    await asyncio.sleep(0)
    raise error


@pytest.fixture(name="heard")
def _heard() -> Heard:
    return Heard()


async def test_a_dead_worker_is_reported(heard: Heard) -> None:
    """A worker that raises is reported with its name and its error, at once."""
    error = ValueError("gone")
    task = heard.tasks.start("poller", fails(error))
    await asyncio.wait([task])

    assert heard.deaths == [("poller", error)]
    assert heard.faults == []


async def test_a_failed_errand_is_reported_and_stops_nothing(heard: Heard) -> None:
    """An errand that raises is reported as a fault, and whoever awaits it gets the error."""
    error = ValueError("lost")
    task = heard.tasks.spawn("discard", fails(error))

    with pytest.raises(ValueError, match="lost"):
        await task
    assert heard.faults == [("discard", error)]
    assert heard.deaths == []


async def test_an_errand_gives_its_outcome(heard: Heard) -> None:
    """What an errand returns reaches the one who awaits it, and nothing is reported."""

    async def answer() -> int:
        return 42

    assert await heard.tasks.spawn("answer", answer()) == 42
    assert heard.faults == []


async def test_tasks_nobody_holds_are_kept(heard: Heard) -> None:
    """A task whose handle was dropped is not collected while it waits."""
    waited_for: list[weakref.ref[asyncio.Future[None]]] = []

    async def waits() -> None:
        future = asyncio.get_running_loop().create_future()
        waited_for.append(weakref.ref(future))
        await future

    heard.tasks.spawn("waits", waits())
    await asyncio.sleep(0)
    gc.collect()

    assert waited_for[0]() is not None
    assert heard.tasks.names() == ["waits"]
    await heard.tasks.cancel_all()


async def test_cancelling_all_waits_for_the_last(heard: Heard) -> None:
    """After `cancel_all` nothing runs, what was started while cancelling included, and no death is reported."""
    ended: list[str] = []

    async def late() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("late")

    async def worker() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            heard.tasks.spawn("late", late())
            ended.append("worker")

    heard.tasks.start("worker", worker())
    await asyncio.sleep(0)
    assert heard.tasks.names() == ["worker"]
    await heard.tasks.cancel_all()

    assert "worker" in ended
    assert heard.tasks.names() == []
    assert heard.deaths == []


async def test_one_task_may_cancel_all_others(heard: Heard) -> None:
    """A task that stops the rest is not waiting for itself."""

    async def stops() -> str:
        await heard.tasks.cancel_all()
        return "stopped"

    other = heard.tasks.start("other", wait_for_ever())

    assert await heard.tasks.spawn("stops", stops()) == "stopped"
    assert other.cancelled()


async def test_who_does_not_let_go_is_named_and_left_to_himself(heard: Heard) -> None:
    """A task that goes on when it is cancelled holds up the stop for a bounded time only; all others have ended by then."""
    enough, cancels = asyncio.Event(), 0

    async def stubborn() -> None:
        nonlocal cancels
        while not enough.is_set():
            try:
                await enough.wait()
            except asyncio.CancelledError:
                cancels += 1

    async def worker() -> None:
        try:
            await wait_for_ever()
        finally:
            heard.tasks.spawn("late", wait_for_ever())

    left_alone = heard.tasks.spawn("poll.1", stubborn())
    heard.tasks.start("worker", worker())
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(10):
            stubborn_ones = await heard.tasks.cancel_all(seconds=0.5)
        assert stubborn_ones == ["poll.1"] == heard.tasks.names()
        assert cancels == 1
    finally:
        enough.set()
        await left_alone


async def wait_for_ever() -> None:
    """Never return."""
    await asyncio.Event().wait()


async def test_an_event_ends_the_wait() -> None:
    """Setting the event ends the wait at once, without the clock being turned, and leaves no sleeper behind."""
    clock, event = FakeClock(), asyncio.Event()
    waiting = asyncio.ensure_future(wait_for_event(clock, event, 60))
    await clock.settle()
    assert not waiting.done()
    event.set()

    assert await waiting is True
    assert event.is_set()
    assert clock.sleeping() == 0


async def test_time_ends_the_wait() -> None:
    """Without the event the wait ends when its time is up, not before."""
    clock, event = FakeClock(), asyncio.Event()
    waiting = asyncio.ensure_future(wait_for_event(clock, event, 60))
    await clock.advance(59)
    assert not waiting.done()
    await clock.advance(1)

    assert await waiting is False


async def test_an_event_set_before_needs_no_time() -> None:
    """An event that is set already is not waited for."""
    event = asyncio.Event()
    event.set()

    assert await wait_for_event(FakeClock(), event, 60) is True


async def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    """Cancelling the wait cancels what it waits for."""
    clock, event = FakeClock(), asyncio.Event()
    before = len(asyncio.all_tasks())
    waiting = asyncio.ensure_future(wait_for_event(clock, event, 60))
    await clock.settle()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert clock.sleeping() == 0
    assert len(asyncio.all_tasks()) == before
