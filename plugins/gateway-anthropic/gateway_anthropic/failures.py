"""From what the SDK raises to the contract's errors: which class decides what happens next."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from gateway import Ambiguous, Missing, ProviderError, Rejected, Retryable, Unauthorised
from gateway_anthropic.decode import UNPAID

if TYPE_CHECKING:
    from anthropic import APIConnectionError, APIStatusError

#: Names of transport errors after which no byte of the request can have left.
_NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "LocalProtocolError"})
#: Names of everything the HTTP library raises for a transport that failed.
_TRANSPORT = frozenset({"TransportError", "StreamError", "RequestError"})
_AMBIGUOUS_STATUSES = frozenset({408, 409})
#: How the provider names the request that it refuses the whole batch for; counts from 0.
_NAMED_LINE = re.compile(r"\brequests\.(\d{1,6})\b")
_MAX_REASON = 500


@asynccontextmanager
async def creating() -> AsyncIterator[None]:
    """Around the one create call: every failure that leaves its effect open comes out as `Ambiguous`."""
    import anthropic

    try:
        yield
    except anthropic.APIStatusError as error:
        raise create_failure(error) from error
    except anthropic.APIConnectionError as error:
        raise _connection_failure(error) from error
    except anthropic.APIError as error:
        raise Ambiguous(f"the create call's answer cannot be read: {type(error).__name__}") from error


@asynccontextmanager
async def repeatable(what: str, *, named: bool = True, refusable: bool = False) -> AsyncIterator[None]:
    """Around a call that may be repeated: nothing comes out as `Ambiguous`.

    `Rejected` comes out only where the call is `refusable`, `Missing` only where it has `named` something: a 404 for a list
    says that the address is wrong, which an operator can mend.
    """
    import anthropic

    try:
        yield
    except anthropic.APIStatusError as error:
        failure = call_failure(error, what)
        if (isinstance(failure, Rejected) and not refusable) or (isinstance(failure, Missing) and not named):
            failure = Retryable(failure.reason)
        raise failure from error
    except anthropic.APIError as error:
        raise Retryable(f"{what}: {_cause(error)}") from error
    except Ambiguous as error:
        raise Retryable(f"{what}: the answer cannot be read") from error
    except ssl.SSLError as error:
        raise Retryable(f"{what}: {type(error).__name__}") from error
    except Exception as error:
        if not _is_transport_failure(error):
            raise
        raise Retryable(f"{what}: {type(error).__name__}") from error


def create_failure(error: APIStatusError) -> ProviderError:
    """What a create call that was answered with an error means."""
    status = error.status_code
    if status in _AMBIGUOUS_STATUSES or status >= 500 or status < 400:
        return Ambiguous(f"create: status {status}")
    return _refusal(error, "create")


def call_failure(error: APIStatusError, what: str) -> ProviderError:
    """What any other call that was answered with an error means."""
    status = error.status_code
    if status == 404:
        return Missing(f"{what}: {_reason(error)}")
    if status in _AMBIGUOUS_STATUSES or status >= 500 or status < 400:
        return Retryable(f"{what}: status {status}", retry_after=retry_after(error))
    return _refusal(error, what)


def retry_after(error: APIStatusError) -> float | None:
    """The provider's wish in seconds, from `retry-after-ms` or `Retry-After`; dates are not read."""
    for header, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(error.response.headers.get(header, "")) * unit
        except ValueError:
            continue
        if 0 <= seconds < 86_400:
            return seconds
    return None


def _refusal(error: APIStatusError, what: str) -> ProviderError:
    """A 4xx that says no: nothing has happened."""
    status, reason = error.status_code, _reason(error)
    if status in (401, 402, 403) or (status == 400 and UNPAID in reason.lower()):
        return Unauthorised(f"{what}: {reason}")
    if status == 429:
        return Retryable(f"{what}: {reason}", retry_after=retry_after(error))
    return Rejected(f"{what}: {reason}", {int(n): reason for n in _NAMED_LINE.findall(reason)})


def _connection_failure(error: APIConnectionError) -> ProviderError:
    """No answer at all: what is certain is only that a connection that was never made carried nothing."""
    cause = error.__cause__
    names = {kind.__name__ for kind in type(cause).__mro__}
    if names & _NEVER_SENT or isinstance(cause, ssl.SSLCertVerificationError):
        return Retryable(f"create: {_cause(error)}")
    return Ambiguous(f"create: {_cause(error)}")


def _is_transport_failure(error: BaseException) -> bool:
    return any(kind.__name__ in _TRANSPORT for kind in type(error).__mro__)


def _cause(error: Exception) -> str:
    return type(error.__cause__ or error).__name__


def _reason(error: APIStatusError) -> str:
    """The provider's own message; never what it says of the key."""
    if error.status_code == 401:
        return "status 401, the key is not accepted"
    body = error.body
    inner = body.get("error") if isinstance(body, dict) else None
    message = inner.get("message") if isinstance(inner, dict) else None
    return f"status {error.status_code}: {str(message or 'no reason given')[:_MAX_REASON]}"
