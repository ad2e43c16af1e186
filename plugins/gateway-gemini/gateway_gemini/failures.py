"""What errors of Google's API tell, and what they mean only there; for everything else see `gateway.failures`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gateway import Missing, ProviderError, Retryable, TokenLimit, Unauthorised
from gateway.failures import CREATE, Answered, Failures, is_foreign, redirect, retry_after, seconds
from gateway.reading import items, mapping, text

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
#: Seconds to wait when a create call does not see the file that was just uploaded.
_FILE_PAUSE = 5.0


def read(error: Exception) -> Answered | None:
    """The error answer behind an exception of the SDK."""
    from google.genai.errors import APIError

    if not isinstance(error, APIError):
        return None
    response, status = error.response, error.code or 0
    foreign = response is not None and is_foreign(status, str(getattr(response, "text", "")))
    return answered(status, error.details, getattr(response, "headers", None), foreign=foreign)


def answered(
    status: int, content: object, headers: Mapping[str, str] | None = None, *, foreign: bool = False
) -> Answered:
    """An error with the parsed body `content`; its own `content` is the error object, its code google.rpc's name."""
    whole = mapping(content[0]) if isinstance(content, list) and content else mapping(content)
    error = mapping(whole.get("error")) or whole
    return Answered(
        status=status,
        message=text(error.get("message")) or "",
        code=(text(error.get("status")) or "").upper(),
        retry_after=_wish(headers or _NO_HEADERS, error),
        redirect=redirect(headers or _NO_HEADERS),
        foreign=foreign,
        content=error,
    )


def judge(answer: Answered, what: str) -> ProviderError | None:
    """Where Google's status says too little, its words and details decide."""
    reason = f"{what}: {answer.reason}"
    if what == CREATE and _is_file_not_usable(answer):
        return Retryable(reason, retry_after=_FILE_PAUSE)
    if what != CREATE and answer.status == 403 and "may not exist" in answer.message:
        # Files that are gone are told so; a key that may not see them reads the same, and polls will tell.
        return Missing(reason)
    if answer.status in (402, 403) or is_about_key(answer):
        told = f"status {answer.status}, the key is not accepted or may not do this: {answer.code}"
        return Unauthorised(f"{what}: {told}", of_key=is_about_key(answer))
    room = _details(answer, "quotaId") + _details(answer, "quotaMetric")
    if answer.status == 429 and any("token" in quota.lower() for quota in room):
        return TokenLimit(reason, retry_after=answer.retry_after)
    return None


def is_about_key(answer: Answered) -> bool:
    """An invalid key is a 400 here, told by its reason; so is an account that must pay first."""
    if any(reason.startswith("API_KEY") for reason in _details(answer, "reason")):
        return True
    message = answer.message.lower()
    unpaid = answer.code == "FAILED_PRECONDITION" and "billing" in message
    return answer.status == 400 and (message.startswith("api key") or unpaid)


def already_exists(answer: Answered) -> bool:
    """Whether a name has been taken; by which status is not documented."""
    told = answer.code == "ALREADY_EXISTS" or "already exist" in answer.message.lower()
    return answer.status == 409 or (answer.status == 400 and told)


def _is_file_not_usable(answer: Answered) -> bool:
    """The input file is not there yet, or no longer: with time, or uploaded anew, it will be."""
    message = answer.message.lower()
    if answer.status in (400, 403, 404) and "file" in message:
        return any(words in message for words in ("may not exist", "not in an active state", "file not found"))
    return False


def _details(answer: Answered, field: str) -> list[str]:
    """What the error's details say under `field`, at any depth of one list."""
    found = []
    for detail in items(mapping(answer.content).get("details")):
        entries = [mapping(detail), *(mapping(each) for each in items(mapping(detail).get("violations")))]
        found += [content for entry in entries if (content := text(entry.get(field)))]
    return found


def _wish(headers: Mapping[str, str], error: Mapping[str, object]) -> float | None:
    """The provider's wish in seconds, from the headers or from `RetryInfo.retryDelay` ("37s")."""
    delays = [text(mapping(detail).get("retryDelay")) for detail in items(error.get("details"))]
    wishes = [retry_after(headers), *(seconds(delay.removesuffix("s")) for delay in delays if delay)]
    return next((wish for wish in wishes if wish is not None), None)


FAILURES = Failures(read=read, judge=judge)
creating, repeatable = FAILURES.creating, FAILURES.repeatable
stopping, deleting = FAILURES.stopping, FAILURES.deleting
