"""What can go wrong, by class, and the one table of endings: which status and code a caller sees.

Floor 0: imports nothing of the gateway.

    BatchwayError
    |-- ConfigurationError       the start is refused; lists every mistake
    |-- LedgerError
    |   |-- LedgerLocked         another process owns the ledger
    |   |-- LedgerTooNew         written by a later version
    |   |-- StaleEpoch           somebody else has taken the batch over: drop it
    |   `-- StorageFull          the write did not happen; nothing was accepted
    |-- PluginFault              a plugin raised what it must not: a bug in it, its batch is parked
    |-- Refusal                  an answer to the caller: status, OpenAI error object, headers
    `-- ProviderError            what a plugin raises; the class decides what happens next
        |-- Unsupported          this request cannot be expressed: 400 at admission
        |-- Retryable            nothing happened; again later
        |-- Rejected             the provider refused the batch, or some lines of it
        |-- TokenLimit           no room for this many tokens now: smaller, later
        |-- Unauthorised         the key is not accepted: the account stops, or the lane whose create it is not good for
        |-- Missing              the provider does not know this batch
        `-- Ambiguous            it may or may not have happened: reconcile
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import orjson


class BatchwayError(Exception):
    """Root of everything the gateway raises on purpose."""


class ConfigurationError(BatchwayError):
    """The configuration cannot be used."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        """`mistakes` has one line each, in the order of the file."""
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes))


class LedgerError(BatchwayError):
    """The ledger cannot do what was asked; nothing was written."""


class LedgerLocked(LedgerError):
    """Another process works with this ledger."""


class LedgerTooNew(LedgerError):
    """The ledger was written by a later version of Batchway; this one does not touch it."""


class StaleEpoch(LedgerError):
    """The batch has been taken over or moved on since it was claimed; the writer must drop it."""


class StorageFull(LedgerError):
    """The disk has no room; the write did not happen."""


class ProviderError(BatchwayError):
    """Root of what a plugin raises."""

    def __init__(self, reason: str = "") -> None:
        """`reason` is shown to operators and, for refusals, to callers; it holds no key."""
        self.reason = reason
        super().__init__(reason)


class Unsupported(ProviderError):
    """This provider's batches cannot express the request; `field` is the dotted name of what is in the way."""

    def __init__(self, field: str, reason: str) -> None:
        """`field` names the offending field of the caller's body."""
        self.field = field
        super().__init__(reason)


class Retryable(ProviderError):
    """Nothing happened at the provider; the same call may be made again."""

    def __init__(self, reason: str = "", retry_after: float | None = None) -> None:
        """`retry_after` is the provider's own wish, in seconds."""
        self.retry_after = retry_after
        super().__init__(reason)


class Rejected(ProviderError):
    """The provider refused the batch for good. `lines` are the offending places (n), if it named them."""

    def __init__(self, reason: str, lines: Mapping[int, str] | Sequence[int] = ()) -> None:
        """`lines` counts from 0 in the order of the spool; a mapping gives each its own reason."""
        named = lines if isinstance(lines, Mapping) else dict.fromkeys(lines, reason)
        self.lines: Mapping[int, str] = MappingProxyType(dict(named))
        super().__init__(reason)


class TokenLimit(ProviderError):
    """The provider has no room for this many tokens at the moment."""

    def __init__(self, reason: str = "", retry_after: float | None = None) -> None:
        """`retry_after` is the provider's own wish, in seconds."""
        self.retry_after = retry_after
        super().__init__(reason)


class Unauthorised(ProviderError):
    """The provider does not accept the key (401), or not for this (403), or the account cannot pay (402)."""

    def __init__(self, reason: str = "", *, of_key: bool = True) -> None:
        """`of_key`: nothing can be asked with this key; False: it may be good for other calls, or other models."""
        self.of_key = of_key
        super().__init__(reason)


class Missing(ProviderError):
    """The provider says that there is no such batch or file."""


class Ambiguous(ProviderError):
    """The call may or may not have had its effect."""


class PluginFault(BatchwayError):
    """A plugin raised something outside its contract; the traceback is in the log under its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row of the table of endings."""

    status: int
    #: OpenAI's `error.type`.
    type: str
    #: What `x-should-retry` says; None: the header is absent.
    should_retry: bool | None
    #: For the documentation: when this happens.
    when: str
    #: Seconds for `Retry-After`; None: absent. Never over 60: clients ignore more.
    retry_after: int | None = None


_INVALID = "invalid_request_error"
_UPSTREAM = "upstream_error"

