"""What a job's resource says: states, counts, reasons, places."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway import Ambiguous, Rejected, RemoteState, TokenLimit, Unauthorised
from gateway_vertex.remote import remote_batch

NAME = "projects/p/locations/l/batchPredictionJobs/1"
DIRECTORY = "gs://b/p/prediction-x"


def job(state: str = "JOB_STATE_RUNNING", **fields: object) -> dict[str, object]:
    """A job."""
    return {"name": NAME, "state": state, **fields}


@pytest.mark.parametrize(
    ("word", "state"),
    [
        *((word, RemoteState.RUNNING) for word in ("QUEUED", "PENDING", "RUNNING", "CANCELLING", "PAUSED", "UPDATING")),
        *((word, RemoteState.ENDED) for word in ("SUCCEEDED", "PARTIALLY_SUCCEEDED", "CANCELLED", "EXPIRED")),
        *((word, RemoteState.RUNNING) for word in ("UNSPECIFIED", "SOMETHING_NEW", "")),
    ],
)
@pytest.mark.parametrize("prefix", ["JOB_STATE_", "BATCH_STATE_"])
def test_states_by_word(prefix: str, word: str, state: RemoteState) -> None:
    """Each of the API's words has its state, and a new word counts as running."""
    assert remote_batch(job(prefix + word)).state is state


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 3, "message": "why"}, Rejected),
        ({"code": 5, "message": "why"}, Rejected),
        ({"code": 9, "message": "why"}, Rejected),
        ({"code": 7, "message": "why"}, Unauthorised),
        ({"code": 16, "message": "why"}, Unauthorised),
        ({"code": 8, "message": "why"}, TokenLimit),
    ],
)
def test_a_job_that_failed_says_why(error: dict[str, object], kind: type[Exception]) -> None:
    """A job that failed without output was refused, by the class of its code, with the API's own words."""
    remote = remote_batch(job("JOB_STATE_FAILED", error=error))

    assert remote.state is RemoteState.REFUSED
    assert type(remote.refusal) is kind
    assert str(remote.refusal) == "why"


@pytest.mark.parametrize("error", [{"code": 13, "message": "oops"}, {"code": 14}, {"code": 4}, {}, None, "text"])
def test_a_job_that_broke_down_has_ended(error: object) -> None:
    """A job that failed for no fault of its lines ended without rows: each of them is asked again, and no line is blamed."""
    remote = remote_batch(job("JOB_STATE_FAILED", error=error))

    assert (remote.state, remote.refusal) == (RemoteState.ENDED, None)


@pytest.mark.parametrize(
    ("stats", "state"),
    [
        (None, RemoteState.ENDED),
        ({}, RemoteState.ENDED),
        ({"successfulCount": "3"}, RemoteState.ENDED),
        ({"failedCount": "3"}, RemoteState.ENDED),
        ({"successfulCount": "0", "failedCount": "0"}, RemoteState.REFUSED),
    ],
)
def test_a_failed_job_with_output_is_fetched(stats: object, state: RemoteState) -> None:
    """A job that failed and wrote rows has ended, unless it counted none at all."""
    output = {"gcsOutputDirectory": DIRECTORY}
    error = {"code": 3, "message": "why"}
    remote = remote_batch(job("JOB_STATE_FAILED", error=error, outputInfo=output, completionStats=stats))

    assert remote.state is state


def test_partial_failures_are_told() -> None:
    """The reasons of single failures stand behind the job's own, each once."""
    failures = [{"code": 3, "message": "line 4"}, {"code": 3, "message": "line 4"}, {"message": "line 9"}]
    remote = remote_batch(job("JOB_STATE_FAILED", error={"code": 3, "message": "bad"}, partialFailures=failures))

    assert str(remote.refusal) == "bad; line 4; line 9"


@pytest.mark.parametrize(
    ("state", "stats", "done", "total"),
    [
        ("RUNNING", {"successfulCount": "3", "failedCount": "1", "incompleteCount": "6"}, 4, 10),
        ("RUNNING", {"successfulCount": "3", "incompleteCount": "-1"}, 3, None),
        ("RUNNING", {"successfulCount": 3, "incompleteCount": 1}, 3, 4),
        ("RUNNING", {}, None, None),
        ("CANCELLED", {"successfulCount": "3", "failedCount": "1", "incompleteCount": "6"}, 4, 4),
        ("CANCELLED", {"successfulCount": "0"}, 0, None),
        ("SUCCEEDED", {"successfulCount": "x"}, None, None),
    ],
)
def test_counts(state: str, stats: dict[str, object], done: int | None, total: int | None) -> None:
    """Counts come as strings, -1 is unknown, and of an ended job only the lines that have rows are counted."""
    remote = remote_batch(job(f"JOB_STATE_{state}", completionStats=stats))

    assert (remote.done, remote.total) == (done, total)


def test_places_and_times_are_kept() -> None:
    """Where results are, and when the job was made, is read from the job."""
    remote = remote_batch(
        job(
            createTime="2026-11-20T12:00:00.123456Z",
            outputInfo={"gcsOutputDirectory": DIRECTORY},
            outputConfig={"gcsDestination": {"outputUriPrefix": "gs://b/p/"}},
        )
    )

    assert remote.where == {"output": DIRECTORY, "prefix": "gs://b/p/"}
    assert remote.created is not None
    assert remote.created.isoformat() == "2026-11-20T12:00:00.123456+00:00"


@pytest.mark.parametrize("name", [None, "", 5, [], {}])
def test_a_job_without_a_name_is_ambiguous(name: object) -> None:
    """A job that cannot be asked for again is not known to exist."""
    with pytest.raises(Ambiguous):
        remote_batch({"name": name, "state": "JOB_STATE_PENDING"})


_FIELDS = ("state", "error", "completionStats", "outputInfo", "outputConfig", "createTime", "partialFailures", "labels")
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=6,
)


@given(fields=st.dictionaries(st.sampled_from(_FIELDS), _VALUES))
@hypothesis_settings(max_examples=300, deadline=None)
def test_strange_jobs_do_no_harm(fields: dict[str, object]) -> None:
    """All but a job's name may be missing, null or odd."""
    remote = remote_batch({"name": NAME, **fields})

    assert remote.remote_id == NAME
    assert (remote.state is RemoteState.REFUSED) == (remote.refusal is not None)
