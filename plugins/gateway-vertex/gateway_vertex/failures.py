"""From what Google's libraries raise to the contract's errors: which class decides what happens next.

HTTP libraries are told by the names of their exceptions, not imported: which one is there is the SDKs' choice.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from gateway import Ambiguous, Missing, ProviderError, Rejected, Retryable, Unauthorised
from gateway_gemini.reading import mapping, text

if TYPE_CHECKING:
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError
    from google.genai.errors import APIError

#: Names of transport errors after which no byte of the request can have left.
_NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "LocalProtocolError"})
#: Names of everything that the HTTP libraries raise for a transport that failed, and for a download that came out wrong.
_TRANSPORT = frozenset(
    {
        *("TransportError", "StreamError", "RequestError", "InvalidURL"),  # httpx
        *(
            "RequestException",
            "HTTPError",
            "DataCorruption",
            "InvalidResponse",
        ),  # requests, urllib3, google-cloud-storage
    }
)
_AMBIGUOUS_STATUSES = frozenset({408, 409})
_MAX_REASON = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An error that an API answered with."""

    status: int
    #: The canonical code's name, empty where there is none.
    name: str
    message: str
    retry_after: float | None

    @classmethod
    def of_jobs(cls, error: APIError) -> Self:
        """From google-genai."""
        content = mapping(error.details)
        told = mapping(content.get("error")) or content
        headers: Mapping[str, str] = getattr(error.response, "headers", None) or {}
        return cls(
            status=error.code or 0,
            name=text(told.get("status")) or "",
            message=text(told.get("message")) or "no reason given",
            retry_after=_seconds(headers.get("Retry-After")),
        )

    @classmethod
    def of_storage(cls, error: GoogleAPICallError) -> Self:
        """From google-cloud-storage."""
        headers: Mapping[str, str] = getattr(error.response, "headers", None) or {}
        return cls(
            status=int(error.code or 0),
            name="",
            message=str(error.message or "no reason given"),
            retry_after=_seconds(headers.get("Retry-After")),
        )

    @property
    def reason(self) -> str:
        """For operators; never what was said of the credentials."""
        if self.status == 401:
            return "status 401, the credentials are not accepted"
        return f"status {self.status}: {self.message[:_MAX_REASON]}"


@asynccontextmanager
async def creating() -> AsyncIterator[None]:
    """Around the one create call: every failure that leaves its effect open comes out as `Ambiguous`."""
    from google.auth.exceptions import GoogleAuthError
    from google.genai.errors import APIError

    try:
        yield
    except ProviderError:
        raise
    except APIError as error:
        raise create_failure(Answer.of_jobs(error)) from error
    except GoogleAuthError as error:
        # The token is fetched before the call is sent.
        raise credentials_failure("create", error) from error
    except (ValueError, RecursionError) as error:
        raise Ambiguous(f"the create call's answer cannot be read: {type(error).__name__}") from error
    except Exception as error:
        if not is_transport_failure(error):
            raise
        raise _connection_failure(error) from error


@contextmanager
def repeatable(what: str, *, named: bool = True) -> Iterator[None]:
    """Around a call that may be repeated: nothing comes out as `Ambiguous` or `Rejected`.

    `Missing` comes out only where the call has `named` something: a 404 for an upload or a list says that the bucket, the
    project or the address is wrong, which an operator can mend.
    """
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError
    from google.genai.errors import APIError

    try:
        yield
    except APIError as error:
        raise call_failure(what, Answer.of_jobs(error), named=named) from error
    except GoogleAPICallError as error:
        raise call_failure(what, Answer.of_storage(error), named=named) from error
    except GoogleAuthError as error:
        raise credentials_failure(what, error) from error
    except (Ambiguous, json.JSONDecodeError) as error:
        raise Retryable(f"{what}: the answer cannot be read") from error
    except Exception as error:
        if not is_transport_failure(error):
            raise
        raise Retryable(f"{what}: {type(error).__name__}") from error


def create_failure(answer: Answer) -> ProviderError:
    """What a create call that was answered with an error means."""
    if answer.status in _AMBIGUOUS_STATUSES or answer.status >= 500 or answer.status < 400:
        return Ambiguous(f"create: status {answer.status}")
    reason = f"create: {answer.reason}"
    if answer.status in (401, 402, 403):
        return Unauthorised(reason)
    # A precondition is the project's (service agents being made, an API switched off), never a request's.
    if answer.status == 429 or (answer.status == 400 and answer.name == "FAILED_PRECONDITION"):
        return Retryable(reason, retry_after=answer.retry_after)
    return Rejected(reason)


def call_failure(what: str, answer: Answer, *, named: bool = True) -> ProviderError:
    """What any other call that was answered with an error means."""
    reason = f"{what}: {answer.reason}"
    if answer.status in (401, 402, 403):
        return Unauthorised(reason)
    if answer.status == 404 and named:
        return Missing(reason)
    return Retryable(reason, retry_after=answer.retry_after)


def credentials_failure(what: str, error: GoogleAuthError) -> ProviderError:
    """No token could be had, so nothing was sent: `Unauthorised`, unless the library says that it may pass."""
    if error.retryable or is_transport_failure(error):
        return Retryable(f"{what}: no token for now: {type(error).__name__}")
    advice = "set GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`"
    return Unauthorised(f"{what}: no usable Google Cloud credentials ({type(error).__name__}): {advice}")


def is_transport_failure(error: BaseException) -> bool:
    """Whether the connection failed, by the names of the exception's classes."""
    if isinstance(error, ConnectionError | TimeoutError | ssl.SSLError):
        return True
    return any(kind.__name__ in _TRANSPORT for kind in type(error).__mro__)


def _connection_failure(error: Exception) -> ProviderError:
    """No answer at all: what is certain is only that a connection that was never made carried nothing."""
    reason = f"create: {type(error).__name__}"
    names = {kind.__name__ for kind in type(error).__mro__}
    never_sent = bool(names & _NEVER_SENT) or isinstance(error, ssl.SSLCertVerificationError)
    return Retryable(reason) if never_sent else Ambiguous(reason)


def _seconds(header: str | None) -> float | None:
    """A `Retry-After` in seconds; dates are not read."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < 86_400 else None
