"""From what Google's API and the HTTP library say to the contract's errors: which class decides what happens next.

The HTTP library is told by the names of its exceptions, not imported: the SDK can use one of two.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import orjson

from gateway import Ambiguous, Missing, ProviderError, Rejected, Retryable, TokenLimit, Unauthorised
from gateway_gemini.reading import items, mapping, number, text

#: Names of transport errors after which no byte of the request can have left.
_NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "LocalProtocolError"})
#: Names of everything the HTTP libraries raise for a transport that failed.
_TRANSPORT = frozenset({"TransportError", "StreamError", "RequestError"})
_AMBIGUOUS_STATUSES = frozenset({408, 409})
_MAX_REASON = 500


class ErrorAnswer(Exception):
    """The API answered with an error: any status but 200."""

    def __init__(self, status: int, content: object, retry_after: str = "") -> None:
        """`content` is the parsed body, `retry_after` the header."""
        whole = mapping(content[0]) if isinstance(content, list) and content else mapping(content)
        self.status = status
        self.error: Mapping[str, object] = mapping(whole.get("error")) or whole
        self.retry_after = _wish(retry_after, self.error)
        super().__init__(f"status {status}")

    @property
    def message(self) -> str:
        """The provider's own words."""
        return (text(self.error.get("message")) or "no reason given")[:_MAX_REASON]

    @property
    def name(self) -> str:
        """google.rpc's name of the error."""
        return (text(self.error.get("status")) or "").upper()

    def details(self, field: str) -> list[str]:
        """What the error's details say under `field`, at any depth of one list."""
        found = []
        for detail in items(self.error.get("details")):
            entries = [mapping(detail), *(mapping(each) for each in items(mapping(detail).get("violations")))]
            found += [content for entry in entries if (content := text(entry.get(field)))]
        return found


@asynccontextmanager
async def creating() -> AsyncIterator[None]:
    """Around the one create call: every failure that leaves its effect open comes out as `Ambiguous`."""
    try:
        yield
    except ErrorAnswer as answer:
        raise create_failure(answer) from answer
    except ProviderError:
        raise
    except Exception as error:
        if not is_transport_failure(error):
            raise
        names = {kind.__name__ for kind in type(error).__mro__}
        never = names & _NEVER_SENT or isinstance(error.__cause__, ssl.SSLCertVerificationError)
        raise (Retryable if never else Ambiguous)(f"create: {type(error).__name__}") from error


@asynccontextmanager
async def repeatable(what: str, *, refusable: bool = False, named: bool = True) -> AsyncIterator[None]:
    """Around a call that may be repeated: nothing comes out as `Ambiguous`.

    `Rejected` comes out only where the call is `refusable`, `Missing` only where it has `named` something.
    """
    try:
        yield
    except Exception as error:
        failure = _repeatable_failure(error, what)
        if failure is None:
            raise
        refused = isinstance(failure, Rejected) and not refusable
        if refused or isinstance(failure, TokenLimit) or (isinstance(failure, Missing) and not named):
            failure = Retryable(failure.reason)
        raise failure from error


def create_failure(answer: ErrorAnswer) -> ProviderError:
    """What a create call that was answered with an error means."""
    status = answer.status
    if status in _AMBIGUOUS_STATUSES or status >= 500 or status < 400:
        return Ambiguous(f"create: status {status}")
    if _file_not_usable(answer):
        return Retryable(f"create: {answer.message}", retry_after=5.0)
    return _refusal(answer, "create")


def call_failure(answer: ErrorAnswer, what: str) -> ProviderError:
    """What any other call that was answered with an error means."""
    status = answer.status
    if status == 404 or (status == 403 and "may not exist" in answer.message):
        # Files that are gone are told so; a key that may not see them reads the same, and polls will tell.
        return Missing(f"{what}: {answer.message}")
    if status in _AMBIGUOUS_STATUSES or status >= 500 or status < 400:
        return Retryable(f"{what}: status {status}", retry_after=answer.retry_after)
    return _refusal(answer, what)


def key_problem(answer: ErrorAnswer) -> bool:
    """An invalid key is a 400 here, told by its reason; so is an account that must pay first."""
    if any(reason.startswith("API_KEY") for reason in answer.details("reason")):
        return True
    message = answer.message.lower()
    return answer.status == 400 and (
        message.startswith("api key") or (answer.name == "FAILED_PRECONDITION" and "billing" in message)
    )


def already_exists(answer: ErrorAnswer) -> bool:
    """Whether a name has been taken; by which status is not documented."""
    return answer.status in (400, 409) and (
        answer.status == 409 or answer.name == "ALREADY_EXISTS" or "already exist" in answer.message.lower()
    )


def is_transport_failure(error: BaseException) -> bool:
    """Whether the connection failed, by the names of the exception's classes."""
    return isinstance(error, ssl.SSLError) or any(kind.__name__ in _TRANSPORT for kind in type(error).__mro__)


def sdk_answer(error: Exception) -> ErrorAnswer | None:
    """The error answer behind an exception of the SDK; None when there is none behind it."""
    from google.genai.errors import APIError

    if not isinstance(error, APIError):
        return None
    headers = getattr(error.response, "headers", None)
    return ErrorAnswer(error.code or 0, error.details, headers.get("retry-after", "") if headers is not None else "")


def _repeatable_failure(error: Exception, what: str) -> ProviderError | None:
    """What an exception of a call that may be repeated means; None for one that is a bug, or means something already."""
    answer = error if isinstance(error, ErrorAnswer) else sdk_answer(error)
    if answer is not None:
        return call_failure(answer, what)
    if isinstance(error, Ambiguous | orjson.JSONDecodeError):
        return Retryable(f"{what}: the answer cannot be read")
    return Retryable(f"{what}: {type(error).__name__}") if is_transport_failure(error) else None


def _refusal(answer: ErrorAnswer, what: str) -> ProviderError:
    """A 4xx that says no: nothing has happened."""
    status, reason = answer.status, f"{what}: status {answer.status}: {answer.message}"
    if status in (401, 402, 403) or key_problem(answer):
        return Unauthorised(f"{what}: status {status}, the key is not accepted or may not do this: {answer.name}")
    if status == 429:
        room = answer.details("quotaId") + answer.details("quotaMetric")
        if any("token" in quota.lower() for quota in room):
            return TokenLimit(reason, retry_after=answer.retry_after)
        return Retryable(reason, retry_after=answer.retry_after)
    return Rejected(reason)


def _file_not_usable(answer: ErrorAnswer) -> bool:
    """The input file is not there yet, or no longer: with time, or uploaded anew, it will be."""
    message = answer.message.lower()
    if answer.status in (400, 403, 404) and "file" in message:
        return any(words in message for words in ("may not exist", "not in an active state", "file not found"))
    return False


def _wish(header: str, error: Mapping[str, object]) -> float | None:
    """The provider's wish in seconds, from `Retry-After` or from `RetryInfo.retryDelay` ("37s")."""
    delays = [text(mapping(detail).get("retryDelay")) for detail in items(error.get("details"))]
    for wish in (header, *(delay.removesuffix("s") for delay in delays if delay)):
        try:
            seconds = number(float(wish))
        except ValueError:
            continue
        if seconds is not None and 0 <= seconds < 86_400:
            return seconds
    return None
