"""What Anthropic's errors tell, and what they mean only there; for everything else see `gateway.failures`."""

from __future__ import annotations

import re

from gateway import ProviderError, Rejected, Retryable, Unauthorised
from gateway.failures import CREATE, Answered, Failures, redirect, retry_after
from gateway_anthropic.decode import UNPAID

#: They mean the same whoever says them.
_PLAIN_STATUSES = frozenset({401, 402, 403, 413, 429})
#: How the provider names the request that it refuses the whole batch for; counts from 0.
_NAMED_LINE = re.compile(r"\brequests\.(\d{1,6})\b")


def read(error: Exception) -> Answered | None:
    """The error answer behind an exception of the SDK; its `content` is the error object, None where there is none."""
    import anthropic

    if not isinstance(error, anthropic.APIStatusError):
        return None
    told = error.body.get("error") if isinstance(error.body, dict) else None
    message = told.get("message") if isinstance(told, dict) else None
    return Answered(
        status=error.status_code,
        message=str(message or ""),
        retry_after=retry_after(error.response.headers),
        redirect=redirect(error.response.headers),
        content=told if isinstance(told, dict) else None,
    )


def judge(answered: Answered, what: str) -> ProviderError | None:
    """A 400 says by its text that the account cannot pay, or which request is in the way of the others.

    Every refusal of the provider's has an error object. One without is a proxy's, as while that is being renewed: taken for a
    refusal of the batch, it would be halved until every request of it had failed.
    """
    reason = f"{what}: {answered.reason}"
    if what == CREATE and answered.content is None and answered.status not in _PLAIN_STATUSES:
        told = f"{what}: status {answered.status}, and not in the provider's words: is base_url right, or a proxy in the way?"
        return Retryable(told, retry_after=answered.retry_after)
    if answered.status == 400 and UNPAID in answered.message.lower():
        return Unauthorised(reason, of_key=False)
    if what == CREATE and answered.status in (400, 413, 422):
        lines = {int(n): answered.reason for n in _NAMED_LINE.findall(answered.message)}
        return Rejected(reason, lines) if lines else None
    return None


FAILURES = Failures(read=read, judge=judge)
creating, repeatable = FAILURES.creating, FAILURES.repeatable
stopping, deleting = FAILURES.stopping, FAILURES.deleting
