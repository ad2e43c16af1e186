"""From what the SDK and its HTTP library raise to the contract's errors: which class decides what happens next."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from gateway import Ambiguous, Missing, ProviderError, Rejected, Retryable, TokenLimit, Unauthorised
from gateway_mistral.decode import error_body
from gateway_mistral.remote import no_room

_AMBIGUOUS_STATUSES = frozenset({408, 409})
_MAX_REASON = 500
#: Seconds to wait when a create call does not see the file that was just uploaded.
_FILE_PAUSE = 5.0


class Refused(Exception):
    """A call that was answered with something else than 200; not yet judged."""

    def __init__(self, *, status: int, text: str, headers: Mapping[str, str]) -> None:
        """`text` is the answer's body."""
        self.status = status
        self.text = text
        self.headers = headers
        super().__init__(status)


@asynccontextmanager
async def creating(file_id: str | None = None) -> AsyncIterator[None]:
    """Around the one create call: every failure that leaves its effect open comes out as `Ambiguous`."""
    import httpx2

    try:
        async with answering():
            yield
    except Refused as refused:
        raise create_failure(refused, file_id) from refused
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol) as error:
        raise Retryable(f"create: {type(error).__name__}") from error
    except ProviderError:
        raise
    except Exception as error:
        raise Ambiguous(f"create: {type(error).__name__}") from error


@asynccontextmanager
async def repeatable(what: str, *, refusable: bool = False, named: bool = True) -> AsyncIterator[None]:
    """Around a call that may be repeated: nothing comes out as `Ambiguous`.

    `Rejected` comes out only where the call is `refusable`, `Missing` only where it has `named` something: a 404 for an upload
    or a list says that the address is wrong, which an operator can mend.
    """
    import httpx2

    try:
        async with answering():
            yield
    except Refused as refused:
        failure = call_failure(refused, what)
        unwanted = isinstance(failure, Rejected) and not refusable
        if unwanted or isinstance(failure, TokenLimit) or (isinstance(failure, Missing) and not named):
            failure = Retryable(failure.reason)
        raise failure from refused
    except Ambiguous as error:
        raise Retryable(f"{what}: {error.reason}") from error
    except (httpx2.HTTPError, httpx2.StreamError) as error:
        raise Retryable(f"{what}: {type(error).__name__}") from error


@asynccontextmanager
async def answering() -> AsyncIterator[None]:
    """Around a call of the SDK: an answer that is an error comes out as `Refused`."""
    from mistralai.client.errors import MistralError, NoResponseError

    try:
        yield
    except MistralError as error:
        raise Refused(status=error.status_code, text=error.body, headers=dict(error.headers)) from error
    except NoResponseError as error:
        raise Ambiguous("no answer") from error


def create_failure(refused: Refused, file_id: str | None = None) -> ProviderError:
    """What a create call that was answered with an error means."""
    if _is_open(refused.status):
        return Ambiguous(f"create: status {refused.status}")
    if file_id and refused.status in (400, 404, 422) and _names_file(refused.text, file_id):
        return Retryable(f"create: {_reason(refused)}", retry_after=_FILE_PAUSE)
    return _refusal(refused, "create")


def call_failure(refused: Refused, what: str) -> ProviderError:
    """What any other call that was answered with an error means."""
    if refused.status == 404:
        return Missing(f"{what}: {_reason(refused)}")
    if _is_open(refused.status):
        return Retryable(f"{what}: status {refused.status}", retry_after=retry_after(refused))
    return _refusal(refused, what)


def retry_after(refused: Refused) -> float | None:
    """The provider's wish in seconds; dates are not read."""
    try:
        seconds = float(refused.headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < 86_400 else None


def _refusal(refused: Refused, what: str) -> ProviderError:
    """A 4xx that says no: nothing has happened."""
    reason = f"{what}: {_reason(refused)}"
    if refused.status in (401, 402):
        return Unauthorised(reason)
    if refused.status != 413 and no_room(reason):
        return TokenLimit(reason, retry_after=retry_after(refused))
    if refused.status == 403:
        return Unauthorised(reason)
    if refused.status == 429:
        return Retryable(reason, retry_after=retry_after(refused))
    return Rejected(reason)


def _is_open(status: int) -> bool:
    return status in _AMBIGUOUS_STATUSES or status >= 500 or status < 400


def _names_file(text: str, file_id: str) -> bool:
    """Whether a refusal is about the file, which a moment ago was there."""
    lowered = text.lower()
    return file_id.lower() in lowered or ("file" in lowered and ("not found" in lowered or "not exist" in lowered))


def _reason(refused: Refused) -> str:
    """The provider's own message; never what came with a 401, which may repeat the key."""
    if refused.status == 401:
        return "status 401, the key is not accepted"
    told = error_body(refused.text)
    return f"status {refused.status}: {(told.message if told else 'no reason given')[:_MAX_REASON]}"
