"""When a window seals, and how much of it: the rules of the design as tables and properties."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Batching
from gateway.pipeline.batcher import Due, NotYet, age_to_seal, largest_cut, when_to_seal, within_headroom
from gateway.records import Limits
from gateway.store.rows import LaneKey
from gateway.store.shipping import Cut, Load, Window

NOW = 1_800_000_000.0
BATCHING = Batching()  # 30 s window, 2 s idle, 900 s at most


def window_of(**changes: object) -> Window:
    """Ten fresh requests, the last a second ago, nothing in flight."""
    window = Window(
        lane_id=1,
        lane=LaneKey(provider="fake", endpoint="/v1/chat/completions", model="m"),
        count=10,
        size=10_000,
        tokens=1_000,
        fresh=10,
        oldest_at=NOW - 5,
        last_arrival_at=NOW - 1,
        target_tokens=None,
        token_factor=1.0,
        parked_reason=None,
        retry_at=0.0,
        in_flight=0,
        oldest_in_flight_at=None,
    )
    return replace(window, **changes)  # type: ignore[arg-type]


def verdict(cut: Cut | None = None, **changes: object) -> str:
    """The reason a window seals for, or `not yet`."""
    found = when_to_seal(window_of(**changes), cut or Cut(), BATCHING, NOW)
    return found.reason if isinstance(found, Due) else "not yet"


@pytest.mark.parametrize(
    ("changes", "cut", "reason"),
    [
        ({}, Cut(), "not yet"),
        ({"count": 100}, Cut(max_requests=100), "count"),
        ({"count": 99}, Cut(max_requests=100), "not yet"),
        ({"size": 5000}, Cut(max_bytes=5000), "bytes"),
        ({"size": 4999}, Cut(max_bytes=5000), "not yet"),
        ({"tokens": 700}, Cut(max_tokens=700), "tokens"),
        ({"tokens": 699}, Cut(max_tokens=700), "not yet"),
        ({"count": 100, "in_flight": 3, "oldest_in_flight_at": NOW - 9}, Cut(max_requests=100), "count"),
        # Quiet: nothing in flight and no arrival for two seconds.
        ({"last_arrival_at": NOW - 2}, Cut(), "quiet"),
        ({"last_arrival_at": NOW - 1.99}, Cut(), "not yet"),
        ({"last_arrival_at": NOW - 9, "in_flight": 1, "oldest_in_flight_at": NOW - 9}, Cut(), "not yet"),
        # Returned lines never make a window quiet.
        ({"last_arrival_at": NOW - 9, "fresh": 0}, Cut(), "not yet"),
        ({"last_arrival_at": NOW - 9, "fresh": 1}, Cut(), "quiet"),
        # Age.
        ({"oldest_at": NOW - 30}, Cut(), "age"),
        ({"oldest_at": NOW - 29.9}, Cut(), "not yet"),
        ({"oldest_at": NOW - 30, "fresh": 0}, Cut(), "age"),
        ({"oldest_at": NOW - 35, "in_flight": 1, "oldest_in_flight_at": NOW - 10}, Cut(), "age"),
        ({"oldest_at": NOW - 35, "in_flight": 1, "oldest_in_flight_at": NOW - 600}, Cut(), "not yet"),
        ({"oldest_at": NOW - 60, "in_flight": 1, "oldest_in_flight_at": NOW - 600}, Cut(), "age"),
    ],
)
def test_whichever_holds_first_seals(changes: dict[str, object], cut: Cut, reason: str) -> None:
    """Count, bytes, tokens, quiet and age each seal at their mark, and not before it."""
    assert verdict(cut, **changes) == reason


@pytest.mark.parametrize(
    ("in_flight", "since", "turnarounds", "age"),
    [
        (0, None, (), 30),
        (0, None, (86_400.0,) * 5, 30),
        (1, 10, (), 30),
        (1, 1000, (), 100),
        (1, 100_000, (), 900),
        (1, 10, (1000.0,), 100),
        (1, 2000, (1000.0,), 200),
        (1, 10, (100.0, 4000.0, 5000.0), 400),
        (2, 10, (1.0, 1.0, 3600.0, 1.0, 1.0), 30),
        (1, 10, (90_000.0,), 900),
    ],
)
def test_a_trickle_seals_about_ten_times_in_a_turnaround(
    in_flight: int, since: float | None, turnarounds: tuple[float, ...], age: float
) -> None:
    """Age is a tenth of the larger of the median turnaround and the oldest flight, within 30 and 900 s; 30 with nothing up."""
    oldest = None if since is None else NOW - since
    window = window_of(in_flight=in_flight, oldest_in_flight_at=oldest, turnarounds=turnarounds)
    assert age_to_seal(window, BATCHING, NOW) == pytest.approx(age)


windows = st.builds(
    window_of,
    count=st.integers(1, 100_000),
    size=st.integers(1, 10**9),
    tokens=st.integers(1, 10**9),
    fresh=st.integers(0, 100_000),
    oldest_at=st.floats(NOW - 10_000, NOW),
    last_arrival_at=st.floats(NOW - 10_000, NOW),
    in_flight=st.integers(0, 3),
    oldest_in_flight_at=st.none() | st.floats(NOW - 100_000, NOW),
    turnarounds=st.lists(st.floats(0, 200_000), max_size=5).map(tuple),
)


@given(windows)
def test_the_pause_that_is_told_is_the_right_one(window: Window) -> None:
    """A window that is not due says for how long at least, and with nothing new it is due when that time has passed."""
    found = when_to_seal(window, Cut(), BATCHING, NOW)
    if isinstance(found, NotYet):
        assert 0 < found.seconds <= BATCHING.max_window_seconds
        before = when_to_seal(window, Cut(), BATCHING, NOW + found.seconds * 0.99 - 0.001)
        assert isinstance(before, NotYet)
        # While something flies its age grows, and the age to seal with it, by a tenth.
        later = NOW + found.seconds * 10 / 9 + 0.001
        assert isinstance(when_to_seal(window, Cut(), BATCHING, later), Due)


@given(windows, st.floats(0, 10_000))
def test_nothing_waits_longer_than_the_longest_window(window: Window, extra: float) -> None:
    """Whatever flies and however long batches take, the oldest request is due after `max_window_seconds`."""
    old = replace(window, oldest_at=NOW - BATCHING.max_window_seconds - extra)
    assert isinstance(when_to_seal(old, Cut(), BATCHING, NOW), Due)


@given(windows)
def test_returned_lines_alone_are_never_quiet(window: Window) -> None:
    """A window of returned lines seals by age or by a limit, never because nothing arrives."""
    found = when_to_seal(replace(window, fresh=0), Cut(), BATCHING, NOW)
    assert not isinstance(found, Due) or found.reason == "age"


@pytest.mark.parametrize(
    ("limits", "batching", "target", "cut"),
    [
        (Limits(), Batching(), None, Cut(max_requests=50_000, max_bytes=200_000_000)),
        (Limits(max_requests=1000, max_bytes=5000), Batching(), None, Cut(max_requests=1000, max_bytes=5000)),
        (
            Limits(max_requests=1000, max_bytes=5000),
            Batching(max_requests=10, max_bytes=2000),
            None,
            Cut(max_requests=10, max_bytes=2000),
        ),
        (Limits(max_requests=1000), Batching(max_requests=90_000), None, Cut(max_requests=1000, max_bytes=200_000_000)),
        (
            Limits(max_enqueued_tokens=900),
            Batching(),
            None,
            Cut(max_requests=50_000, max_bytes=200_000_000, max_tokens=900),
        ),
        (
            Limits(max_enqueued_tokens={"m": 900, "n": 5}),
            Batching(),
            400,
            Cut(max_requests=50_000, max_bytes=200_000_000, max_tokens=400),
        ),
        (Limits(max_enqueued_tokens={"n": 5}), Batching(), None, Cut(max_requests=50_000, max_bytes=200_000_000)),
        (Limits(), Batching(), 400, Cut(max_requests=50_000, max_bytes=200_000_000, max_tokens=400)),
    ],
)
def test_a_cut_keeps_every_limit(limits: Limits, batching: Batching, target: int | None, cut: Cut) -> None:
    """A batch is no larger than the provider, the configuration and the lane's own target allow."""
    assert largest_cut(limits, batching, window_of(target_tokens=target)) == cut


