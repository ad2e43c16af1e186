"""Batch objects in all their shapes, and our own batch among others in a list."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import Ambiguous, Batch, Rejected, RemoteBatch, RemoteState, TokenLimit, Unauthorised
from gateway_openai.listing import PAGE, cursor, is_ours
from gateway_openai.remote import refusal, remote_batch

NOW = datetime(2027, 1, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("validating", RemoteState.RUNNING),
        ("in_progress", RemoteState.RUNNING),
        ("finalizing", RemoteState.RUNNING),
        ("cancelling", RemoteState.RUNNING),
        ("completed", RemoteState.ENDED),
        ("expired", RemoteState.ENDED),
        ("cancelled", RemoteState.ENDED),
        ("failed", RemoteState.REFUSED),
        ("Completed", RemoteState.ENDED),
        ("levitating", RemoteState.RUNNING),
        (None, RemoteState.RUNNING),
    ],
)
def test_states_are_translated(status: str | None, state: RemoteState) -> None:
    """Every documented state has its meaning, whatever its case; an unknown one counts as running."""
    assert remote_batch({"id": "b", "status": status}).state is state


def test_what_is_missing_is_unknown() -> None:
    """Missing, null and empty fields are None or left out, never zero."""
    remote = remote_batch(
        {"id": "b", "status": "in_progress", "output_file_id": "", "error_file_id": None, "request_counts": None}
    )

    assert remote == RemoteBatch(remote_id="b", state=RemoteState.RUNNING)


@pytest.mark.parametrize("stamp", [1_800_000_000, "2027-01-15T08:00:00Z", "2027-01-15T08:00:00"])
def test_times_come_in_two_forms(stamp: object) -> None:
    """Creation is read from unix seconds and from ISO text alike."""
    assert remote_batch({"id": "b", "created_at": stamp}).created == datetime(2027, 1, 15, 8, tzinfo=UTC)


def test_a_failed_batch_with_answers_has_ended() -> None:
    """A batch that failed after it answered some lines is fetched, since those were paid for."""
    content = {"id": "b", "status": "failed", "output_file_id": "f", "request_counts": {"completed": 3, "failed": 0}}

    assert remote_batch(content).state is RemoteState.ENDED


def test_refusals_name_lines_from_zero() -> None:
    """Line numbers of the provider, which count from 1, become places in the spool, each with its reason."""
    errors = {"data": [{"code": "invalid_request", "line": 1, "message": "bad"}, {"line": 3, "message": "worse"}]}
    refused = refusal(errors)

    assert isinstance(refused, Rejected)
    assert refused.lines == {0: "bad", 2: "worse"}
    assert refusal(errors, line_offset=0).lines == {1: "bad", 3: "worse"}
    assert refusal(errors, line_offset=None).lines == {}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("token_limit_exceeded", TokenLimit),
        ("insufficient_quota", Unauthorised),
        ("billing_hard_limit_reached", Unauthorised),
        ("model_not_found", Rejected),
        (None, Rejected),
    ],
)
def test_refusals_are_told_apart_by_code(code: str | None, kind: type[Exception]) -> None:
    """A full queue, an account that cannot pay and a bad file are three different things to core."""
    assert type(refusal({"data": [{"code": code, "message": "m", "line": None}]})) is kind


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    ),
    st.sampled_from(["status", "created_at", "errors", "request_counts", "output_file_id", "metadata"]),
)
def test_no_field_can_break_it(content: object, field: str) -> None:
    """Whatever one field holds, a batch with an id can be read."""
    assert remote_batch({"id": "b", "status": "failed", field: content}).remote_id == "b"


def test_an_answer_that_names_no_batch_is_ambiguous() -> None:
    """A 2xx that cannot be read leaves open what happened."""
    with pytest.raises(Ambiguous):
        remote_batch(orjson.loads(b"{}"))


def test_a_batch_without_a_file_is_not_taken_for_one_that_names_none() -> None:
    """A foreign batch that names neither marker nor file is not ours, even before our own file exists."""
    batch = Batch(marker="m", endpoint="/x", model="m", count=1, size=1, spool=Path("spool"))

    assert not is_ours({"id": "b", "input_file_id": None, "metadata": None}, batch)
    assert is_ours({"id": "b", "input_file_id": None, "metadata": {"batchway": "m"}}, batch)


def page_of(*hours: float) -> list[dict[str, object]]:
    """Listed batches that were created so many hours ago."""
    return [{"id": str(age), "created_at": (NOW - timedelta(hours=age)).timestamp()} for age in hours]


def test_pages_go_on_while_there_is_more() -> None:
    """The next page starts at the last id; without `has_more` there may be one, unless a page repeats the one before."""
    items = page_of(*range(PAGE))

    assert cursor({"has_more": True}, items[:3]) == "2"
    assert cursor({"has_more": False}, items[:3]) is None
    assert cursor({}, items) == str(PAGE - 1)
    assert cursor({}, items[:3]) == "2"
    assert cursor({}, items[:3], "2") is None
    assert cursor({"has_more": True}, []) is None
