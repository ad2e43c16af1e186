"""From what the SDK raises to the contract's errors: which class decides what happens next.

The SDK's HTTP library is told by the names of its exceptions, not imported: SDK 2 has another one than SDK 3.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from gateway import Ambiguous, Missing, ProviderError, Rejected, Retryable, TokenLimit, Unauthorised
from gateway_openai.decode import CAPACITY_STATUS
from gateway_openai.remote import TOKEN_CODES, UNPAID_CODES

if TYPE_CHECKING:
    from openai import APIConnectionError, APIStatusError

#: Names of transport errors after which no byte of the request can have left.
_NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "LocalProtocolError"})
#: Names of everything the HTTP libraries raise for a transport that failed.
_TRANSPORT = frozenset({"TransportError", "StreamError", "RequestError"})
_AMBIGUOUS_STATUSES = frozenset({408, 409})
_MAX_REASON = 500
#: Codes that say: the key is good, and its plan has no batches.
_PLAN_CODES = frozenset({"not_available_for_plan"})


@asynccontextmanager
async def creating() -> AsyncIterator[None]:
    """Around the one create call: every failure that leaves its effect open comes out as `Ambiguous`."""
    import openai

    try:
        yield
    except openai.APIStatusError as error:
        raise create_failure(error) from error
    except openai.APIConnectionError as error:
        raise _connection_failure(error) from error
    except (openai.APIError, json.JSONDecodeError) as error:
        raise Ambiguous(f"the create call's answer cannot be read: {type(error).__name__}") from error


@asynccontextmanager
async def repeatable(what: str, *, refusable: bool = False, named: bool = True) -> AsyncIterator[None]:
    """Around a call that may be repeated: nothing comes out as `Ambiguous`.

    `Rejected` comes out only where the call is `refusable`, `Missing` only where it has `named` something: a 404 for an upload
    or a list says that the address is wrong, which an operator can mend.
    """
    import openai

    try:
        yield
    except openai.APIStatusError as error:
        failure = call_failure(error, what)
        refused = isinstance(failure, Rejected) and not refusable
        if refused or isinstance(failure, TokenLimit) or (isinstance(failure, Missing) and not named):
            failure = Retryable(failure.reason)
        raise failure from error
    except openai.APIError as error:
        raise Retryable(f"{what}: {_cause(error)}") from error
    except (Ambiguous, json.JSONDecodeError) as error:
        raise Retryable(f"{what}: the answer cannot be read") from error
    except ssl.SSLError as error:
        raise Retryable(f"{what}: {type(error).__name__}") from error
    except Exception as error:
        if not is_transport_failure(error):
            raise
        raise Retryable(f"{what}: {type(error).__name__}") from error


def create_failure(error: APIStatusError) -> ProviderError:
    """What a create call that was answered with an error means."""
    status = error.status_code
    if status in _AMBIGUOUS_STATUSES or status >= 500 or status < 400:
        return Ambiguous(f"create: status {status}")
    if status == 400 and _file_not_visible_yet(error):
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


def is_transport_failure(error: BaseException) -> bool:
    """Whether the connection failed, by the names of the exception's classes."""
    return any(kind.__name__ in _TRANSPORT for kind in type(error).__mro__)


def retry_after(error: APIStatusError) -> float | None:
    """The provider's wish in seconds, from `retry-after-ms` or `Retry-After`; dates are not read."""
    for header, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = error.response.headers.get(header, "")
        try:
            seconds = float(text) * unit
        except ValueError:
            continue
        if 0 <= seconds < 86_400:
            return seconds
    return None


def _refusal(error: APIStatusError, what: str) -> ProviderError:
    """A 4xx that says no: nothing has happened."""
    status, code = error.status_code, str(error.code or "").lower()
    reason = f"{what}: {_reason(error)}"
    if code in TOKEN_CODES:
        return TokenLimit(reason, retry_after=retry_after(error))
    if code in _PLAN_CODES:
        return Unauthorised(
            f"{reason} ({code}): the plan behind this key has no batches; upgrade it, or route elsewhere"
        )
    if status in (401, 402, 403) or code in UNPAID_CODES:
        return Unauthorised(reason)
    if status in (429, CAPACITY_STATUS):
        return Retryable(reason, retry_after=retry_after(error))
    return Rejected(reason)


def _file_not_visible_yet(error: APIStatusError) -> bool:
    """The known 400 right after an upload: the file is there, the batch service has not seen it yet."""
    return "cannot find file" in _reason(error).lower() and error.param in ("file_id", "input_file_id", None)


def _connection_failure(error: APIConnectionError) -> ProviderError:
    """No answer at all: what is certain is only that a connection that was never made carried nothing."""
    cause = error.__cause__
    names = {kind.__name__ for kind in type(cause).__mro__}
    if names & _NEVER_SENT or isinstance(cause, ssl.SSLCertVerificationError):
        return Retryable(f"create: {_cause(error)}")
    return Ambiguous(f"create: {_cause(error)}")


def _cause(error: Exception) -> str:
    return type(error.__cause__ or error).__name__


def _reason(error: APIStatusError) -> str:
    """The provider's own message; never the key, which some providers repeat in part."""
    if error.status_code == 401:
        return "status 401, the key is not accepted"
    body = error.body
    message = body.get("message") if isinstance(body, dict) else None
    return f"status {error.status_code}: {str(message or 'no reason given')[:_MAX_REASON]}"
