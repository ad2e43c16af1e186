"""Errors that no provider has said: pages of proxies, and of servers that know nothing of the address."""

from __future__ import annotations

import pytest

from gateway import Missing, ProviderError, Rejected, Retryable, Unauthorised
from gateway.failures import Answered, Failures, StatusError, is_foreign

PAGE = "<html><h1>404 Not Found</h1></html>"


@pytest.mark.parametrize(
    ("status", "body", "foreign"),
    [
        (404, PAGE, True),
        (400, f"\n  {PAGE}", True),
        (404, "", True),
        (404, "404 page not found\n", True),
        (404, b"default backend - \xff404", True),
        (405, '{"detail": "Method Not Allowed"}', True),
        (404, '{"detail": "Not Found"}', True),
        (404, '{"message": "no Route matched with those values", "request_id": "1"}', True),
        (404, '{"status": 404, "error": "Not Found", "message": "", "path": "/v1/batches"}', True),
        (404, '{"error": {"message": "Not Found", "type": "invalid_request_error"}}', False),
        (404, '{"error": "File not found"}', False),
        (404, '{"detail": "Model x not found"}', False),
        (404, '{"object": "error", "message": {"detail": [{"msg": "x"}]}}', False),
        (404, '["x"]', False),
        (400, "", False),
        (400, "line 3 is no JSON", False),
        (422, '{"detail": "Not Found"}', False),
    ],
)
def test_what_a_provider_says_is_told_from_what_stands_before_it(status: int, body: str | bytes, foreign: bool) -> None:
    """Pages, and routers that know no such address, are nobody's word on a request; what a Batch API may have said is."""
    assert is_foreign(status, body) is foreign


@pytest.mark.parametrize(
    ("status", "create", "upload", "poll", "deletion"),
    [
        (400, Retryable, Retryable, Retryable, Rejected),
        (404, Retryable, Retryable, Missing, Missing),
        (405, Retryable, Retryable, Retryable, Rejected),
        (403, Unauthorised, Unauthorised, Unauthorised, Unauthorised),
        (413, Rejected, Rejected, Retryable, Rejected),
    ],
)
def test_a_proxy_refuses_nobody(
    status: int,
    create: type[ProviderError],
    upload: type[ProviderError],
    poll: type[ProviderError],
    deletion: type[ProviderError],
) -> None:
    """What a server in between says refuses no request, and is told as such; what names something is looked for as ever."""
    error = StatusError(Answered(status=status, message=PAGE, foreign=True))
    failures = [
        Failures().create_failure(error),
        Failures().repeatable_failure(error, "upload", refusable=True, named=False),
        Failures().repeatable_failure(error, "poll"),
        Failures().repeatable_failure(error, "discard", refusable=True),
    ]

    assert [type(failure) for failure in failures] == [create, upload, poll, deletion]
    assert all("<html>" not in str(failure) for failure in failures)
    assert "base_url" in str(failures[0])


@pytest.mark.parametrize("status", [407, 421, 425])
def test_the_way_to_a_provider_refuses_nobody(status: int) -> None:
    """A proxy that wants a password, a host that is another's: nothing was made, and no request is to blame."""
    error = StatusError(Answered(status=status, message="why", retry_after=7.0))
    failure = Failures().create_failure(error)

    assert isinstance(failure, Retryable)
    assert failure.retry_after == 7.0


def test_what_is_gone_for_good_is_missing() -> None:
    """A batch or a file of which a service says 410 is looked for like one that it has never heard of, and not asked for ever."""
    error = StatusError(Answered(status=410, message="deleted"))

    assert isinstance(Failures().repeatable_failure(error, "poll"), Missing)
    assert isinstance(Failures().repeatable_failure(error, "list", named=False), Retryable)
