"""What Together's job objects say, in all the forms that may come."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import Ambiguous, ProviderError, Rejected, RemoteState, TokenLimit, Unauthorised
from gateway_together.remote import (
    job_of,
    lacks_file,
    parse_list,
    refusal,
    remote_batch,
)

JOB = {
    "id": "0b8e2b6e-3f3e-4d1f-9c39-0d7f4c7a0f10",
    "user_id": "u",
    "input_file_id": "file-in",
    "file_size_bytes": 10,
    "status": "IN_PROGRESS",
    "job_deadline": "2026-11-22T10:00:00Z",
    "created_at": "2026-11-21T10:00:00.250Z",
    "endpoint": "/v1/chat/completions",
    "progress": 37.5,
    "model_id": "m",
}


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("VALIDATING", RemoteState.RUNNING),
        ("IN_PROGRESS", RemoteState.RUNNING),
        ("CANCELING", RemoteState.RUNNING),
        ("LEVITATING", RemoteState.RUNNING),
        (None, RemoteState.RUNNING),
        ("COMPLETED", RemoteState.ENDED),
        ("completed", RemoteState.ENDED),
        ("EXPIRED", RemoteState.ENDED),
        ("CANCELLED", RemoteState.ENDED),
        ("FAILED", RemoteState.REFUSED),
    ],
)
def test_states(status: object, state: RemoteState) -> None:
    """Each documented state has its meaning, and an unknown one is taken for running."""
    assert remote_batch(JOB | {"status": status}).state is state


def test_nothing_is_counted() -> None:
    """A percentage is no count of lines: total and done stay unknown; files and time are kept."""
    seen = remote_batch(JOB | {"output_file_id": "file-out", "error_file_id": None})

    assert (seen.total, seen.done) == (None, None)
    assert seen.where == {"input_file_id": "file-in", "output_file_id": "file-out"}
    assert seen.created == datetime(2026, 11, 21, 10, 0, 0, 250_000, tzinfo=UTC)


def test_a_failed_job_with_files_is_fetched() -> None:
    """What a job answered before it failed was paid for."""
    seen = remote_batch(JOB | {"status": "FAILED", "error": "bad input", "output_file_id": "file-out"})

    assert (seen.state, seen.refusal) == (RemoteState.ENDED, None)


@pytest.mark.parametrize("reason", ["Internal server error", "upstream service unavailable", "input file not found"])
def test_a_job_that_broke_down_refuses_nobody(reason: str) -> None:
    """A failure of the provider's own makes no request wrong: the job has ended, and its lines are missing."""
    assert remote_batch(JOB | {"status": "FAILED", "error": reason}).state is RemoteState.ENDED


@pytest.mark.parametrize(
    ("reason", "kind", "lines"),
    [
        ("line 3: messages must be a non-empty array", Rejected, []),
        ("duplicate custom_id abcdefghij0123456789-17", Rejected, [17]),
        ("abcdefghij0123456789-2: internal error in template; abcdefghij0123456789-5: too long", Rejected, [2, 5]),
        ("Enqueued token limit reached for m. Please try again later.", TokenLimit, []),
        ("maximum enqueued input tokens exceeded", TokenLimit, []),
        ("max_tokens exceeds the model's token limit", Rejected, []),
        ("Insufficient credits to run this job", Unauthorised, []),
        ("the prompt 'my credit card' was refused", Rejected, []),
        ("", Rejected, []),
        (None, Rejected, []),
        ({"message": "odd"}, Rejected, []),
    ],
)
def test_the_sentence_of_a_failed_job(reason: object, kind: type[ProviderError], lines: list[int]) -> None:
    """The one sentence tells a full queue and an empty purse from bad lines; a line counts as named only by its own name."""
    seen = remote_batch(JOB | {"status": "FAILED", "error": reason}).refusal

    assert type(seen) is kind
    assert seen.reason
    assert not isinstance(seen, Rejected) or sorted(seen.lines) == lines


@pytest.mark.parametrize(
    ("reason", "lacking"),
    [
        ("Input file file-1 not found", True),
        ("The input file has not been processed", True),
        ("file is not ready", True),
        ("model not found", False),
        ("the file has a bad line. custom_id not found", False),
    ],
)
def test_a_file_that_is_not_there_yet(reason: str, lacking: bool) -> None:
    """A refusal for want of the file alone is told from one for what is in it."""
    assert lacks_file(reason) is lacking


def test_a_job_that_was_made() -> None:
    """A create call's job is under `job`; a bare one is understood too."""
    assert job_of({"job": JOB, "warning": None}) == JOB
    assert job_of(JOB) == JOB


@pytest.mark.parametrize("answer", [{}, {"job": None, "warning": "slow down"}, {"error": "x"}, {"job": "text"}])
def test_a_create_call_without_a_job_is_open(answer: dict[str, object]) -> None:
    """A success without a job does not say that nothing was made; its warning is told to the operator."""
    with pytest.raises(Ambiguous) as caught:
        job_of(answer)

    assert str(answer.get("warning", "none")) in caught.value.reason


def test_lists_bare_and_wrapped() -> None:
    """Jobs come as a bare array and files under `data`; what is neither is no empty list."""
    assert parse_list(orjson.dumps([JOB, None, "x"])) == [JOB]
    assert parse_list(orjson.dumps({"data": [JOB]})) == [JOB]
    for answer in (b'{"error": "x"}', b"null", b'"x"', b"<html>", b'{"data": null}'):
        with pytest.raises(Ambiguous):
            parse_list(answer)


@given(st.dictionaries(st.sampled_from([*JOB, "error", "output_file_id"]), st.none() | st.text() | st.floats()))
def test_an_odd_job_is_read_or_open(changes: dict[str, Any]) -> None:
    """Whatever a job's fields hold, it is read, or Ambiguous for want of an id; a refused one says why."""
    job = JOB | changes
    if not isinstance(job["id"], str) or not job["id"]:
        with pytest.raises(Ambiguous):
            remote_batch(job)
        return
    seen = remote_batch(job)

    assert (seen.refusal is not None) == (seen.state is RemoteState.REFUSED)


@given(st.text())
def test_any_sentence_means_something(reason: str) -> None:
    """A reason of any text is one of the three refusals."""
    assert isinstance(refusal(reason), Rejected | TokenLimit | Unauthorised)
