"""The time of a machine whose clock is set while the gateway runs."""

from __future__ import annotations

import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.clock import DOUBT_SECONDS, SLACK_SECONDS, SteadyClock
from gateway.testing import FakeClock

HOUR = 3600.0


@pytest.fixture
def machine() -> FakeClock:
    """The machine's own clock."""
    return FakeClock()


async def test_time_goes_on_as_the_machines(machine: FakeClock) -> None:
    """Without anybody who sets it, our time is the machine's."""
    clock = SteadyClock(machine)
    await machine.advance(5 * HOUR)
    assert (clock.now(), clock.monotonic()) == (machine.now(), machine.monotonic())


@pytest.mark.parametrize("step", [-SLACK_SECONDS + 1, -0.2, 3.0, SLACK_SECONDS - 1])
async def test_small_corrections_are_followed(machine: FakeClock, step: float) -> None:
    """What time synchronisation does every day is followed at once, without a word."""
    clock = SteadyClock(machine)
    machine.jump(step)
    with capture_logs() as logs:
        assert clock.now() == machine.now()
    assert logs == []


@pytest.mark.parametrize("leap", [5 * 24 * HOUR, -6 * HOUR])
async def test_a_clock_that_is_wrong_for_a_moment_changes_nothing(machine: FakeClock, leap: float) -> None:
    """While the machine's clock is wrong, ours goes on as before, says so once, and is in step again afterwards."""
    clock = SteadyClock(machine)
    before = clock.now()
    machine.jump(leap)
    with capture_logs() as logs:
        for _ in range(5):
            await machine.advance(DOUBT_SECONDS / 6)
            clock.now()
        during = clock.now()
    machine.jump(-leap)
    assert during - before == pytest.approx(DOUBT_SECONDS / 6 * 5)
    assert [log["event"] for log in logs] == ["clock_leapt"]
    assert clock.now() == machine.now()


async def test_a_leap_forward_that_lasts_is_followed(machine: FakeClock) -> None:
    """After a clock was put right, time is right within minutes: what is due does not stay late by a night."""
    clock = SteadyClock(machine)
    clock.now()
    machine.jump(8 * HOUR)
    clock.now()
    await machine.advance(DOUBT_SECONDS)
    assert clock.now() == machine.now()


async def test_a_leap_back_is_never_followed(machine: FakeClock) -> None:
    """However long the machine's clock stays behind, ours goes on: what is due then is due after as long as was meant."""
    clock = SteadyClock(machine)
    due = clock.now() + 2 * HOUR
    machine.jump(-6 * HOUR)
    for _ in range(24):
        await machine.advance(HOUR / 12)
        clock.now()
    assert clock.now() == pytest.approx(due)


def test_time_may_be_read_in_many_threads() -> None:
    """While the clock leaps about, every thread gets a time."""
    machine = FakeClock()
    clock, read = SteadyClock(machine), list[float]()

    def reading() -> None:
        read.extend(clock.now() for _ in range(2_000))

    threads = [threading.Thread(target=reading) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for turn in range(2_000):
            machine.jump(1e6 if turn % 2 else -1e6)
    finally:
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert len(read) == 8_000


async def test_another_leap_is_doubted_anew(machine: FakeClock) -> None:
    """A clock that leaps again and again has to stand at one time before it is believed."""
    clock = SteadyClock(machine)
    before = clock.now()
    for _ in range(6):
        machine.jump(24 * HOUR)
        clock.now()
        await machine.advance(DOUBT_SECONDS / 3)
        clock.now()
    assert clock.now() - before == pytest.approx(DOUBT_SECONDS * 2)


@given(steps=st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0.0, 2_000.0)), max_size=20))
def test_time_never_goes_back_by_more_than_the_slack(steps: list[tuple[float, float]]) -> None:
    """Whatever is done to the machine's clock, nothing that is due comes later than meant by more than the slack of each step."""
    machine = FakeClock()
    clock = SteadyClock(machine)
    last = clock.now()
    for leap, seconds in steps:
        machine.jump(leap)
        machine._elapsed += seconds
        assert clock.now() >= last + seconds - SLACK_SECONDS - 1e-3
        last = clock.now()
