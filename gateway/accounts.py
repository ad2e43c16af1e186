"""Whose key it is, and whether that account takes calls at the moment; every call of a plugin goes through here.

Floor 3. One `Account` for all providers that share an account; it lives in this process only: after a restart every
account is tried afresh, which costs one call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from gateway.clock import Clock
from gateway.config import Retries
from gateway.configured import ConfiguredProvider
from gateway.errors import PluginFault, ProviderError, Unauthorised
from gateway.logs import frames_of
from gateway.metrics import Metrics

#: A breaker never stays open longer than this.
LONGEST_BREAK_SECONDS = 300.0

T = TypeVar("T")


@dataclass(slots=True)
class Account:
    """One account's breaker for creates, and its stop when the key is refused. Times are monotonic."""

    clock: Clock
    first_break_seconds: float
    unauthorised_seconds: float
    #: A create is under way whose provider has no place for a marker.
    creating: bool = False
    failures: int = 0
    creates_from: float = 0.0
    calls_from: float = 0.0
    reason: str = ""
    #: The key was refused, and nothing has gone well since.
    key_refused: bool = False

    def may_create(self) -> bool:
        """Whether a create (and a seal) may be tried now."""
        return self.may_call() and self.clock.monotonic() >= self.creates_from

    def may_call(self) -> bool:
        """Whether anything may be asked with this account's key now."""
        return self.clock.monotonic() >= self.calls_from

    def seconds_left(self) -> float:
        """How long until a create may be tried."""
        return max(0.0, max(self.creates_from, self.calls_from) - self.clock.monotonic())

    def create_failed(self, reason: str, retry_after: float | None = None) -> float:
        """A create did not go through: stop creates, longer each time. Returns for how many seconds."""
        pause = min(LONGEST_BREAK_SECONDS, self.first_break_seconds * 2.0 ** min(self.failures, 10))
        pause = max(pause, retry_after or 0.0)
        self.failures += 1
        self.creates_from = self.clock.monotonic() + pause
        self.reason = reason
        return pause

    def works(self) -> None:
        """A create, a poll or a listing went well: everything may be tried."""
        self.failures = 0
        self.creates_from = self.calls_from = 0.0
        self.reason = ""
        self.key_refused = False

    def unauthorised(self, reason: str) -> float:
        """The key was refused: nothing is asked for a while. Returns for how many seconds."""
        self.calls_from = self.clock.monotonic() + self.unauthorised_seconds
        self.reason = f"unauthorised: {reason}"
        self.key_refused = True
        return self.unauthorised_seconds


@dataclass(slots=True)
class Accounts:
    """All accounts of this process; made on first use."""

    clock: Clock
    retries: Retries
    metrics: Metrics
    known: dict[str, Account] = field(default_factory=dict)

    def of(self, provider: ConfiguredProvider) -> Account:
        """The account a provider's key belongs to; a provider without one is an account of its own."""
        key = provider.account or f"provider:{provider.name}"
        if key not in self.known:
            self.known[key] = Account(
                clock=self.clock,
                first_break_seconds=self.retries.breaker_seconds,
                unauthorised_seconds=self.retries.unauthorised_seconds,
            )
        return self.known[key]

    def refused(self, providers: Iterable[ConfiguredProvider]) -> list[str]:
        """The names of those whose key was refused when it was last used: nothing is asked of them until it is tried again."""
        return [provider.name for provider in providers if self.of(provider).key_refused]

    async def call(
        self, provider: ConfiguredProvider, verb: str, work: Coroutine[object, object, T], at_most_seconds: float
    ) -> T:
        """What a plugin's coroutine returns, within a time.

        Raises the plugin's `ProviderError`; `TimeoutError` when the time is up; `PluginFault` for everything else, with the
        traceback logged under the plugin's name. A refused key stops the account.
        """
        try:
            async with asyncio.timeout(at_most_seconds):
                answer = await work
        except Unauthorised as error:
            seconds = self.of(provider).unauthorised(error.reason)
            structlog.get_logger().warning(
                "key_refused", provider=provider.name, verb=verb, reason=error.reason, seconds=seconds
            )
            raise
        except (ProviderError, TimeoutError):
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # The plugin's own, out of its libraries: it would end our step without a word, and the batch with it.
            raise self.fault(provider, verb, error) from error
        except Exception as error:
            raise self.fault(provider, verb, error) from error
        account = self.of(provider)
        if account.may_call():
            account.key_refused = False
        return answer

    def fault(self, provider: ConfiguredProvider, verb: str, error: BaseException) -> PluginFault:
        """Write down an exception that a plugin must not raise, under its name and without its words."""
        self.metrics.plugin_faults.of(provider.name).inc()
        structlog.get_logger().error(
            "plugin_fault",
            provider=provider.name,
            kind=provider.table.kind,
            verb=verb,
            raised=type(error).__name__,
            where=frames_of(error),
        )
        return PluginFault(f"plugin of kind {provider.table.kind!r} raised {type(error).__name__} in {verb}")
