"""What Mistral's errors tell, and what they mean only there; for everything else see `gateway.failures`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from gateway import ProviderError, Retryable, TokenLimit
from gateway.failures import CREATE, Answered, Failures, is_foreign, redirect, retry_after
from gateway_mistral.decode import error_body
from gateway_mistral.remote import no_room

#: Seconds to wait when a create call does not see the file that was just uploaded.
_FILE_PAUSE = 5.0


def failures_with(file_id: str | None = None) -> Failures:
    """For calls in which `file_id` was sent, which a moment ago was there; None: none was."""
    return Failures(read=read, judge=partial(judge, file_id))


def read(error: Exception) -> Answered | None:
    """The error answer behind an exception of the SDK; one that its models do not like is an answer of status 200."""
    from mistralai.client.errors import MistralError

    if not isinstance(error, MistralError):
        return None
    return answered(error.status_code, error.body, error.headers)


def answered(status: int, text: str, headers: Mapping[str, str]) -> Answered:
    """An answer that is an error; its `content` is its body as text."""
    told = error_body(text)
    message = told.message if told else ""
    return Answered(
        status=status,
        message=message,
        retry_after=retry_after(headers),
        redirect=redirect(headers),
        foreign=is_foreign(status, text),
        content=text,
    )


def judge(file_id: str | None, answer: Answered, what: str) -> ProviderError | None:
    """Mistral says by text only that a file is not there yet, and by several statuses that there is no room."""
    if what == CREATE and file_id and answer.status in (400, 404, 422) and _names_file(str(answer.content), file_id):
        return Retryable(f"{what}: {answer.reason}", retry_after=_FILE_PAUSE)
    if answer.status not in (402, 413) and no_room(answer.reason):
        return TokenLimit(f"{what}: {answer.reason}", retry_after=answer.retry_after)
    return None


def _names_file(text: str, file_id: str) -> bool:
    """Whether a refusal is about the file."""
    lowered = text.lower()
    return file_id.lower() in lowered or ("file" in lowered and ("not found" in lowered or "not exist" in lowered))


FAILURES = failures_with()
creating, repeatable = FAILURES.creating, FAILURES.repeatable
stopping, deleting = FAILURES.stopping, FAILURES.deleting
