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

    async def cancel_all(self) -> None:
        """Cancel every task but the one that calls, and return when all have ended, those started meanwhile too."""
        while others := self._running - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.wait(others)

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
