"""Batch objects and lists as the provider gives them, and as it might."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import Ambiguous, Batch, RemoteBatch, RemoteState
from gateway_anthropic.remote import cursor, listed, may_be, moment, parse_object, past, remote_batch

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def at(*minutes: float) -> list[RemoteBatch]:
    """Batches so many minutes after noon."""
    return [
        RemoteBatch(remote_id=str(n), state=RemoteState.RUNNING, created=NOON + timedelta(minutes=minute))
        for n, minute in enumerate(minutes)
    ]


def test_a_batch_object_is_read() -> None:
    """State, time and counts in the contract's words."""
    counts = {"processing": 0, "succeeded": 5, "errored": 1, "canceled": 2, "expired": 3}
    content = {
        "id": "msgbatch_1",
        "processing_status": "ended",
        "request_counts": counts,
        "created_at": "2026-11-20T12:00:00.5Z",
    }
    half = timedelta(seconds=0.5)

    assert remote_batch(content) == RemoteBatch(
        remote_id="msgbatch_1", state=RemoteState.ENDED, created=NOON + half, total=11, done=11
    )


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("in_progress", RemoteState.RUNNING),
        ("canceling", RemoteState.RUNNING),
        ("ended", RemoteState.ENDED),
        ("novel", RemoteState.RUNNING),
        (None, RemoteState.RUNNING),
        (7, RemoteState.RUNNING),
    ],
)
def test_only_the_end_is_an_end(status: object, state: RemoteState) -> None:
    """Every other word, and none, is a batch at work."""
    assert remote_batch({"id": "x", "processing_status": status}).state is state


@pytest.mark.parametrize("counts", [None, [], {}, {"processing": "1"}, {"processing": True}, {"succeeded": -1}])
def test_unknown_is_not_zero(counts: object) -> None:
    """Counts that cannot be read are unknown."""
    remote = remote_batch({"id": "x", "request_counts": counts, "created_at": "yesterday"})

    assert (remote.total, remote.done, remote.created) == (None, None, None)


@given(content=st.dictionaries(st.sampled_from(["id", "processing_status", "request_counts", "created_at"]), st.text()))
def test_no_object_breaks_the_reader(content: dict[str, object]) -> None:
    """All but the id may be anything."""
    if content.get("id"):
        assert remote_batch(content).remote_id == content["id"]
    else:
        with pytest.raises(Ambiguous):
            remote_batch(content)


def test_what_is_no_object_is_ambiguous() -> None:
    """A page of a proxy, or a list in place of an object, says nothing."""
    for content in (b"<html>", b"[]", b"", b"\xff"):
        with pytest.raises(Ambiguous):
            parse_object(content)
    with pytest.raises(Ambiguous):
        listed({"data": None})
    assert listed({"data": [{"id": "a"}, 7]}) == [{"id": "a"}]


def test_times_have_a_zone() -> None:
    """A time without one is UTC."""
    assert moment("2026-11-20T12:00:00") == NOON
    assert moment("2026-11-20T13:00:00+01:00") == NOON
    assert moment(5) is None


def test_pages_follow_each_other() -> None:
    """The last id is the next page's start as long as there is more."""
    assert cursor({"has_more": True, "last_id": "b"}, [{"id": "a"}]) == "b"
    assert cursor({"has_more": True}, [{"id": "a"}]) == "a"
    assert cursor({"has_more": False, "last_id": "b"}, [{"id": "a"}]) is None
    assert cursor({}, []) is None


@pytest.mark.parametrize(
    ("minutes", "before", "over"),
    [
        ((-70, -80), None, True),
        ((10, -70), None, True),
        ((-70, 10), None, False),
        ((-70,), None, False),
        ((-70,), -65, True),
        ((-70,), -75, False),
        ((10, 5), None, False),
        ((-70, -70), None, False),
        ((), None, False),
    ],
)
def test_reading_stops_only_where_the_order_shows(
    minutes: tuple[float, ...], before: float | None, *, over: bool
) -> None:
    """A list is left when its last batch is too old, and the page itself shows that it is newest first."""
    horizon = NOON - timedelta(hours=1)
    earlier = None if before is None else NOON + timedelta(minutes=before)

    assert past(horizon, earlier, at(*minutes)) is over
    assert past(None, earlier, at(*minutes)) is False


def test_candidates_fit_in_number_and_time() -> None:
    """Another number of requests rules a batch out, as does an earlier time; what is unknown does not."""
    batch = Batch(marker="m", endpoint="", model="", count=3, size=1, spool=Path())
    unknown = RemoteBatch(remote_id="x", state=RemoteState.RUNNING)
    young = RemoteBatch(remote_id="x", state=RemoteState.RUNNING, created=NOON, total=3)
    other = RemoteBatch(remote_id="x", state=RemoteState.RUNNING, created=NOON, total=4)

    assert may_be(unknown, batch, NOON)
    assert may_be(young, batch, NOON)
    assert not may_be(other, batch, NOON)
    assert not may_be(young, batch, NOON + timedelta(seconds=1))
