"""A clock that is turned by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools

#: Turns of the loop that everybody gets between two moments of a `FakeClock`.
TURNS = 20


class FakeClock:
    """A clock that stands still until `advance`. It starts in 2027, when the price lists of today are in force."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._start = start
        self._elapsed = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        """Seconds since 1970, as far as the clock was turned."""
        return self._start + self._elapsed

    def monotonic(self) -> float:
        """Seconds by which the clock was turned."""
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        """Return when the clock was turned by `seconds`."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), woken))
        try:
            await woken
        finally:
            if woken.cancelled():
                self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[2] is not woken]
                heapq.heapify(self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Turn the clock by `seconds`, waking each sleeper at its moment; everybody gets some turns in between.

        What runs in threads or through sockets is not waited for: await its effect before or after.
        """
        end = self._elapsed + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            moment, _, woken = heapq.heappop(self._sleepers)
            self._elapsed = max(self._elapsed, moment)
            if not woken.done():
                woken.set_result(None)
            await self.settle()
        self._elapsed = end

    async def settle(self, turns: int = TURNS) -> None:
        """Let tasks run without any time passing."""
        for _ in range(turns):
            await asyncio.sleep(0)

    def jump(self, seconds: float) -> None:
        """Move wall time alone, as somebody setting the machine's clock does; nobody wakes."""
        self._start += seconds

    def sleeping(self) -> int:
        """How many sleep now; for tests that nothing is left behind."""
        return len(self._sleepers)


class QuickClock(FakeClock):
    """A clock on which sleeping takes no time but is seen by everybody: for providers and simulators that sleep."""

    async def sleep(self, seconds: float) -> None:
        """Turn the clock instead of waiting."""
        await self.advance(seconds)
