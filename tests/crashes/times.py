"""One clock for everybody in a case, in memory that forked processes share; turned by whoever has nothing left to do."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import mmap
import struct

_FORMAT = struct.Struct("d")
#: In 2027, when the price lists of today are in force.
START = 1_800_000_000.0
#: Between two looks at a clock that another process turns; real time.
LOOK_SECONDS = 0.002


class SharedClock:
    """Stands still until somebody turns it. Who sleeps on it here waits until another process has."""

    def __init__(self) -> None:
        """Make it before forking."""
        self._memory = mmap.mmap(-1, _FORMAT.size)

    def monotonic(self) -> float:
        """Seconds by which it was turned."""
        (elapsed,) = _FORMAT.unpack(self._memory)
        return float(elapsed)

    def now(self) -> float:
        """Seconds since 1970."""
        return START + self.monotonic()

    def turn(self, seconds: float) -> None:
        """Let time pass for all processes."""
        self._memory[:] = _FORMAT.pack(self.monotonic() + seconds)

    def reset(self) -> None:
        """Begin anew."""
        self._memory[:] = _FORMAT.pack(0.0)

    async def sleep(self, seconds: float) -> None:
        """Return when it was turned by `seconds`."""
        end = self.monotonic() + seconds
        while self.monotonic() < end:
            await asyncio.sleep(LOOK_SECONDS)


class GatewayClock(SharedClock):
    """The gateway's view of a shared clock: its sleepers wake when the process turns it."""

    def __init__(self, shared: SharedClock) -> None:
        """`shared` goes on being the others' view."""
        self._memory = shared._memory
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    async def sleep(self, seconds: float) -> None:
        """Return when it was turned by `seconds`; at once for none."""
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.monotonic() + max(seconds, 0.0), next(self._order), woken))
        if seconds <= 0:
            woken.set_result(None)
        await woken

    def turn(self, seconds: float) -> None:
        """Let time pass, and wake whoever has slept long enough."""
        super().turn(seconds)
        now = self.monotonic()
        while self._sleepers and self._sleepers[0][0] <= now:
            _, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)


class PluginClock(SharedClock):
    """A provider's view: while it is being called nobody turns the clock, so its pauses turn it themselves."""

    def __init__(self, owner: GatewayClock) -> None:
        """`owner` wakes those who slept."""
        self._memory = owner._memory
        self._owner = owner

    async def sleep(self, seconds: float) -> None:
        """Let the time pass."""
        self._owner.turn(seconds)
        await asyncio.sleep(0)
