"""An event loop on which no time passes by itself: when nothing is ready, it jumps to the next timer.

What is ready runs in a seeded order. Work for threads runs inline, at a seeded moment. A crash is the end of the loop:
whatever is under way stays where it is and is never resumed.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import warnings
from collections import deque
from collections.abc import Callable, Coroutine
from random import Random
from typing import TypeVar, cast

Outcome = TypeVar("Outcome")

#: Cancelled timers are swept out of the heap when there are more of them than this.
_CANCELLED_AT_MOST = 200


class Crashed(BaseException):
    """The process died."""


class SimulatedTask(asyncio.Task[Outcome]):
    """A task whose place in a set does not depend on its address: sets of tasks are walked in the same order every time."""

    def __init__(self, coroutine: Coroutine[object, object, Outcome], number: int, **options: object) -> None:
        self._number = number
        super().__init__(coroutine, **options)  # type: ignore[arg-type]

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class SimulatedLoop(asyncio.BaseEventLoop):
    """One life of the process. `random` decides the order of what is ready."""

    def __init__(
        self, random: Random, begins_at: float, *, shuffled: bool, moment: Callable[[str], bool] = lambda _: False
    ) -> None:
        super().__init__()
        self.random = random
        #: Told of each moment at which the process may die; whether it does.
        self.moment = moment
        self.steps = 0
        self._numbers = itertools.count()
        self._now = begins_at
        self._shuffled = shuffled
        self._dead = False
        self._until = float("inf")
        self._tasks: set[SimulatedTask[object]] = set()
        self.set_task_factory(cast("Callable[..., asyncio.Future[object]]", self._make_task))
        #: What escaped from callbacks and tasks that nobody awaits.
        self.faults: list[str] = []
        self.set_exception_handler(self._keep_fault)

    def time(self) -> float:
        """Seconds of the simulation."""
        return self._now

    @property
    def dead(self) -> bool:
        """Whether nothing runs any more."""
        return self._dead

    def die(self) -> None:
        """Let nothing run after the callback that calls."""
        self._dead = True

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass, with all that is due in them. Raises `Crashed`."""
        self._until = self._now + seconds
        self.run_forever()
        if self._dead:
            raise Crashed
        self._now = max(self._now, self._until)

    def finish(self, work: Coroutine[object, object, Outcome], *, at_most_seconds: float) -> Outcome:
        """Run until `work` is done, and return what it does; TimeoutError when that takes too long. Raises `Crashed`."""
        task = self.create_task(work)
        task.add_done_callback(lambda _: self.stop())
        self._until = self._now + at_most_seconds
        self.run_forever()
        if self._dead:
            raise Crashed
        if not task.done():
            raise TimeoutError(f"not done within {at_most_seconds:.0f} simulated seconds")
        return task.result()

    def bury(self) -> None:
        """Take apart what the crash left standing. For the very end: it runs the `finally` blocks of all that was under way."""
        self._ready.clear()  # type: ignore[attr-defined]
        self._scheduled.clear()  # type: ignore[attr-defined]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for task in sorted(self._tasks, key=hash):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                coroutine = cast("Coroutine[object, object, object]", task.get_coro())
                # A `finally` block may want to go on.
                with contextlib.suppress(BaseException):
                    coroutine.close()
            self._tasks.clear()
        self._ready.clear()  # type: ignore[attr-defined]
        self.close()

    def run_in_executor(self, executor: object, func: Callable[..., Outcome], *args: object) -> asyncio.Future[Outcome]:  # type: ignore[override]
        """Run `func` in the loop, some moment later."""
        future: asyncio.Future[Outcome] = self.create_future()

        def work() -> None:
            if self.moment("before thread"):
                return
            try:
                result = func(*args)
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever awaits it
                if not future.cancelled():
                    future.set_exception(error)
                return
            if not self.moment("after thread") and not future.cancelled():
                future.set_result(result)

        self.call_later(self._moment(), work)
        return future

    def _moment(self) -> float:
        """How long a thread takes: mostly no time at all."""
        chance = self.random.random()
        return 0.0 if chance < 0.7 else chance * 0.05

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[object, object, Outcome], **options: object
    ) -> SimulatedTask[Outcome]:
        task: SimulatedTask[Outcome] = SimulatedTask(coroutine, next(self._numbers), loop=loop, **options)
        self._tasks.add(task)  # type: ignore[arg-type]
        task.add_done_callback(self._tasks.discard)  # type: ignore[arg-type]
        return task

    def _keep_fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        self.faults.append(f"{context.get('message')}: {context.get('exception')!r}")

    def _run_once(self) -> None:
        """One callback; or, when none is ready, a jump to the next timer."""
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        if self._dead or not (ready or self._jump()):
            self.stop()
            return
        self._ring()
        if not ready:
            return
        if self._shuffled and len(ready) > 1:
            ready.rotate(-int(self.random.random() * len(ready)))
        handle = ready.popleft()
        if not handle._cancelled:  # type: ignore[attr-defined]
            self.steps += 1
            handle._run()

    def _jump(self) -> bool:
        """Go to the moment of the next timer; False: there is none before time is up."""
        scheduled = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            self._forget(heapq.heappop(scheduled))
        if not scheduled or scheduled[0]._when > self._until:
            return False
        self._now = max(self._now, scheduled[0]._when)
        return True

    def _ring(self) -> None:
        """What was to happen by now is ready."""
        scheduled = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._when <= self._now:
            timer = heapq.heappop(scheduled)
            if timer._cancelled:
                self._forget(timer)
            else:
                timer._scheduled = False
                self._ready.append(timer)  # type: ignore[attr-defined]
        if self._timer_cancelled_count > _CANCELLED_AT_MOST:  # type: ignore[attr-defined]
            self._sweep()

    def _forget(self, timer: asyncio.TimerHandle) -> None:
        timer._scheduled = False  # type: ignore[attr-defined]
        self._timer_cancelled_count -= 1  # type: ignore[attr-defined]

    def _sweep(self) -> None:
        scheduled = self._scheduled  # type: ignore[attr-defined]
        for timer in scheduled:
            if timer._cancelled:
                timer._scheduled = False
        scheduled[:] = [timer for timer in scheduled if not timer._cancelled]
        heapq.heapify(scheduled)
        self._timer_cancelled_count = 0

    def _write_to_self(self) -> None:
        """Nobody sleeps in a system call."""

    def _process_events(self, event_list: object) -> None:
        """There are none."""
