"""From what the SDK raises to the contract's errors: which class decides what happens next.

Together's batch endpoints answer `{"error": "a sentence"}`, its other ones `{"error": {"message", "type", "param", "code"}}`.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from gateway import Ambiguous, Missing, ProviderError, Rejected, Retryable, TokenLimit, Unauthorised
from gateway_together.decode import error_body
from gateway_together.remote import is_crowded, is_unpaid, lacks_file

if TYPE_CHECKING:
    from together import APIConnectionError, APIStatusError

_AMBIGUOUS_STATUSES = frozenset({408, 409})
_MAX_REASON = 500


@asynccontextmanager
async def creating() -> AsyncIterator[None]:
    """Around the one create call: every failure that leaves its effect open comes out as `Ambiguous`."""
    import together

    try:
        yield
    except together.APIStatusError as error:
        raise create_failure(error) from error
    except together.APIConnectionError as error:
        raise _connection_failure(error) from error
    except (together.APIError, json.JSONDecodeError) as error:
        raise Ambiguous(f"the create call's answer cannot be read: {type(error).__name__}") from error


@asynccontextmanager
async def repeatable(what: str, *, refusable: bool = False, named: bool = True) -> AsyncIterator[None]:
    """Around a call that may be repeated: nothing comes out as `Ambiguous`.

    `Rejected` comes out only where the call is `refusable`, `Missing` only where it has `named` something: a 404 for an upload
    or a list says that the address is wrong, which an operator can mend.
    """
    import httpx
    import together

    try:
        yield
    except together.APIStatusError as error:
        failure = call_failure(error, what)
        refused = isinstance(failure, Rejected) and not refusable
        if refused or isinstance(failure, TokenLimit) or (isinstance(failure, Missing) and not named):
            failure = Retryable(failure.reason)
        raise failure from error
    except together.APIError as error:
        raise Retryable(f"{what}: {_cause(error)}") from error
    except (Ambiguous, json.JSONDecodeError) as error:
        raise Retryable(f"{what}: the answer cannot be read") from error
    except (httpx.RequestError, httpx.StreamError, ssl.SSLError) as error:
        raise Retryable(f"{what}: {type(error).__name__}") from error


def create_failure(error: APIStatusError) -> ProviderError:
    """What a create call that was answered with an error means."""
    status = error.status_code
    if status in _AMBIGUOUS_STATUSES or status >= 500 or status < 400:
        return Ambiguous(f"create: status {status}")
    if status in (400, 404) and lacks_file(_reason(error)):
        return Retryable(f"create: {_reason(error)}", retry_after=5.0)
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
    """The provider's wish in seconds; dates are not read."""
    try:
        seconds = float(error.response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < 86_400 else None


def _refusal(error: APIStatusError, what: str) -> ProviderError:
    """A 4xx that says no: nothing has happened."""
    status, told = error.status_code, _reason(error)
    reason = f"{what}: {told}"
    if status in (401, 402, 403) or is_unpaid(told):
        return Unauthorised(reason)
    if is_crowded(told):
        return TokenLimit(reason, retry_after=retry_after(error))
    if status == 429:
        return Retryable(reason, retry_after=retry_after(error))
    return Rejected(reason)


def _connection_failure(error: APIConnectionError) -> ProviderError:
    """No answer at all: what is certain is only that a connection that was never made carried nothing."""
    import httpx

    never_sent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
    never_meant = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)
    if isinstance(error.__cause__, never_sent + never_meant):
        return Retryable(f"create: {_cause(error)}")
    return Ambiguous(f"create: {_cause(error)}")


def _cause(error: Exception) -> str:
    return type(error.__cause__ or error).__name__


def _reason(error: APIStatusError) -> str:
    """The provider's own words; never those of a 401, which may repeat the key, nor the SDK's own guess at its cause."""
    if error.status_code == 401:
        return "status 401, the key is not accepted"
    body = error.body
    told = error_body(body.get("error")) or error_body(body) if isinstance(body, dict) else error_body(body)
    if told is None:
        return f"status {error.status_code}: no reason given"
    code = f" ({told.code[:60]})" if told.code else ""
    return f"status {error.status_code}: {told.message[:_MAX_REASON]}{code}"
