"""One task that keeps all waiting connections alive."""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import Protocol

from gateway.clock import Clock

#: Pause between two sweeps; a beat is late by at most this.
SWEEP_SECONDS = 0.25


class Beating(Protocol):
    """What the sweep knows of a waiting reply."""

    def beat(self) -> None:
        """Send one sign of life. Never waits."""
        ...


class Heartbeats:
    """Waiting replies in order of their next beat, one queue for each interval: a sweep looks only at those that are due."""

    def __init__(self, clock: Clock) -> None:
        """Nobody waits yet."""
        self._clock = clock
        # The queues hold numbers: a reply that is over is let go at once, not when its beat would be due.
        self._queues: dict[float, deque[tuple[float, int]]] = {}
        self._replies: dict[int, Beating] = {}
        self._numbers = count()

    def add(self, reply: Beating, every_seconds: float) -> int:
        """Beat `reply` from now on; returns the number to `remove` it by."""
        number = next(self._numbers)
        self._replies[number] = reply
        queue = self._queues.setdefault(every_seconds, deque())
        queue.append((self._clock.monotonic() + every_seconds, number))
        return number

    def remove(self, number: int) -> None:
        """Beat it no more."""
        self._replies.pop(number, None)

    def sweep(self) -> None:
        """Beat every reply whose time has come."""
        now = self._clock.monotonic()
        for every_seconds, queue in list(self._queues.items()):
            # Each at most once: what was put behind the others is not due again in this sweep, however short its interval.
            for _ in range(len(queue)):
                if queue[0][0] > now:
                    break
                _, number = queue.popleft()
                reply = self._replies.get(number)
                if reply is not None:
                    reply.beat()
                    queue.append((now + every_seconds, number))
            if not queue:
                del self._queues[every_seconds]

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            await self._clock.sleep(SWEEP_SECONDS)
            self.sweep()
