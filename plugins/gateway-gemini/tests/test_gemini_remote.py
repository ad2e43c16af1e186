"""What the API's operations and errors are taken for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from gateway import ProviderError, Rejected, RemoteState, Retryable, TokenLimit, Unauthorised
from gateway.failures import StatusError
from gateway_gemini.failures import FAILURES, answered
from gateway_gemini.remote import inlined_rows, remote_batch


def operation(state: str, **fields: object) -> dict[str, object]:
    """A batch on the wire."""
    return {"name": "batches/b", "metadata": {"state": state, "createTime": "2026-11-20T10:00:00.123456789Z"}, **fields}


@pytest.mark.parametrize("prefix", ["BATCH_STATE_", "JOB_STATE_", ""])
@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("PENDING", RemoteState.RUNNING),
        ("RUNNING", RemoteState.RUNNING),
        ("CANCELLING", RemoteState.RUNNING),
        ("SUCCEEDED", RemoteState.ENDED),
        ("PARTIALLY_SUCCEEDED", RemoteState.ENDED),
        ("CANCELLED", RemoteState.ENDED),
        ("EXPIRED", RemoteState.ENDED),
        ("FAILED", RemoteState.ENDED),
        ("NEVER_HEARD_OF", RemoteState.RUNNING),
    ],
)
def test_states(prefix: str, state: str, expected: RemoteState) -> None:
    """Both prefixes, and every state, also those that the SDK's `done` forgets; a new one counts as running."""
    remote = remote_batch(operation(prefix + state))

    assert (remote.remote_id, remote.state) == ("batches/b", expected)
    assert remote.created is not None
    assert remote.created.isoformat() == "2026-11-20T10:00:00.123456+00:00"


@pytest.mark.parametrize(
    ("code", "refusal"),
    [
        (3, Rejected),
        (5, Rejected),
        (9, Rejected),
        (8, TokenLimit),
        (7, Unauthorised),
        (16, Unauthorised),
        (13, None),
        (14, None),
        (4, None),
    ],
)
def test_why_a_batch_failed(code: int, refusal: type[ProviderError] | None) -> None:
    """An error that says no is a refusal; one that says the API broke down ends the batch, whose lines may try again."""
    remote = remote_batch(operation("BATCH_STATE_FAILED", done=True, error={"code": code, "message": "why"}))

    assert remote.state is (RemoteState.ENDED if refusal is None else RemoteState.REFUSED)
    assert refusal is None or isinstance(remote.refusal, refusal)


def test_a_failed_batch_with_output_has_ended() -> None:
    """What was answered was paid for, so it is fetched, whatever the error says."""
    for output in ({"responsesFile": "files/f"}, {"inlinedResponses": {"inlinedResponses": [{"response": {}}]}}):
        shown = operation("BATCH_STATE_FAILED", error={"code": 3, "message": "why"}, response=output)

        assert remote_batch(shown).state is RemoteState.ENDED


def test_counts_are_strings_and_may_be_absent() -> None:
    """int64 comes as text, zeros not at all; what is not told is not known."""
    shown = operation("BATCH_STATE_RUNNING")
    about: Any = shown["metadata"]
    unknown = remote_batch(shown)
    about["batchStats"] = {"requestCount": "10", "successfulRequestCount": "3", "failedRequestCount": "1"}
    known = remote_batch(shown)
    about["batchStats"] = {"requestCount": "10", "pendingRequestCount": "10"}
    none_done = remote_batch(shown)

    assert (unknown.total, unknown.done) == (None, None)
    assert (known.total, known.done) == (10, 4)
    assert (none_done.total, none_done.done) == (10, None)


def test_an_operation_without_an_envelope_is_read_too() -> None:
    """A batch that stands by itself says the same."""
    remote = remote_batch({"name": "batches/b", "state": "JOB_STATE_SUCCEEDED", "output": {"responsesFile": "files/f"}})

    assert (remote.state, remote.where) == (RemoteState.ENDED, {"responses_file": "files/f"})


@pytest.mark.parametrize("place", ["metadata", "response"])
@pytest.mark.parametrize("nested", [True, False])
def test_inlined_responses_are_found_where_they_are(place: str, nested: bool) -> None:
    """Twice nested or once, in the metadata or the response: each becomes a row with its key."""
    rows: list[dict[str, object]] = [{"response": {"a": 1}, "metadata": {"key": "k"}}, {"error": {"code": 3}}]
    output: dict[str, object] = {"inlinedResponses": {"inlinedResponses": rows} if nested else rows}
    shown = operation("BATCH_STATE_SUCCEEDED")
    if place == "metadata":
        shown["metadata"]["output"] = output  # type: ignore[index]
    else:
        shown["response"] = output

    assert [orjson.loads(row) for row in inlined_rows(shown)] == [
        {"key": "k", "response": {"a": 1}},
        {"key": None, "error": {"code": 3}},
    ]


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {"details": [{"reason": "API_KEY_INVALID"}]}, Unauthorised),
        (400, {"message": "API key expired. Please renew the API key."}, Unauthorised),
        (400, {"status": "FAILED_PRECONDITION", "message": "Please enable billing on your project"}, Unauthorised),
        (400, {"message": "Unknown name"}, Rejected),
        (400, {"message": "The File x is not in an ACTIVE state and usage is not allowed."}, Retryable),
        (404, {"message": "models/x is not found for API version v1"}, Rejected),
        (429, {"status": "RESOURCE_EXHAUSTED"}, Retryable),
        (429, {"details": [{"violations": [{"quotaId": "BatchEnqueuedTokensPerModel"}]}]}, TokenLimit),
    ],
)
def test_create_errors_by_what_google_says(status: int, error: Mapping[str, object], kind: type[ProviderError]) -> None:
    """Where Google's status says too little, its reason decides."""
    assert type(FAILURES.create_failure(StatusError(answered(status, {"error": error})))) is kind


def test_a_wish_to_wait_is_read_from_header_or_details() -> None:
    """`Retry-After`, or `RetryInfo` in the body."""
    told = {"error": {"details": [{"retryDelay": "37s"}]}}

    assert answered(429, told).retry_after == 37
    assert answered(429, told, {"Retry-After": "5"}).retry_after == 5
    assert answered(429, [told], {"Retry-After": "soon"}).retry_after == 37
    assert answered(429, None).retry_after is None
