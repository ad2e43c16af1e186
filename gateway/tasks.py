"""Named, supervised asyncio tasks: the only place that makes any.

Floor 1. The event loop keeps only weak references to tasks, and an exception in a forgotten one shows up when it is
collected, if ever. Here every task is kept, named and watched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TypeVar

from gateway.clock import Clock

Outcome = TypeVar("Outcome")

#: A task that was cancelled has so long to end.
LET_GO_SECONDS = 3.0
#: While all are being cancelled, those that were started meanwhile are looked for this often.
LOOK_SECONDS = 0.25

#: Told the task's name and what it died of.
OnFault = Callable[[str, BaseException], None]


class Tasks:
    """The tasks of one gateway. `start` is for workers it cannot live without, `spawn` for short errands."""

    def __init__(self, on_death: OnFault, on_fault: OnFault) -> None:
        """`on_death` hears of workers that raised: log it and stop the process. `on_fault` hears of errands: log it."""
        self._on_death = on_death
        self._on_fault = on_fault
        self._running: set[asyncio.Task[object]] = set()

    def start(self, name: str, coroutine: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run a worker until it returns or is cancelled. If it raises, `on_death` is called."""
        return self._keep(name, coroutine, self._on_death)

    def spawn(self, name: str, coroutine: Coroutine[object, object, Outcome]) -> asyncio.Task[Outcome]:
        """Run an errand. If it raises, `on_fault` is called; whoever awaits the task gets the exception too."""
        return self._keep(name, coroutine, self._on_fault)

    def names(self) -> list[str]:
        """What is running now, in order of name."""
        return sorted(task.get_name() for task in self._running)

    async def cancel_all(self, seconds: float = LET_GO_SECONDS) -> list[str]:
        """Cancel every task but the one that calls, those started meanwhile too, and return when all have ended.

        After `seconds` (of the loop's time) they are left to themselves: what runs in a plugin may swallow its cancellation and
        go on. Returns their names.
        """
        loop, told = asyncio.get_running_loop(), set[asyncio.Task[object]]()
        end = loop.time() + seconds
        while others := self._running - {asyncio.current_task()}:
            left = end - loop.time()
            if left <= 0:
                break
            # Each once: a second time would break off what it writes down at its end.
            for task in others - told:
                task.cancel()
            told |= others
            await asyncio.wait(others, timeout=min(left, LOOK_SECONDS))
        return sorted(task.get_name() for task in others)

    def _keep(
        self, name: str, coroutine: Coroutine[object, object, Outcome], on_exception: OnFault
    ) -> asyncio.Task[Outcome]:
        def ended(task: asyncio.Task[Outcome]) -> None:
            self._running.discard(task)
            error = None if task.cancelled() else task.exception()
            if error is not None:
                on_exception(name, error)

        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._running.add(task)
        task.add_done_callback(ended)
        return task


async def wait_for_event(clock: Clock, event: asyncio.Event, seconds: float) -> bool:
    """Return as soon as `event` is set, or after `seconds` of `clock`; whether it is set. Clears nothing, leaves nothing."""
    if event.is_set():
        return True
    loop = asyncio.get_running_loop()
    waits = {
        loop.create_task(_set(event), name="wait for event"),
        loop.create_task(clock.sleep(seconds), name="wait for time"),
    }
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
    return event.is_set()


async def _set(event: asyncio.Event) -> None:
    await event.wait()
