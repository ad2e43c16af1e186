"""What Together's errors tell, and what they mean only there; for everything else see `gateway.failures`.

Its batch endpoints answer `{"error": "a sentence"}`, its other ones `{"error": {"message", "type", "param", "code"}}`.
"""

from __future__ import annotations

from gateway import ProviderError, Retryable, TokenLimit, Unauthorised
from gateway.failures import CREATE, Answered, Failures, is_foreign, redirect, retry_after
from gateway_together.decode import error_body
from gateway_together.remote import is_crowded, is_unpaid, lacks_file

#: Seconds to wait when a create call does not see the file that was just uploaded.
_FILE_PAUSE = 5.0


def read(error: Exception) -> Answered | None:
    """The error answer behind an exception of the SDK, without the SDK's own guess at its cause."""
    import together

    if not isinstance(error, together.APIStatusError):
        return None
    body = error.body
    told = error_body(body.get("error")) or error_body(body) if isinstance(body, dict) else error_body(body)
    return Answered(
        status=error.status_code,
        message=told.message if told else "",
        code=(told.code or "") if told else "",
        retry_after=retry_after(error.response.headers),
        redirect=redirect(error.response.headers),
        foreign=is_foreign(error.status_code, error.response.text),
    )


def judge(answered: Answered, what: str) -> ProviderError | None:
    """Sentences say more than statuses: no file yet, no money, no room."""
    reason = f"{what}: {answered.reason}"
    if what == CREATE and answered.status in (400, 404) and lacks_file(reason):
        return Retryable(reason, retry_after=_FILE_PAUSE)
    if is_unpaid(reason):
        return Unauthorised(reason, of_key=answered.status == 401)
    if is_crowded(reason) and answered.status not in (402, 403):
        return TokenLimit(reason, retry_after=answered.retry_after)
    return None


FAILURES = Failures(read=read, judge=judge)
creating, repeatable = FAILURES.creating, FAILURES.repeatable
stopping, deleting = FAILURES.stopping, FAILURES.deleting
