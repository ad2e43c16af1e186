"""What Google Cloud's errors and credentials tell, and what they mean only there; for the rest see `gateway.failures`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from gateway import ProviderError, Retryable, Unauthorised
from gateway.failures import CREATE, Answered, Failures, is_transport_failure, redirect, retry_after
from gateway_gemini import failures as gemini

if TYPE_CHECKING:
    from google.auth.exceptions import GoogleAuthError


@asynccontextmanager
async def creating(what: str = CREATE) -> AsyncIterator[None]:
    """As `Failures.creating`; the token is fetched before the call is sent."""
    async with FAILURES.creating(what), _credentials(what):
        yield


@asynccontextmanager
async def repeatable(what: str, *, named: bool = True) -> AsyncIterator[None]:
    """As `Failures.repeatable`; here no call but the create call refuses anybody's request."""
    async with FAILURES.repeatable(what, named=named), _credentials(what):
        yield


@asynccontextmanager
async def stopping(runs_on: Callable[[], Awaitable[bool]]) -> AsyncIterator[None]:
    """As `Failures.stopping`."""
    async with FAILURES.stopping(runs_on), _credentials("cancel"):
        yield


def read(error: Exception) -> Answered | None:
    """The error answer behind an exception of google-genai or google-cloud-storage."""
    from google.api_core.exceptions import GoogleAPICallError
    from requests.exceptions import TooManyRedirects

    if isinstance(error, TooManyRedirects) and error.response is not None:
        return Answered(status=error.response.status_code, redirect=redirect(error.response.headers))
    if not isinstance(error, GoogleAPICallError):
        return gemini.read(error)
    headers = getattr(error.response, "headers", None) or {}
    return Answered(
        status=int(error.code or 0),
        message=str(error.message or ""),
        retry_after=retry_after(headers),
        redirect=redirect(headers),
    )


def judge(answered: Answered, what: str) -> ProviderError | None:
    """A precondition is the project's (service agents being made, an API switched off), never a request's."""
    if answered.status == 400 and answered.code == "FAILED_PRECONDITION":
        return Retryable(f"{what}: {answered.reason}", retry_after=answered.retry_after)
    return None


def credentials_failure(what: str, error: GoogleAuthError) -> ProviderError:
    """No token could be had, so nothing was sent: `Unauthorised`, unless the library says that it may pass."""
    if error.retryable or is_transport_failure(error):
        return Retryable(f"{what}: no token for now: {type(error).__name__}")
    advice = "set GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`"
    return Unauthorised(f"{what}: no usable Google Cloud credentials ({type(error).__name__}): {advice}")


@asynccontextmanager
async def _credentials(what: str) -> AsyncIterator[None]:
    from google.auth.exceptions import GoogleAuthError

    try:
        yield
    except GoogleAuthError as error:
        raise credentials_failure(what, error) from error


FAILURES = Failures(read=read, judge=judge)
