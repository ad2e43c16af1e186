"""What a failed call to a provider means: one policy for all plugins, told by status and by what is certain.

Floor 1. For authors of plugins. A plugin makes one `Failures` of two functions of its own: `read`, how its SDK's exceptions
tell of an error answer, and `judge`, what its provider means differently from everybody else. Then every call stands inside
`creating()` or `repeatable(...)`, and only the contract's errors come out; what is neither an answer nor a lost connection
comes out as it is, because it is a bug. `stopping` and `deleting` are `repeatable` for two kinds of calls that may come too late.

| what came back | a call that must not be repeated | any other call |
|---|---|---|
| nothing, the connection was never made | `Retryable` | `Retryable` |
| nothing else, or what cannot be read | `Ambiguous` | `Retryable` |
| 408, 409, 499, 5xx, a status below 400, which a redirect has too | `Ambiguous` | `Retryable` |
| `foreign`: a 400, 404, 405 and the like in nobody's words | `Retryable` | as below; of an upload never `Rejected` |
| what `judge` knows of another 4xx | as it says | as it says, within what the call may raise |
| 401, 402, 403 | `Unauthorised` | `Unauthorised` |
| 404, 410 | `Rejected` | `Missing` if the call has named something, else `Retryable` |
| 407, 421, 425, 429 | `Retryable` | `Retryable` |
| any other 4xx | `Rejected` | `Rejected` if the call is refusable, else `Retryable` |

Exceptions of HTTP libraries, and of the generators that most SDKs come from, are told by the names of their classes: which of
them are installed is the SDKs' choice, and none of them is imported here.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from gateway.answered import Answered, StatusError, is_foreign, redirect, retry_after, seconds
from gateway.errors import Ambiguous, Missing, ProviderError, Rejected, Retryable, TokenLimit, Unauthorised

__all__ = [
    "CREATE",
    "Answered",
    "Failures",
    "StatusError",
    "is_foreign",
    "is_transport_failure",
    "redirect",
    "retry_after",
    "seconds",
]

_MAX_PLACE = 100
#: What `creating()` calls a create call of a batch; `judge` compares with it.
CREATE: Final = "create"

#: They mean the same whoever says them.
_PLAIN = frozenset({401, 402, 403, 413, 429})
#: They are about the way to the provider, or its load, and never about the request.
_OF_THE_WAY = frozenset({407, 421, 425, 429})
#: What was named is not there, or not any more.
_GONE = frozenset({404, 410})
#: No byte of the request can have left. A protocol error of our own side is not here: it can come after the whole body.
_NEVER_SENT = frozenset(
    {
        *("ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"),  # httpx, requests
        *("ClientConnectorError", "ConnectionTimeoutError"),  # aiohttp
    }
)
#: The transport failed, or a download came out wrong.
_TRANSPORT = frozenset(
    {
        *("TransportError", "StreamError", "RequestError", "InvalidURL"),  # httpx
        *("RequestException", "HTTPError", "DataCorruption", "InvalidResponse"),  # requests, urllib3, Google's storage
        "ClientError",  # aiohttp
    }
)
#: Roots of what generated SDKs raise. Where `read` finds no error answer in one, there was none, or it could not be read.
_UNANSWERED = frozenset({"APIError", "NoResponseError"})


def _reads_nothing(_: Exception) -> Answered | None:
    return None


def _knows_nothing(_: Answered, __: str) -> ProviderError | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """The policy, with what one plugin adds to it."""

    #: The error answer behind an exception of the SDK; None when there is none behind it.
    read: Callable[[Exception], Answered | None] = _reads_nothing
    #: What a 4xx means at this provider, for the call that is named; None: what it means everywhere. Not asked about 408,
    #: 409 and 499. Whatever came with a 401 is hidden from it but for the code.
    judge: Callable[[Answered, str], ProviderError | None] = _knows_nothing

    @asynccontextmanager
    async def creating(self, what: str = CREATE) -> AsyncIterator[None]:
        """Around a call that must not be repeated: `Retryable` comes out only when it cannot have had an effect."""
        try:
            yield
        except Exception as error:
            failure = self.create_failure(error, what)
            if failure is None:
                raise
            raise failure from error

    @asynccontextmanager
    async def repeatable(self, what: str, *, refusable: bool = False, named: bool = True) -> AsyncIterator[None]:
        """Around a call that may be repeated: nothing comes out as `Ambiguous` or `TokenLimit`.

        `Rejected` comes out only where the call is `refusable`, `Missing` only where it has `named` something: a 404 for an
        upload or a list says that the address is wrong, which an operator can mend.
        """
        try:
            yield
        except Exception as error:
            failure = self.repeatable_failure(error, what, refusable=refusable, named=named)
            if failure is None:
                raise
            raise failure from error

    @asynccontextmanager
    async def stopping(self, runs_on: Callable[[], Awaitable[bool]], what: str = "cancel") -> AsyncIterator[None]:
        """Around the call that tells a batch to end. A failure counts, as `Retryable`, only if the batch then `runs_on`.

        One that has ended, or is on its way there, may refuse to be told again, each provider with a status of its own.
        """
        try:
            async with self.repeatable(what, refusable=True):
                yield
        except (Rejected, Retryable) as failure:
            if await runs_on():
                wish = failure.retry_after if isinstance(failure, Retryable) else None
                raise Retryable(failure.reason, retry_after=wish) from failure

    @asynccontextmanager
    async def deleting(self, what: str = "discard") -> AsyncIterator[None]:
        """Around a call that deletes one thing: what is gone already, or is not to be deleted, is passed over."""
        try:
            async with self.repeatable(what, refusable=True):
                yield
        except (Missing, Rejected):
            return

    def create_failure(self, error: Exception, what: str = CREATE) -> ProviderError | None:
        """What `creating()` makes of `error`; None: it is a bug, or means something already."""
        if isinstance(error, ProviderError):
            return None
        answered = self._answered(error)
        if answered is None:
            return _unanswered_create(error, what)
        if answered.leaves_open:
            return Ambiguous(f"{what}: {answered.reason}")
        if answered.foreign and answered.status not in _PLAIN:
            # Taken for a refusal of the batch, it would be halved until every request of it had failed.
            return Retryable(f"{what}: {answered.reason}", retry_after=answered.retry_after)
        return self.judge(answered, what) or _refusal(answered, what)

    def repeatable_failure(
        self, error: Exception, what: str, *, refusable: bool = False, named: bool = True
    ) -> ProviderError | None:
        """What `repeatable(...)` makes of `error`; None: it is a bug, or means something already."""
        if isinstance(error, Ambiguous):
            return Retryable(f"{what}: {error.reason or 'the answer cannot be read'}")
        if isinstance(error, ProviderError):
            return None
        answered = self._answered(error)
        if answered is None:
            return _unanswered_repeatable(error, what)
        if answered.leaves_open:
            return Retryable(f"{what}: {answered.reason}", retry_after=answered.retry_after)
        failure = self.judge(answered, what)
        if failure is None:
            failure = Missing(f"{what}: {answered.reason}") if answered.status in _GONE else _refusal(answered, what)
        unwanted = (
            isinstance(failure, TokenLimit | Ambiguous)
            or (isinstance(failure, Rejected) and not refusable)
            or (isinstance(failure, Missing) and not named)
            or (isinstance(failure, Rejected) and not named and answered.foreign and answered.status not in _PLAIN)
        )
        return Retryable(failure.reason, retry_after=answered.retry_after) if unwanted else failure

    def _answered(self, error: Exception) -> Answered | None:
        answered = error.answered if isinstance(error, StatusError) else self.read(error)
        if answered is not None and answered.status == 401:
            return replace(answered, message="", content=None)
        return answered


def is_transport_failure(error: BaseException) -> bool:
    """Whether `error` itself says that a connection failed."""
    if isinstance(error, ConnectionError | TimeoutError | ssl.SSLError):
        return True
    return bool(_names(error) & (_TRANSPORT | _NEVER_SENT))


def _unanswered_create(error: Exception, what: str) -> ProviderError | None:
    lost = _lost(error)
    if lost is not None:
        never_sent = isinstance(lost, ssl.SSLCertVerificationError) or bool(_names(lost) & _NEVER_SENT)
        return (Retryable if never_sent else Ambiguous)(f"{what}: {_told(lost)}")
    if isinstance(error, ValueError | RecursionError):
        return Ambiguous(f"{what}: the answer cannot be read: {type(error).__name__}")
    return None


def _unanswered_repeatable(error: Exception, what: str) -> ProviderError | None:
    lost = _lost(error)
    if lost is not None:
        return Retryable(f"{what}: {_told(lost)}")
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | RecursionError):
        return Retryable(f"{what}: the answer cannot be read: {type(error).__name__}")
    return None


def _refusal(answered: Answered, what: str) -> ProviderError:
    """A 4xx that says no: nothing has happened."""
    reason = f"{what}: {answered.reason}"
    if answered.status in (401, 402, 403):
        return Unauthorised(reason, of_key=answered.status == 401)
    if answered.status in _OF_THE_WAY:
        return Retryable(reason, retry_after=answered.retry_after)
    return Rejected(reason)


def _lost(error: Exception) -> BaseException | None:
    """The failure because of which there is no answer, or none that can be read; None: it is none of that kind.

    Of a chain of causes the outermost failure of a transport counts: what lies below it may be about another connection.
    """
    broken = next((link for link in _chain(error) if is_transport_failure(link)), None)
    return error if broken is None and _names(error) & _UNANSWERED else broken


def _told(lost: BaseException) -> str:
    """A failure of the line by its class, and whom it did not reach."""
    address = _address(lost)
    return f"{type(lost).__name__} at {address}" if address else type(lost).__name__


def _address(lost: BaseException) -> str:
    """The address that an HTTP library was to reach, if it says so: without user, path and query, which may be secret."""
    try:
        url = getattr(getattr(lost, "request", None), "url", None)
        scheme, place, *_ = urlsplit("" if url is None else str(url))
        host, port = getattr(lost, "host", None), getattr(lost, "port", None)
    except Exception:  # noqa: BLE001 - properties of strangers: httpx raises from this one
        return ""
    if scheme and place:
        return f"{scheme}://{place.rpartition('@')[2][:_MAX_PLACE]}"
    return f"{host[:_MAX_PLACE]}:{port}" if isinstance(host, str) and isinstance(port, int) else ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """`error` and its causes; a chain that bites its own tail ends there."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__


def _names(error: BaseException) -> frozenset[str]:
    return frozenset(kind.__name__ for kind in type(error).__mro__)
