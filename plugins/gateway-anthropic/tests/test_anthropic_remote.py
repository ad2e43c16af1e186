"""Batch objects and lists as the provider gives them, and as it might."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import Ambiguous, Batch, RemoteBatch, RemoteState
from gateway_anthropic.remote import cursor, listed, may_be, remote_batch

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


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


@pytest.mark.parametrize("counts", [None, [], {}, {"processing": "one"}, {"processing": True}, {"succeeded": -1}])
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


def test_what_is_no_page_is_ambiguous() -> None:
    """What is no page of a list says nothing of what is in it."""
    with pytest.raises(Ambiguous):
        listed({"data": None})
    assert listed({"data": [{"id": "a"}, 7]}) == [{"id": "a"}]


def test_pages_follow_each_other() -> None:
    """The last id is the next page's start as long as there is more."""
    assert cursor({"has_more": True, "last_id": "b"}, [{"id": "a"}]) == "b"
    assert cursor({"has_more": True}, [{"id": "a"}]) == "a"
    assert cursor({"has_more": False, "last_id": "b"}, [{"id": "a"}]) is None
    assert cursor({}, []) is None


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
