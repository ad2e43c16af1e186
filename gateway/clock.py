"""Time: the only place that reads a clock, so that tests can turn it.

Floor 0. `gateway.testing.FakeClock` is the double.
"""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime
from typing import Protocol

import structlog

#: By so much the machine's time may be put right at once without being doubted.
SLACK_SECONDS = 60.0
#: A leap forward is believed after it has stood for so long.
DOUBT_SECONDS = 600.0


class Clock(Protocol):
    """Wall time for what is written down, monotonic time for how long something took."""

    def now(self) -> float:
        """Seconds since 1970 in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment of this process; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; may be cancelled."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Seconds since 1970 in UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some moment of this process; on Linux those too in which the machine slept."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        await asyncio.sleep(seconds)


class SteadyClock:
    """The time of a machine whose clock may be set: it does not leap with it.

    Whatever is due is kept as wall time, and much of it cannot be taken back: requests expire, batches that run for too long are
    stopped, answers are forgotten. So a leap forward by more than `SLACK_SECONDS` is followed only after it has stood for
    `DOUBT_SECONDS`: a clock that is wrong for a moment ends nothing. What was accepted before a clock was put right counts as
    that much older. A leap back is never followed: all that is due would wait until the clock is again where it was. The next
    start begins with the machine's time, and `Boots.begin` moves what is due by the difference.
    """

    def __init__(self, machine: Clock) -> None:
        """From here on as `machine` says now."""
        self._machine = machine
        #: From its monotonic time to ours.
        self._offset = machine.now() - machine.monotonic()
        #: Another offset that the machine has been showing, and since when by monotonic time.
        self._doubted: tuple[float, float] | None = None
        self._looking = threading.Lock()

    def now(self) -> float:
        """Seconds since 1970 in UTC; from any thread."""
        with self._looking:
            return self._look()

    def _look(self) -> float:
        monotonic = self._machine.monotonic()
        shown = self._machine.now() - monotonic
        if abs(shown - self._offset) <= SLACK_SECONDS:
            self._offset, self._doubted = shown, None
        elif self._doubted is None or abs(shown - self._doubted[0]) > SLACK_SECONDS:
            self._doubted = shown, monotonic
            self._tell(shown - self._offset)
        elif shown > self._offset and monotonic - self._doubted[1] >= DOUBT_SECONDS:
            self._offset, self._doubted = shown, None
        return monotonic + self._offset

    def monotonic(self) -> float:
        """Seconds since some moment of this process."""
        return self._machine.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        await self._machine.sleep(seconds)

    def _tell(self, leap: float) -> None:
        log = structlog.get_logger()
        if leap > 0:
            advice = f"followed if it still stands in {DOUBT_SECONDS / 60:.0f} minutes"
        else:
            advice = "not followed: the gateway's times stay ahead by that much until it is started again"
        log.warning("clock_leapt", seconds=round(leap, 1), advice=advice)


def as_datetime(timestamp: float) -> datetime:
    """Seconds since 1970 as an aware UTC time."""
    return datetime.fromtimestamp(timestamp, UTC)
