"""What a caller reads whose request ends without an answer: statuses, codes and sentences.

The statuses and codes of endings of ours stand in one table, `errors.ENDINGS`.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from gateway.config import Retries
from gateway.errors import ENDINGS, openai_error
from gateway.records import ErrorBody, RequestState, Result
from gateway.store.rows import Ending

#: Line statuses that say: this request, as it is, can only be refused again.
PERMANENT = frozenset({400, 404, 413, 422})
_CREDENTIALS = frozenset({401, 402, 403})


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """The way an answer came: by which provider, and in which batch; None: asked by itself."""

    provider: str
    batch: int | None = None


def failure(
    code: str,
    message: str,
    *,
    state: RequestState = RequestState.FAILED,
    param: str | None = None,
    permanent: bool = False,
    provider: str = "",
    batch: int | None = None,
) -> Ending:
    """An ending of ours, by its code in `errors.ENDINGS`."""
    rule = ENDINGS[code]
    return Ending(
        state=state,
        status=rule.status,
        code=code,
        body=openai_error(code, message, rule.type, param),
        permanent=permanent,
        provider=provider,
        batch=batch,
    )


def cancelled(provider: str = "", batch: int | None = None) -> Ending:
    """The ending of a request that was cancelled before it had an answer."""
    return failure(
        "cancelled",
        "The request was cancelled before it was answered.",
        state=RequestState.CANCELLED,
        provider=provider,
        batch=batch,
    )


def exhausted(trouble: str, result: Result | None, way: Way, retries: Retries) -> Ending:
    """The ending of a request whose attempts are used up, by what the last one ended in."""
    said = f" The provider said: {result.error.message}" if result is not None and result.error is not None else ""
    code = {"rate_limited": "rate_limit_exceeded", "expired": "expired", "timeout": "expired"}.get(
        trouble, "attempts_exhausted"
    )
    return failure(
        code,
        f"No answer in {retries.max_attempts} attempts; the last one: {trouble.replace('_', ' ')}.{said}",
        state=RequestState.EXPIRED if code == "expired" else RequestState.FAILED,
        provider=way.provider,
        batch=way.batch,
    )


def refused_line(result: Result, way: Way) -> Ending:
    """The ending of a request whose line the provider refused for good."""
    error = result.error or ErrorBody(message="The provider refused the request.", type="invalid_request_error")
    if result.status in PERMANENT:
        # Not every provider gives a type of OpenAI's, and plugins fill in this one before they look at the status.
        kind = "invalid_request_error" if error.type == "upstream_error" else error.type
        return Ending(
            state=RequestState.FAILED,
            status=result.status,
            code=error.code,
            body=openai_error(error.code, error.message, kind, error.param),
            permanent=True,
            provider=way.provider,
            batch=way.batch,
        )
    code = "provider_credentials" if result.status in _CREDENTIALS else "provider_refused"
    message = f"Provider {way.provider!r} answered {result.status}: {error.message}"
    return failure(code, message, param=error.param, provider=way.provider, batch=way.batch)


def rejected(reason: str, way: Way, param: str | None = None) -> Ending:
    """The ending of a request that the provider, or its plugin, did not take when it was sent."""
    return failure(
        "provider_rejected",
        f"Provider {way.provider!r} refused the request when it was submitted: {reason}",
        param=param,
        permanent=True,
        provider=way.provider,
        batch=way.batch,
    )


def unsatisfied(attempts: int, way: Way, cost_usd: float | None) -> Ending:
    """The ending of a request whose answers were paid, and did not satisfy the schema that it asks for."""
    ending = failure(
        "invalid_output",
        "No answer satisfied the schema that the request asks for (response_format), and the gateway is set to fail it then "
        f'(retries.invalid_output = "fail"); attempts: {attempts}.',
        param="response_format",
        provider=way.provider,
        batch=way.batch,
    )
    return replace(ending, cost_usd=cost_usd)