#: code -> what the caller sees. The one table; `docs/server-behavior.md` has it too and a test compares them.
ENDINGS: Mapping[str, Rule] = MappingProxyType(
    {
        "invalid_request": Rule(status=400, type=_INVALID, should_retry=False, when="the body cannot be used"),
        "unsupported_field": Rule(
            status=400, type=_INVALID, should_retry=False, when="the provider's batches cannot express a field"
        ),
        "too_many_tokens": Rule(
            status=400,
            type=_INVALID,
            should_retry=False,
            when="the request has more tokens than may ever wait at its provider",
        ),
        "provider_rejected": Rule(
            status=400, type=_INVALID, should_retry=False, when="the provider refused the request when it was submitted"
        ),
        "invalid_api_key": Rule(
            status=401, type="authentication_error", should_retry=False, when="bad or missing client key"
        ),
        "origin_not_allowed": Rule(
            status=403, type="permission_error", should_retry=False, when="a web page of a foreign origin"
        ),
        "model_not_found": Rule(status=404, type=_INVALID, should_retry=False, when="no route for the model"),
        "not_found": Rule(
            status=404, type=_INVALID, should_retry=False, when="no such path, or no such request of this client"
        ),
        "method_not_allowed": Rule(
            status=405, type=_INVALID, should_retry=False, when="the path exists, not with this method"
        ),
        "request_timeout": Rule(
            status=408, type="timeout_error", should_retry=None, when="headers or body came too slowly"
        ),
        "cancelled": Rule(status=410, type="cancelled", should_retry=False, when="the request was cancelled"),
        "body_too_large": Rule(
            status=413, type=_INVALID, should_retry=False, when="the body, or its line in a batch, is too large"
        ),
        "host_not_allowed": Rule(
            status=421, type="permission_error", should_retry=False, when="a Host header that is not ours"
        ),
        "name_taken": Rule(
            status=422, type=_INVALID, should_retry=False, when="the custom_id belongs to a request with another body"
        ),
        "provider_refused": Rule(
            status=422, type=_INVALID, should_retry=False, when="the provider refused the line with another 4xx"
        ),
        "rate_limit_exceeded": Rule(
            status=429, type="rate_limit_error", should_retry=False, when="all attempts ended in 429"
        ),
        "internal_error": Rule(status=500, type="server_error", should_retry=None, when="a bug in the gateway"),
        "provider_credentials": Rule(
            status=502, type=_UPSTREAM, should_retry=False, when="the provider answered the line with 401, 402 or 403"
        ),
        "invalid_output": Rule(
            status=502,
            type=_UPSTREAM,
            should_retry=False,
            when="no answer satisfied the schema of its own request",
        ),
        "provider_unavailable": Rule(
            status=502,
            type=_UPSTREAM,
            should_retry=False,
            when="provider disabled, its key missing, or its plugin gone",
        ),
        "attempts_exhausted": Rule(
            status=503, type=_UPSTREAM, should_retry=False, when="all attempts ended in 5xx or without an answer line"
        ),
        "too_many_waiters": Rule(
            status=503,
            type="overloaded_error",
            should_retry=None,
            retry_after=30,
            when="max_waiters callers wait already",
        ),
        "storage_full": Rule(
            status=503, type="overloaded_error", should_retry=None, retry_after=60, when="no disk space; not accepted"
        ),
        "storage_failed": Rule(
            status=503, type="server_error", should_retry=None, retry_after=10, when="the commit failed; not accepted"
        ),
        "stopping": Rule(
            status=503, type="overloaded_error", should_retry=None, retry_after=5, when="the gateway is shutting down"
        ),
        "expired": Rule(
            status=504,
            type="timeout_error",
            should_retry=False,
            when="all attempts expired, or given up at our deadline",
        ),
        "not_cached": Rule(
            status=504, type=_INVALID, should_retry=False, when="only-if-cached and there is no stored answer"
        ),
    }
)


class Refusal(BatchwayError):
    """An answer to the caller that is not a result: rendered by the middleware as OpenAI's error object."""

    def __init__(self, code: str, message: str, *, param: str | None = None, rule: Rule | None = None) -> None:
        """`code` is a key of `ENDINGS`, unless `rule` says what goes with it."""
        self.code = code
        self.message = message
        self.param = param
        self.rule = rule if rule is not None else ENDINGS[code]
        super().__init__(message)


def openai_error(code: str | None, message: str, type: str, param: str | None = None) -> bytes:  # noqa: A002 - OpenAI's word
    """OpenAI's error object as JSON."""
    return orjson.dumps({"error": {"message": message, "type": type, "param": param, "code": code}})
