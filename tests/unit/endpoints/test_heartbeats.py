"""One sweep keeps every waiting connection alive, and nothing a caller says can stop it."""

from __future__ import annotations

import asyncio

from gateway.endpoints.heartbeats import Heartbeats
from gateway.testing import FakeClock


class Beats:
    """A waiting reply that remembers when it was beaten."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.at: list[float] = []

    def beat(self) -> None:
        """One more."""
        self.at.append(self.clock.monotonic())


async def every_second(clock: FakeClock, heartbeats: Heartbeats, seconds: int) -> None:
    """Turn the clock, a sweep each second."""
    for _ in range(seconds):
        await clock.advance(1)
        heartbeats.sweep()


async def test_each_reply_beats_at_its_own_pace() -> None:
    """A reply gets a sign of life every interval, neither more often nor less."""
    clock = FakeClock()
    heartbeats, quick, slow = Heartbeats(clock), Beats(clock), Beats(clock)
    heartbeats.add(quick, 3)
    heartbeats.add(slow, 15)
    await every_second(clock, heartbeats, 31)
    assert quick.at == [3, 6, 9, 12, 15, 18, 21, 24, 27, 30]
    assert slow.at == [15, 30]


async def test_replies_of_one_interval_beat_each_in_their_turn() -> None:
    """Callers who came at different moments are not beaten together."""
    clock = FakeClock()
    heartbeats, first, second = Heartbeats(clock), Beats(clock), Beats(clock)
    heartbeats.add(first, 5)
    await every_second(clock, heartbeats, 2)
    heartbeats.add(second, 5)
    await every_second(clock, heartbeats, 10)
    assert first.at == [5, 10]
    assert second.at == [7, 12]


async def test_a_removed_reply_is_never_beaten_again() -> None:
    """After its answer has begun no blank may get in between; removing twice does no harm."""
    clock = FakeClock()
    heartbeats, gone, stays = Heartbeats(clock), Beats(clock), Beats(clock)
    number = heartbeats.add(gone, 2)
    heartbeats.add(stays, 2)
    await every_second(clock, heartbeats, 2)
    heartbeats.remove(number)
    heartbeats.remove(number)
    await every_second(clock, heartbeats, 4)
    assert gone.at == [2]
    assert stays.at == [2, 4, 6]


async def test_a_late_sweep_beats_once_not_many_times() -> None:
    """After a stall one sign of life is enough."""
    clock = FakeClock()
    heartbeats, reply = Heartbeats(clock), Beats(clock)
    heartbeats.add(reply, 2)
    await clock.advance(60)
    heartbeats.sweep()
    assert reply.at == [60]


async def test_no_interval_is_too_short_for_a_sweep_to_end() -> None:
    """A sweep beats each reply at most once: an interval of next to nothing does not hold up the loop."""
    clock = FakeClock()
    await clock.advance(1_000_000)
    heartbeats = Heartbeats(clock)
    for interval in (0.0, 1e-300, 1e-12, 0.001):
        reply = Beats(clock)
        heartbeats.add(reply, interval)
        await clock.advance(0.5)
        heartbeats.sweep()
        assert len(reply.at) == 1


async def test_run_sweeps_for_ever() -> None:
    """The task beats by itself, late by a quarter of a second at most."""
    clock = FakeClock()
    heartbeats, reply = Heartbeats(clock), Beats(clock)
    heartbeats.add(reply, 1.1)
    task = asyncio.create_task(heartbeats.run())
    await clock.advance(1.4)
    task.cancel()
    assert len(reply.at) == 1
    assert 1.1 <= reply.at[0] <= 1.35
