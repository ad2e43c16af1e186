"""What errors of OpenAI's shape tell, and what they mean only there; for everything else see `gateway.failures`."""

from __future__ import annotations

import re

from gateway import ProviderError, Retryable, TokenLimit, Unauthorised
from gateway.failures import CREATE, Answered, Failures, is_foreign, redirect, retry_after
from gateway.rows import error_body
from gateway_openai.decode import CAPACITY_STATUS
from gateway_openai.remote import TOKEN_CODES, UNPAID_CODES

#: Codes that say: the key is good, and its plan has no batches.
_PLAN_CODES = frozenset({"not_available_for_plan"})
#: Seconds to wait when a create call does not see the file that was just uploaded.
_FILE_PAUSE = 5.0
#: How services say that they do not see a file; its name may stand between the words, and nothing else.
_UNSEEN_FILE = re.compile(
    r"\b(?:cannot find|could not find|no such) file\b"
    r"|\bfile\b(?: with id)?:?(?: ['\"`]?[\w.-]+['\"`]?)? (?:(?:was |is )?not found|does not exist|could not be found)\b",
    re.IGNORECASE,
)


def read(error: Exception) -> Answered | None:
    """The error answer behind an exception of the SDK; its `content` is the error object, empty for a mere sentence."""
    import openai

    if not isinstance(error, openai.APIStatusError):
        return None
    body = error.body if isinstance(error.body, dict) else {}
    told = error_body(error.body)
    return Answered(
        status=error.status_code,
        message=told.message if told else "",
        code=str(error.code or ""),
        retry_after=retry_after(error.response.headers),
        redirect=redirect(error.response.headers),
        foreign=is_foreign(error.status_code, error.response.text),
        content=body,
    )


def judge(answered: Answered, what: str) -> ProviderError | None:
    """Codes say more than statuses: no room, no money, no batches in this plan."""
    code, reason = answered.code.lower(), f"{what}: {answered.reason}"
    if what == CREATE and answered.status in (400, 404, 422) and _is_file_not_visible_yet(answered):
        return Retryable(reason, retry_after=_FILE_PAUSE)
    if code in TOKEN_CODES:
        return TokenLimit(reason, retry_after=answered.retry_after)
    if code in _PLAN_CODES:
        return Unauthorised(
            f"{reason}: the plan behind this key has no batches; upgrade it, or route elsewhere", of_key=False
        )
    if code in UNPAID_CODES:
        return Unauthorised(reason, of_key=False)
    if answered.status == CAPACITY_STATUS:
        return Retryable(reason, retry_after=answered.retry_after)
    return None


def _is_file_not_visible_yet(answered: Answered) -> bool:
    """The known 400 right after an upload, or what others say in its place: the batch service has not seen the file yet."""
    param = answered.content.get("param") if isinstance(answered.content, dict) else None
    return bool(_UNSEEN_FILE.search(answered.message)) and param in ("file_id", "input_file_id", None)


FAILURES = Failures(read=read, judge=judge)
creating, repeatable = FAILURES.creating, FAILURES.repeatable
stopping, deleting = FAILURES.stopping, FAILURES.deleting