def load_of(open_batches: int = 0, creates: int = 0, tokens: int = 0) -> Load:
    """What a provider has, all of it for the window's model."""
    return Load(open_batches=open_batches, creates_last_hour=creates, enqueued_tokens={"m": tokens} if tokens else {})


@pytest.mark.parametrize(
    ("limits", "load", "fits"),
    [
        (Limits(), load_of(99, 99, 99), True),
        (Limits(max_open_batches=3), load_of(2), True),
        (Limits(max_open_batches=3), load_of(3), False),
        (Limits(max_open_batches=3), load_of(4), False),
        (Limits(max_creates_per_hour=5), load_of(0, 4), True),
        (Limits(max_creates_per_hour=5), load_of(0, 5), False),
        (Limits(max_enqueued_tokens=2000), load_of(1, 1, 1900), True),
        (Limits(max_enqueued_tokens=2000), load_of(1, 1, 1901), False),
        (Limits(max_enqueued_tokens=2000), load_of(1, 1, 2500), False),
        (Limits(max_enqueued_tokens={"n": 1}), load_of(1, 1, 2500), True),
    ],
)
def test_nothing_seals_without_headroom(limits: Limits, load: Load, fits: bool) -> None:
    """At a limit of open batches, creates an hour or enqueued tokens the window goes on gathering."""
    assert (within_headroom(Cut(), limits, load, window_of(count=10, tokens=1000)) is not None) is fits


@given(windows, st.integers(1, 10**7), st.integers(1, 10**7))
def test_a_cut_never_takes_more_tokens_than_there_is_room(window: Window, allowed: int, enqueued: int) -> None:
    """What is enqueued and what is cut stay within the provider's limit together."""
    limits = Limits(max_enqueued_tokens=allowed)
    most = largest_cut(limits, BATCHING, window)
    cut = within_headroom(most, limits, load_of(1, 1, enqueued), window)
    if cut is not None:
        assert cut.max_tokens is not None
        assert cut.max_tokens + enqueued <= allowed
        assert cut.max_tokens > 0


def test_a_request_larger_than_the_whole_limit_is_left_to_the_provider() -> None:
    """With nothing enqueued there is all the room there will ever be: the window is not held back for ever."""
    limits = Limits(max_enqueued_tokens=100)
    window = window_of(count=1, tokens=5000, fresh=1)
    assert within_headroom(largest_cut(limits, BATCHING, window), limits, load_of(), window) is not None
