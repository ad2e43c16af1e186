"""A provider's list is read as far back as it matters, and one that was not is no list."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import RemoteBatch, RemoteState, Retryable
from gateway.listing import Page, is_past, oldest_first, read_list
from gateway.reading import moment

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HORIZON = NOON - timedelta(hours=1)


def at(*minutes: float | None) -> list[datetime | None]:
    """Times so many minutes after noon."""
    return [None if minute is None else NOON + timedelta(minutes=minute) for minute in minutes]


def pages(*parts: Sequence[float | None]) -> tuple[Callable[[str | None], Awaitable[Page]], list[str | None]]:
    """A list whose pages have batches of these minutes, and what was asked for."""
    asked: list[str | None] = []

    async def page(after: str | None) -> Page:
        asked.append(after)
        number = int(after or 0)
        items = [{"created_at": time.timestamp() if time else None} for time in at(*parts[number])]
        return Page(items=items, after=str(number + 1) if number + 1 < len(parts) else None)

    return page, asked


def created(item: Mapping[str, object]) -> datetime | None:
    """When a listed batch was made."""
    return moment(item.get("created_at"))


@pytest.mark.parametrize(
    ("minutes", "before", "over"),
    [
        ((-70, -80), None, True),
        ((-70, -80, -90), None, True),
        ((10, -70, -80), None, False),
        ((10, -70), None, False),
        ((-80, -75, -70), None, False),
        ((-70, 10), None, False),
        ((-70,), None, False),
        ((-70,), -65, True),
        ((-70,), -75, False),
        ((-80, -75), -90, False),
        ((10, 5), None, False),
        ((-70, -70), None, False),
        ((-70, -70, -70), None, False),
        ((-70, -80, None), None, False),
        ((), None, False),
    ],
)
def test_reading_stops_only_where_the_order_shows(
    minutes: tuple[float, ...], before: float | None, *, over: bool
) -> None:
    """A list is left at a page that is wholly too old in a falling order, and never where the order is not plain."""
    [earlier] = at(before)

    assert is_past(HORIZON, earlier, at(*minutes)) is over
    assert is_past(None, earlier, at(*minutes)) is False


async def test_a_list_is_read_to_its_end() -> None:
    """Without a horizon every page is asked for, each by what the one before it said, and every item comes in order."""
    page, asked = pages((5, 4), (), (3,), (-300, -400), (2,))
    minutes = [time and (time - NOON).total_seconds() / 60 async for time in _times(page)]

    assert minutes == [5, 4, 3, -300, -400, 2]
    assert asked == [None, "1", "2", "3", "4"]


async def test_no_page_behind_the_horizon_is_asked_for() -> None:
    """Where the list shows that it is newest first, what is too old ends it; all that is young enough was read."""
    page, asked = pages((5, 4), (-50, -70), (-80, -90), (-100, -110), (-120, -130))
    read = [item async for item in read_list(page, since=HORIZON, created=created)]

    assert len(read) == 6
    assert asked == [None, "1", "2"]


async def test_the_order_must_hold_between_pages_too() -> None:
    """A page that is in order by itself and younger than the one before shows that the list is not."""
    page, asked = pages((-100,), (-70, -80), (5, 4))
    read = [item async for item in read_list(page, since=HORIZON, created=created)]

    assert len(read) == 5
    assert asked == [None, "1", "2"]


async def test_a_list_that_never_ends_is_no_empty_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pages there are: ours may stand on the next one, so that it is not sent again."""
    monkeypatch.setattr("gateway.listing.MOST_PAGES", 3)
    asked = []

    async def page(after: str | None) -> Page:
        asked.append(after)
        return Page(items=[{}], after=f"{after}x")

    with pytest.raises(Retryable):
        [item async for item in read_list(page)]
    assert len(asked) == 3


async def test_a_list_that_goes_in_circles_is_no_empty_list() -> None:
    """A page that was there before is never the end of the list."""

    async def page(after: str | None) -> Page:
        return Page(items=[{}], after={None: "a", "a": "b", "b": "a"}[after])

    with pytest.raises(Retryable, match="circles"):
        [item async for item in read_list(page)]


async def test_a_list_that_goes_on_nobody_knows_where_is_no_empty_list() -> None:
    """A page that says that more follow, and has nothing by which to ask for them, is never the end of the list."""

    async def page(after: str | None) -> Page:
        return Page(items=[], after=None if after else "a", goes_on=True)

    with pytest.raises(Retryable, match="not where"):
        [item async for item in read_list(page)]


async def test_a_list_may_go_on_behind_the_horizon() -> None:
    """Where all that is left is too old, it does not matter how the list goes on."""

    async def page(_: str | None) -> Page:
        return Page(
            items=[{"created_at": (HORIZON - timedelta(hours=n)).timestamp()} for n in (1, 2)], after=None, goes_on=True
        )

    assert len([item async for item in read_list(page, since=HORIZON, created=created)]) == 2


def test_the_oldest_comes_first() -> None:
    """Of several batches of one create the oldest is ours, whatever the order of the list; unknown times come last."""
    seen = [remote(name, at) for name, at in (("c", 30.0), ("unknown", None), ("a", 10.0), ("d", 10.0), ("b", 20.0))]

    assert [remote.remote_id for remote in oldest_first(seen)] == ["a", "d", "b", "c", "unknown"]


def test_a_batch_on_two_pages_is_one() -> None:
    """A list that shifts while it is read shows a batch twice: its later state counts, and nobody is paid twice for it."""
    [found] = oldest_first([remote("a", 1.0), remote("a", 1.0, RemoteState.ENDED)])

    assert found.state is RemoteState.ENDED


@given(minutes=st.lists(st.none() | st.floats(-100, 100), max_size=6))
def test_what_is_known_to_be_older_is_left_out(minutes: list[float | None]) -> None:
    """With a time, only batches from then on are there, and those of which nobody knows."""
    seen = [remote(str(n), minute) for n, minute in enumerate(minutes)]
    kept = {found.remote_id for found in oldest_first(seen, since=NOON)}

    assert kept == {str(n) for n, minute in enumerate(minutes) if minute is None or at(minute)[0] >= NOON}


def remote(name: str, minute: float | None, state: RemoteState = RemoteState.RUNNING) -> RemoteBatch:
    """A batch made at that minute."""
    return RemoteBatch(remote_id=name, state=state, created=at(minute)[0])


async def _times(page: Callable[[str | None], Awaitable[Page]]) -> AsyncIterator[datetime | None]:
    async for item in read_list(page):
        yield created(item)
